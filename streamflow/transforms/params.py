"""How a function asks the engine for something: by the default value of a parameter."""

import inspect
from collections.abc import Callable
from typing import Any


class Param:
    """Such a default value: `def process(self, element, time=DoFn.TimestampParam)`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"DoFn.{self.name}"


def params_of(fn: Callable[..., Any]) -> dict[str, Param]:
    """What the function asks for, by the name of its parameter."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return {}
    return {name: p.default for name, p in signature.parameters.items() if isinstance(p.default, Param)}
