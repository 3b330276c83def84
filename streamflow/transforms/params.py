"""How a function asks the engine for something: by the default value of a parameter."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from streamflow.base.errors import PipelineError


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


ELEMENT = Param("ElementParam")
SIDE_INPUT = Param("SideInputParam")
"""The place of a positional argument behind what is asked for."""


def params_of(fn: Callable[..., Any]) -> dict[str, Param]:
    """What the function asks for besides the element in the first place, by the name of its parameter."""
    return {
        parameter.name: parameter.default
        for place, parameter in enumerate(_parameters(fn))
        if isinstance(parameter.default, Param)
        and parameter.default is not SIDE_INPUT
        and not (parameter.default is ELEMENT and place == 0)
    }


def named_arguments(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments behind the element for a function in which some of their places are taken by what it asks for: those
    given by place are given by name then. PipelineError if there are too many."""
    asked = params_of(fn)
    places = [each.name for each in _parameters(fn)[1:] if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if asked.keys().isdisjoint(places[: len(args)]):
        return tuple(args), dict(kwargs)
    free = [name for name in places if name not in asked]
    if len(free) < len(args):
        raise PipelineError(
            f"{len(args)} arguments besides the element were given, but there is place for {len(free)}."
        )
    return (), {**dict(zip(free, args, strict=False)), **kwargs}


def free_places(fn: Callable[..., Any]) -> list[str] | None:
    """The parameters that arguments can be given by place, if others among them are asked for; else None."""
    asked = params_of(fn)
    places = [each.name for each in _parameters(fn) if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return None if asked.keys().isdisjoint(places) else [name for name in places if name not in asked]


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return []
