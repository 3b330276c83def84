"""How a function asks the engine for something: by the default value of a parameter."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any


class Param:
    """Such a default value: `def process(self, element, time=DoFn.TimestampParam)`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"DoFn.{self.name}"


class ContextParam(Param):
    """What a context manager gives, which `make(*args, **kwargs)` makes. See the two kinds."""

    def __init__(self, make: Callable[..., AbstractContextManager[Any]], *args: Any, **kwargs: Any) -> None:
        super().__init__(type(self).__name__)
        self.make, self.args, self.kwargs = make, args, kwargs

    def opened(self) -> AbstractContextManager[Any]:
        return self.make(*self.args, **self.kwargs)


class SetupContextParam(ContextParam):
    """Entered when a worker takes the function up, left when it lets go: a connection, say."""


class BundleContextParam(ContextParam):
    """Entered before each batch, left after it."""


def params_of(fn: Callable[..., Any]) -> dict[str, Param]:
    """What the function asks for, by the name of its parameter."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return {}
    asked = {name: p.default for name, p in signature.parameters.items() if isinstance(p.default, Param)}
    first = next(iter(signature.parameters), "")
    if first in asked and asked[first].name == "ElementParam":
        del asked[first]  # it gets the element anyway
    return asked
