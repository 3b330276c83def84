"""The examples of docs/topics.md."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "topics.md"


def test_example_of_the_docs_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    [example] = DOCS.read_text().split("```python\n")[1:]
    names: dict[str, object] = {}
    exec(compile(example.split("```")[0], str(DOCS), "exec"), names)
    assert names["billed"] == ["order 0", "order 2"]
