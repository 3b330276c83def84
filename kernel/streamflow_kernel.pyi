from collections.abc import Sequence
from typing import final

KINDS: Sequence[str]
"""Of columns, as Polars names them."""
FIELDS_MAX: int
"""Of one decoder."""

@final
class Column:
    """A column for whoever takes Arrow's PyCapsule interface, such as `polars.Series`. It has no name."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

@final
class Decoder:
    """For objects with the fields (name, kind, required, nullable). ValueError: an unknown kind, too many fields."""

    def __new__(cls, fields: Sequence[tuple[str, str, bool, bool]]) -> Decoder: ...
    def decode(self, records: Sequence[tuple[bytes | memoryview, int]]) -> tuple[list[Column], list[bool]]:
        """The columns of all records that are plainly fine, and for each record whether it is. A record is its lines,
        each ended by a newline, and how many they are. BufferError: bytes that could be written to."""
