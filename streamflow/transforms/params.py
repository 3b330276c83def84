"""How a function asks the engine for something: by the default value of a parameter."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any


class Param:
    """Such a default value: `def process(self, element, time=DoFn.TimestampParam)`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"DoFn.{self.name}"


class ContextParam(Param):
    """What a context manager gives that is entered for the function, which needs no methods of a DoFn for it."""

    def __init__(
        self,
        context_manager_constructor: Callable[..., AbstractContextManager[Any]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """`args`, `kwargs`: what it is constructed with."""
        super().__init__(f"{type(self).__name__}({name or getattr(context_manager_constructor, '__name__', '')})")
        self._make, self._args, self._kwargs = context_manager_constructor, args, kwargs or {}

    def manager(self) -> AbstractContextManager[Any]:
        return self._make(*self._args, **self._kwargs)


class BundleContextParam(ContextParam):
    """`DoFn.BundleContextParam(manager)`: entered around each batch, as `start_bundle` and `finish_bundle` are."""


class SetupContextParam(ContextParam):
    """`DoFn.SetupContextParam(manager)`: entered as `setup` is called, left as `teardown` is."""


def params_of(fn: Callable[..., Any]) -> dict[str, Param]:
    """What the function asks for, by the name of its parameter."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return {}
    return {name: p.default for name, p in signature.parameters.items() if isinstance(p.default, Param)}
