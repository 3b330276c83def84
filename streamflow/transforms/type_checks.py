"""What of types concerns functions alone: their further arguments, and several outputs."""

import typing
from typing import TYPE_CHECKING, Any

from streamflow.base.errors import TypeCheckError
from streamflow.model.type_hints import IOTypeHints, by_parameter, get_signature
from streamflow.model.types import Bindings, fits, members_of, shown, type_of, union_of
from streamflow.transforms.outputs import TaggedOutput
from streamflow.transforms.sides import AsSideInput

if TYPE_CHECKING:
    from streamflow.transforms.elementwise import ParDo


def by_tag(hints: IOTypeHints) -> IOTypeHints:
    """The types of tagged outputs apart from those of the main one: of `int | TaggedOutput[Literal["odd"], str]` it
    gives `int`, and `str` for "odd"."""
    if hints.output_types is None or not hints.output_types[0]:
        return hints
    (said, *_), names = hints.output_types
    tagged = [each for each in members_of(said) if (typing.get_origin(each) or each) is TaggedOutput]
    if not tagged:
        return hints
    main = [each for each in members_of(said) if each not in tagged]
    pairs = [typing.get_args(each) for each in tagged]
    literals = {tag: kind for literal, kind in (pair for pair in pairs if pair) for tag in typing.get_args(literal)}
    return hints.with_output_types(*([union_of(main)] if main else []), **{**literals, **names})


def check_arguments(transform: "ParDo", element: Any, bindings: Bindings) -> None:
    """TypeCheckError if the function says of which types its arguments are, and gets others, too many, or too few."""
    hints = transform.get_type_hints().input_types
    if hints is None:
        return
    signature = get_signature(transform.function)
    places = (element, *map(_type_of_argument, transform.args))
    names = {name: _type_of_argument(value) for name, value in transform.kwargs.items()}
    try:
        wanted = by_parameter(signature, hints)
        given = by_parameter(signature, (places, names), all_needed=True)
    except TypeError as error:
        raise TypeCheckError(f"{transform.default_label()!r} can't be called so: {error}.") from None
    for name, one in given.items():
        if name in wanted and not fits(_whole(one), _whole(wanted[name]), bindings):
            raise TypeCheckError(
                f"Type hint violation: {transform.default_label()!r} requires {shown(_whole(wanted[name]))} but got "
                f"{shown(_whole(one))} for {name!r}. It is applied to elements of type {shown(element)}."
            )


def _type_of_argument(value: Any) -> Any:
    return value.element_type if isinstance(value, AsSideInput) else type_of(value)


def _whole(hints: Any) -> Any:
    """One type of what stands for several arguments."""
    if isinstance(hints, tuple):
        return union_of(hints)
    return union_of(hints.values()) if isinstance(hints, dict) else hints
