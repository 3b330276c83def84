"""Apache Beam's module of this name: an option whose value is asked for by `get()`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["NestedValueProvider", "RuntimeValueProvider", "StaticValueProvider", "ValueProvider"]


class ValueProvider:
    """What `get()` gives a value. All values are known when a pipeline is built: here no pipeline is a template."""

    def is_accessible(self) -> bool:
        return True

    def get(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define get().")


class StaticValueProvider(ValueProvider):
    """A value, converted by `value_type`."""

    def __init__(self, value_type: Callable[[Any], Any], value: Any) -> None:
        self.value_type, self.value = value_type, value_type(value)

    def get(self) -> Any:
        return self.value

    def __str__(self) -> str:
        return str(self.value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StaticValueProvider):
            return bool(self.value == other.value and self.value_type == other.value_type)
        return bool(self.value == other)

    __hash__ = None  # type: ignore[assignment] # it is equal to values of any type


@dataclass(frozen=True)
class RuntimeValueProvider(ValueProvider):
    """An option that was not given: its default."""

    option_name: str
    value_type: Callable[[Any], Any]
    default_value: Any

    def get(self) -> Any:
        return self.default_value

    def __str__(self) -> str:
        return f"RuntimeValueProvider({self.option_name}, default {self.default_value!r})"


class NestedValueProvider(ValueProvider):
    """What `translator` makes of another one's value."""

    def __init__(self, value: ValueProvider, translator: Callable[[Any], Any]) -> None:
        self.value, self.translator = value, translator

    def is_accessible(self) -> bool:
        return self.value.is_accessible()

    def get(self) -> Any:
        return self.translator(self.value.get())
