"""Which coder belongs to which type: `registry.register_coder(Player, PlayerCoder)`.

It is the process's, as the module that registers is: a worker process knows what is registered where the pipeline's
module is imported.
"""

import types
import typing
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.coders import (
    BooleanCoder,
    BytesCoder,
    Coder,
    FastPrimitivesCoder,
    FloatCoder,
    IterableCoder,
    ListCoder,
    MapCoder,
    NullableCoder,
    StrUtf8Coder,
    TimestampCoder,
    TupleCoder,
    TupleSequenceCoder,
    VarIntCoder,
)
from streamflow.model.time import Timestamp


class CoderRegistry:
    """`own`: coders by type that users have registered."""

    def __init__(self) -> None:
        self.own: dict[type, Coder] = {}
        self._coders: dict[Any, type[Coder]] = {
            bool: BooleanCoder,
            bytes: BytesCoder,
            dict: MapCoder,
            float: FloatCoder,
            int: VarIntCoder,
            list: ListCoder,
            str: StrUtf8Coder,
            Timestamp: TimestampCoder,
        }

    def register_coder(self, typehint_type: type, typehint_coder_class: type[Coder]) -> None:
        """Objects of that class are coded so where they are keys. PipelineError (a TypeError) if it is no class of
        coders."""
        if not isinstance(typehint_coder_class, type):
            raise PipelineError(f"register_coder takes a class of coders, not {typehint_coder_class!r}.")
        self._coders[typehint_type] = typehint_coder_class
        self.own[typehint_type] = typehint_coder_class()

    def get_coder(self, typehint: Any) -> Coder:
        """For a class, or a type such as `tuple[str, int]` or `Optional[int]`; one for anything if there is no
        other."""
        origin, args = typing.get_origin(typehint), typing.get_args(typehint)
        if origin in (typing.Union, types.UnionType):
            nullable = len(args) == 2 and type(None) in args
            return NullableCoder.from_type_hint(typehint, self) if nullable else FastPrimitivesCoder()
        if origin is tuple:
            several = len(args) == 2 and args[1] is Ellipsis
            return (TupleSequenceCoder if several else TupleCoder).from_type_hint(typehint, self)
        if origin is not None and origin is not dict:
            is_list = origin is list
            known = len(args) == 1 and (is_list or hasattr(origin, "__iter__"))
            return (ListCoder if is_list else IterableCoder).from_type_hint(typehint, self) if known else _ANY
        if origin is dict:
            return MapCoder.from_type_hint(typehint, self)
        coder = self._coders.get(typehint) if isinstance(typehint, type) else None
        return _ANY if coder is None else coder()


_ANY = FastPrimitivesCoder()

registry = CoderRegistry()
