"""The example in docs/testing.md runs."""

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.mark.parametrize("name", ["test_a_late_visit_corrects_its_minute", "test_visits_are_counted_whatever_happens"])
def test_example_holds(name: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    names[name]()
