"""What functions and transforms say of types: by decorators, by `with_input_types` and `with_output_types`, and by
annotations. Which type fits which stands in `types`."""

import inspect
import types as python_types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

from streamflow.base.errors import PipelineError
from streamflow.model.types import item_of, normal

Hints = tuple[tuple[Any, ...], dict[str, Any]]
"""Types by place, and by name."""

_F = TypeVar("_F")
_MARK = "_type_hints"


class IOTypeHints(NamedTuple):
    """Types of what goes in (the element first, then further arguments), and of what comes out (by tag, where a
    transform has several outputs). None where nothing is said."""

    input_types: Hints | None = None
    output_types: Hints | None = None

    @classmethod
    def empty(cls) -> "IOTypeHints":
        return cls()

    @classmethod
    def from_callable(cls, fn: Callable[..., Any]) -> "IOTypeHints | None":
        """By the annotations of a function; a class gives its instances, and a method wants one."""
        if isinstance(fn, type):
            return cls(None, ((fn,), {}))
        if isinstance(fn, python_types.MethodDescriptorType):
            return cls(((fn.__objclass__,), {}))
        annotated = _annotations(fn)
        if not annotated:
            return None
        result = annotated.get("return", inspect.Parameter.empty)
        output: Hints | None = None if result is inspect.Parameter.empty else ((normal(result),), {})
        places: list[Any] = []
        names: dict[str, Any] = {}
        for parameter in get_signature(fn).parameters.values():
            hint = normal(annotated.get(parameter.name, Any))
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                places.append(hint)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                names[parameter.name] = hint
        return cls((tuple(places), names), output)

    def with_input_types(self, *args: Any, **kwargs: Any) -> "IOTypeHints":
        return self._replace(input_types=_said(args, kwargs))

    def with_output_types(self, *args: Any, **kwargs: Any) -> "IOTypeHints":
        return self._replace(output_types=_said(args, kwargs))

    def with_defaults(self, hints: "IOTypeHints | None") -> "IOTypeHints":
        """What they say where these say nothing."""
        if hints is None:
            return self
        return IOTypeHints(self.input_types or hints.input_types, self.output_types or hints.output_types)

    def strip_iterable(self, of: str = "its output") -> "IOTypeHints":
        """The type of the items of what comes out. TypeCheckError if that can't be iterated over."""
        if self.output_types is None or not self.output_types[0]:
            return self
        return self._replace(output_types=((item_of(self.output_types[0][0], of),), self.output_types[1]))

    def strip_pcoll(self) -> "IOTypeHints":
        """What is in the PCollections that `expand` takes and gives. What it is annotated with besides says nothing."""
        return IOTypeHints(_in_pcollection(self.input_types), _in_pcollection(self.output_types))

    def has_simple_output_type(self) -> bool:
        """Whether one type is said of what comes out, whatever of tagged outputs."""
        return self.output_types is not None and len(self.output_types[0]) == 1

    def simple_output_type(self, context: str = "") -> Any:
        return self.output_types[0][0] if self.output_types and self.has_simple_output_type() else None

    @property
    def element(self) -> Any:
        """Of what goes in: the element; None if nothing is said."""
        return self.input_types[0][0] if self.input_types and self.input_types[0] else None


class WithTypeHints:
    """What types can be said of. Its own word counts more than that of its class, which counts more than
    annotations."""

    _type_hints: IOTypeHints | None = None

    def default_type_hints(self) -> IOTypeHints | None:
        """By annotations; may be overridden."""
        return None

    def get_type_hints(self) -> IOTypeHints:
        """All that is said of it. TypeCheckError if that can't be."""
        return (self._type_hints or IOTypeHints()).with_defaults(self.default_type_hints())

    def with_input_types(self, *types: Any, **of_arguments: Any) -> Self:
        """Says what type the elements must have, and further arguments, as in Apache Beam: TypeCheckError where the
        transform is applied to others."""
        self._type_hints = (self._type_hints or IOTypeHints()).with_input_types(*types, **of_arguments)
        return self

    def with_output_types(self, *types: Any, **of_tags: Any) -> Self:
        """Says what type the results have, as in Apache Beam. What follows is checked against it."""
        self._type_hints = (self._type_hints or IOTypeHints()).with_output_types(*types, **of_tags)
        return self


def with_input_types(*types: Any, **of_arguments: Any) -> Callable[[_F], _F]:
    """A decorator of functions, DoFns, CombineFns and transforms: the types of what they want."""
    return lambda decorated: _marked(decorated, hints_of(decorated).with_input_types(*types, **of_arguments))


def with_output_types(*types: Any, **of_tags: Any) -> Callable[[_F], _F]:
    """A decorator of the same: the type of what they give."""
    return lambda decorated: _marked(decorated, hints_of(decorated).with_output_types(*types, **of_tags))


def hints_of(decorated: Any) -> IOTypeHints:
    """What its decorators have said."""
    hints = getattr(decorated, _MARK, None)
    return hints if isinstance(hints, IOTypeHints) else IOTypeHints()


def get_type_hints(of: Any) -> IOTypeHints:
    """What is said of a function, or of an object that knows of types."""
    return of.get_type_hints() if isinstance(of, WithTypeHints) else hints_of(of)


def no_annotations(fn: _F) -> _F:
    """A decorator: the annotations of this function say nothing of elements."""
    fn._beam_no_annotations = True  # type: ignore[attr-defined] # any function takes attributes
    return fn


def get_signature(fn: Callable[..., Any]) -> inspect.Signature:
    """The parameters of a function; of what has no signature, any number."""
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        kinds = inspect.Parameter
        return inspect.Signature([kinds("args", kinds.VAR_POSITIONAL), kinds("kwargs", kinds.VAR_KEYWORD)])


def by_parameter(signature: inspect.Signature, hints: Hints, *, all_needed: bool = False) -> dict[str, Any]:
    """Types by the name of the parameter: those that take several have a tuple, or a dict. TypeError if there is no
    place for one, or, with `all_needed`, none for a parameter."""
    bind = signature.bind if all_needed else signature.bind_partial
    return bind(*hints[0], **hints[1]).arguments


def _marked(decorated: _F, hints: IOTypeHints) -> _F:
    try:
        setattr(decorated, _MARK, hints)
    except (AttributeError, TypeError):
        raise PipelineError(f"no types can be said of {decorated!r}. Say them where it is applied.") from None
    return decorated


def _said(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hints:
    for hint in (*args, *kwargs.values()):
        if not _is_type(hint):
            raise PipelineError(f"{hint!r} is no type. Say types, such as int or tuple[str, int].")
    return tuple(map(normal, args)), {name: normal(hint) for name, hint in kwargs.items()}


def _is_type(hint: Any) -> bool:
    if hint is None or isinstance(hint, (type, str, TypeVar, typing.NewType)) or typing.get_origin(hint) is not None:
        return True
    return getattr(hint, "__module__", None) in ("typing", "types", "typing_extensions")


def _annotations(fn: Any) -> dict[str, Any]:
    if getattr(fn, "_beam_no_annotations", False):
        return {}
    asked = fn if hasattr(fn, "__annotations__") else getattr(fn, "__call__", None)  # noqa: B004 - its annotations
    try:
        return typing.get_type_hints(asked)
    except Exception:  # names that are only known where it stands, such as classes of a function
        return dict(getattr(asked, "__annotations__", None) or {})


def _in_pcollection(hints: Hints | None) -> Hints | None:
    if hints is None or not hints[0]:
        return None
    origin, args = typing.get_origin(hints[0][0]), typing.get_args(hints[0][0])
    name = getattr(origin, "__name__", "")
    return ((args[0],), {}) if name == "PCollection" and args else None
