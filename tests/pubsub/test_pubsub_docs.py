"""The example of docs/pubsub.md."""

from pathlib import Path

import pytest
from google_clients import Server

DOCS = Path(__file__).parents[2] / "docs" / "pubsub.md"


def test_example_of_the_docs_does_what_it_says(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    [example] = DOCS.read_text().split("```python\n")[1:]
    names: dict[str, object] = {}
    exec(compile(example.split("```")[0], str(DOCS), "exec"), names)
    assert names["billed"] == [b"order 1"]
    names["publisher"].stop()
    names["subscriber"].close()
