"""The check of types that a pipeline gets when it is built: what is known of a transform's inputs and results against
what is said of them (`type_hints`). TypeCheckError names both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamflow.base.errors import TypeCheckError
from streamflow.model.type_hints import Hints
from streamflow.model.types import Bindings, bound, fits, shown


@dataclass(frozen=True)
class TypeChecks:
    """What of types is checked: when a pipeline is built, what each element is while it runs, and whether every
    transform must say what it gives."""

    at_build: bool = True
    at_run: bool = False
    all_required: bool = False


class Typed:
    """What consists of elements of a type, as far as that is known."""

    element_type: Any


def check_inputs(transform: Any, left: Any, bindings: Bindings) -> None:
    """TypeCheckError if the PCollections left of a transform have other elements than it wants."""
    hints = transform.get_type_hints().input_types
    for pcoll, wanted in _paired(left, hints):
        if not fits(pcoll.element_type, wanted, bindings):
            raise TypeCheckError(
                f"Type hint violation: {transform.default_label()!r} requires {shown(wanted)} but, applied to "
                f"{pcoll!r}, got {shown(pcoll.element_type)}. Map the elements before, or correct the "
                "types."
            )


def check_result(transform: Any, result: Any, inputs: Sequence[Any], bindings: Bindings, checks: TypeChecks) -> None:
    """TypeCheckError if a transform gives other elements than it says; what it says is known of them from here on."""
    hints = transform.get_type_hints().output_types
    if hints is None and checks.all_required:
        raise TypeCheckError(
            f"{transform.default_label()!r} does not say what it gives, which type_check_strictness='ALL_REQUIRED' "
            "demands. Use with_output_types."
        )
    for pcoll, said in _paired(result, hints):
        wanted = bound(said, bindings)
        if checks.at_build and not fits(pcoll.element_type, wanted):
            raise TypeCheckError(
                f"Type hint violation: {transform.default_label()!r} says that it gives {shown(wanted)} but got "
                f"{shown(pcoll.element_type)} from {pcoll!r}. Correct its with_output_types."
            )
        if wanted is not Any and not any(pcoll is each for each in inputs):
            pcoll.element_type = wanted


def _paired(pcolls: Any, hints: Hints | None) -> Iterator[tuple[Any, Any]]:
    """PCollections with their types: by name, by place, or one for all."""
    places, names = hints or ((), {})
    if isinstance(pcolls, Mapping) and names:
        yield from ((pcoll, names[name]) for name, pcoll in pcolls.items() if name in names)
    elif isinstance(pcolls, (Mapping, list, tuple)):
        several = list(pcolls.values()) if isinstance(pcolls, Mapping) else list(pcolls)
        wanted = list(places) if len(places) == len(several) else list(places[:1]) * len(several)
        yield from (pair for pair in zip(several, wanted, strict=False) if isinstance(pair[0], Typed))
    elif isinstance(pcolls, Typed) and places:
        yield pcolls, places[0]
