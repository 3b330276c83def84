"""The native decoder of JSON lines, where it is installed: reading a topic of JSON is mostly decoding, and it is
several times as fast from documents to columns without a Python object for each value.

It takes a record only if all of it is plainly fine (`kernel/README.md` says what that is), and then equals the decoder
of `source`; the rest is left to that one, which alone decides what is bad. So all works without it, only slower.
"""

from collections.abc import Sequence

import polars as pl

from streamflow.model.schema import Schema
from streamflow.topics import codec
from streamflow.topics.protocol import Record

try:
    # Not a dependency, for it is published nowhere: `make setup` builds it from `kernel/` where there is Rust.
    import streamflow_kernel  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    streamflow_kernel = None  # type: ignore[assignment, unused-ignore]


class PlainDecoder:
    """Decodes the records that are plainly fine."""

    def __init__(self, schema: Schema) -> None:
        self._names = schema.names
        self._decoder = streamflow_kernel.Decoder(
            [(field.name, str(field.dtype), field.required, field.nullable) for field in schema.fields]
        )

    def decode(self, records: Sequence[Record]) -> tuple[list[pl.Series], list[bool]]:
        """The columns of all records that it takes, in one; and for each record whether it was taken."""
        lines = [(codec.json_lines(record) or b"", record.count) for record in records]
        columns, taken = self._decoder.decode(lines)
        return [pl.Series(column).alias(name) for name, column in zip(self._names, columns, strict=True)], taken


def plain_decoder(schema: Schema) -> PlainDecoder | None:
    """None if the kernel is not installed, or knows not all the types or not so many fields."""
    if streamflow_kernel is None or not 0 < len(schema.fields) <= streamflow_kernel.FIELDS_MAX:
        return None
    known = all(str(field.dtype) in streamflow_kernel.KINDS for field in schema.fields)
    return PlainDecoder(schema) if known else None
