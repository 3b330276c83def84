"""PTransform, and the decorator that makes one of a function."""

import functools
from collections.abc import Callable
from typing import Any

from streamflow.model.graph import PTransform
from streamflow.model.type_hints import IOTypeHints, hints_of

__all__ = ["PTransform", "ptransform_fn"]


class _FunctionTransform(PTransform):
    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs

    def default_type_hints(self) -> IOTypeHints:
        """What the decorators of the function say, and its annotations of PCollections."""
        annotated = IOTypeHints.from_callable(self.fn)
        return hints_of(self.fn).with_defaults(annotated and annotated.strip_pcoll())

    def default_label(self) -> str:
        return self.label or self.fn.__name__

    def expand(self, pcoll: Any) -> Any:
        return self.fn(pcoll, *self.args, **self.kwargs)


def ptransform_fn(fn: Callable[..., Any]) -> Callable[..., PTransform]:
    """A function from PCollection to PCollection as a transform: `fn(pcoll, size)` is applied as `| fn(size)`."""

    @functools.wraps(fn)
    def apply(*args: Any, **kwargs: Any) -> PTransform:
        transform = _FunctionTransform(fn, args, kwargs)
        transform._type_hints = hints_of(apply)
        return transform

    return apply
