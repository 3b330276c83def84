"""Files as sources and sinks, with Apache Beam's names: ReadFromText, ReadFromCsv, ReadFromJson, ReadFromParquet,
WriteToText, WriteToCsv, WriteToJson, WriteToParquet; and Backfill, which reads files before a topic. What they mean;
how they are read is the engine's business.

Paths are local, or URLs for fsspec (`s3://…`; the extra `streamflow[files]`, and fsspec's library for that scheme).
For sources they are patterns: `*`, `?`, `[…]`, and `**` for any folders. The files are listed when the pipeline is
launched first: later ones are not read, and one that is changed or removed before it is read stops the pipeline with an
error.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.coders import Coder, StrUtf8Coder
from streamflow.model.graph import Node, PCollection, Primitive, PTransform, Shape
from streamflow.model.schema import Schema, SchemaLike, schema_of
from streamflow.model.time import TimestampTypes, timestamp_us
from streamflow.model.window import TIME
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.transforms.collections import Flatten
from streamflow.transforms.elementwise import Map
from streamflow.transforms.io import ReadFromTopic, StoreSink, check_time_field

Format = Literal["text", "csv", "json", "parquet"]
LINE = "line"
"""The column that holds a line on its way to a text file."""


class CompressionTypes:
    """How files are compressed; AUTO tells it by the suffix: `.gz`, `.zst`, `.bz2`."""

    AUTO: Literal["auto"] = "auto"
    UNCOMPRESSED: Literal["uncompressed"] = "uncompressed"
    GZIP: Literal["gzip"] = "gzip"
    ZSTD: Literal["zstd"] = "zstd"
    BZIP2: Literal["bzip2"] = "bzip2"


Compression = Literal["auto", "uncompressed", "gzip", "zstd", "bzip2"]
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Where an object is there as a whole or not at all: what a sink needs in place of a rename."""
_COMPRESSIONS = ("auto", "uncompressed", "gzip", "zstd", "bzip2")


class ReadFromFiles(Primitive):
    """What the file sources share. Bounded: their watermark is at its beginning until all of the files are read, then
    at its end. Events without `event_time` have the earliest time there is, as values of Create have."""

    arity = 0
    format: Format
    with_attributes = False
    skip_header_lines = 0
    splittable = True

    def __init__(
        self,
        file_pattern: str | Path,
        schema: SchemaLike | None = None,
        event_time: str | None = None,
        compression_type: Compression = CompressionTypes.AUTO,
    ) -> None:
        self.pattern, self.compression = str(file_pattern), compression_type
        self.schema: Schema | None = None if schema is None else schema_of(schema)
        self.event_time = event_time
        _check_compression(compression_type)
        if self.schema and event_time is not None:
            check_time_field("event_time", event_time, self.schema)

    def default_label(self) -> str:
        return self.label or f"{type(self).__name__}-{self.pattern.rsplit('/', 1)[-1]}"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return Shape(columns=self.schema.polars() if self.schema else None)

    @property
    def meaning(self) -> str:
        """What must stay the same for a stored position to make sense."""
        return f"{self.format}|{self.pattern}|{self.compression}|{self.skip_header_lines}|{self.splittable}"


class ReadFromText(ReadFromFiles):
    """Each line as a string, without its line end (`\\n` or `\\r\\n`), decoded as UTF-8; blank ones too. `coder`: what
    decodes a line instead. `min_bundle_size` and `validate` are Apache Beam's, and have no meaning here."""

    format = "text"

    def __init__(
        self,
        file_pattern: str | Path,
        *,
        compression_type: Compression = CompressionTypes.AUTO,
        strip_trailing_newlines: bool = True,
        skip_header_lines: int = 0,
        coder: Coder | None = None,
        min_bundle_size: int = 0,
        validate: bool = True,
    ) -> None:
        super().__init__(file_pattern, compression_type=compression_type)
        self.coder = None if coder is None or isinstance(coder, StrUtf8Coder) else coder
        self.primitive = self.coder is None
        self.strip_trailing_newlines, self.skip_header_lines = strip_trailing_newlines, skip_header_lines

    def expand(self, pcoll: Any) -> Any:
        lines = copy.copy(self)
        lines.coder, lines.primitive, lines.label = None, True, "Read"
        coder = self.coder
        assert coder is not None
        return pcoll | lines | "Decode" >> Map(lambda line: coder.decode(line.encode()))


class ReadFromJson(ReadFromFiles):
    """Newline-delimited JSON: a document a line; blank lines are skipped. `schema` and `event_time` as in
    ReadFromTopic."""

    format = "json"

    def __init__(
        self,
        path: str | Path,
        *,
        schema: SchemaLike | None = None,
        event_time: str | None = None,
        compression_type: Compression = CompressionTypes.AUTO,
    ) -> None:
        super().__init__(path, schema, event_time, compression_type)


class ReadFromCsv(ReadFromFiles):
    """Rows of CSV files, by the names in their first line, or in the order of the schema with `header=False`. Blank
    lines are skipped, an empty field is null.

    `schema` and `event_time` as in ReadFromTopic; times as ISO 8601, without zone they are UTC. Without a schema each
    field is text. `splittable=False`: fields may hold line ends; a file is then read by one task."""

    format = "csv"

    def __init__(
        self,
        path: str | Path,
        *,
        splittable: bool = True,
        schema: SchemaLike | None = None,
        event_time: str | None = None,
        sep: str = ",",
        header: bool = True,
        compression_type: Compression = CompressionTypes.AUTO,
    ) -> None:
        super().__init__(path, schema, event_time, compression_type)
        self.splittable, self.sep, self.header = splittable, sep, header
        self.skip_header_lines = 1 if header else 0
        if not header and self.schema is None:
            raise PipelineError("CSV without a header needs the names of its columns. Give a schema.")
        nested = (pl.List, pl.Struct)
        for name, dtype in self.schema.polars().items() if self.schema else ():
            if isinstance(dtype, nested):
                raise PipelineError(f"field '{name}' is {dtype}, which CSV can't hold. Read it as str.")


class ReadFromParquet(ReadFromFiles):
    """Rows of Parquet files. `schema`: the fields wanted; only these are read, and cast. `columns`: the same without
    types. A remote file is fetched whole to a temporary one."""

    format = "parquet"

    def __init__(
        self,
        file_pattern: str | Path,
        *,
        columns: Sequence[str] | None = None,
        schema: SchemaLike | None = None,
        event_time: str | None = None,
    ) -> None:
        super().__init__(file_pattern, schema, event_time, CompressionTypes.UNCOMPRESSED)
        if columns is not None and schema is not None:
            raise PipelineError("columns and schema both say what to read. Give one of them.")
        self.columns = self.schema.names if self.schema else None if columns is None else list(columns)


class WriteToFiles(StoreSink):
    """What the file sinks share: rows into files, exactly once, each named `<prefix>-<pipeline>.<sink>-<first
    offset>-<end offset><suffix>`. A file is there as a whole or not at all; another run with new input adds files.

    In an object store two pipelines of one name, on different logs, must not write to one prefix at the same time."""

    format: Format

    def __init__(
        self,
        file_path_prefix: str | Path,
        file_name_suffix: str,
        compression_type: Compression = CompressionTypes.AUTO,
        header: str | bool | None = True,
    ) -> None:
        self.prefix, self.suffix = str(file_path_prefix), file_name_suffix
        self.compression, self.header = compression_type, header
        _check_compression(compression_type)
        scheme, separator, _ = self.prefix.partition("://")
        if separator and scheme not in _OBJECT_STORES:
            raise PipelineError(
                f"'{self.prefix}' is neither a local path nor in an object store ({', '.join(_OBJECT_STORES)}). Write "
                "to one of these, and copy the files."
            )
        if "/" in self.suffix or self.prefix.endswith("/"):
            raise PipelineError(f"files can't be named '{self.prefix}…{self.suffix}'. Give a prefix of a file's name.")

    @property
    def newest_wins(self) -> bool:
        return False

    def check_panes(self, windowing: Windowing) -> None:
        late = windowing.assigned and windowing.allowed_lateness_us > 0
        if late and windowing.accumulation_mode is AccumulationMode.ACCUMULATING:
            raise PipelineError(
                "late panes would stand beside the panes they correct. Use AccumulationMode.DISCARDING, or "
                "WriteToTable(…, key=[…])."
            )

    def default_label(self) -> str:
        return self.label or f"Files-{self.prefix.rsplit('/', 1)[-1]}"

    def prepare(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.select(TIME, pl.exclude("^_.*$"))


class _WriteLines(WriteToFiles):
    format = "text"


class WriteToText(PTransform):
    """Each element as a line, as `str` gives it, or a `coder` of text. `header`: a first line for each file. How many
    files there are and what they are called is settled by exactly-once: `num_shards` and `shard_name_template` are
    Apache Beam's, and have no meaning here."""

    def __init__(
        self,
        file_path_prefix: str | Path,
        file_name_suffix: str = "",
        *,
        compression_type: Compression = CompressionTypes.AUTO,
        header: str | None = None,
        coder: Coder | None = None,
        num_shards: int = 0,
        shard_name_template: str | None = None,
        append_trailing_newlines: bool = True,
    ) -> None:
        if not append_trailing_newlines:
            raise PipelineError("WriteToText writes lines. Without line ends nobody could tell elements apart.")
        self.coder = coder
        self._write = _WriteLines(file_path_prefix, file_name_suffix, compression_type, header)

    def default_label(self) -> str:
        return self.label or self._write.default_label()

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | "Lines" >> Map(_as_line, self.coder) | "Write" >> self._write


class WriteToJson(WriteToFiles):
    """Each row, or dict, as a JSON document on a line of its own."""

    format = "json"

    def __init__(
        self,
        path: str | Path,
        *,
        file_name_suffix: str = ".ndjson",
        compression_type: Compression = CompressionTypes.AUTO,
    ) -> None:
        super().__init__(path, file_name_suffix, compression_type)


class WriteToCsv(WriteToFiles):
    """Rows as CSV, each file with the names of the columns as its first line unless `header` is False."""

    format = "csv"

    def __init__(
        self,
        path: str | Path,
        *,
        file_name_suffix: str = ".csv",
        header: bool = True,
        compression_type: Compression = CompressionTypes.AUTO,
    ) -> None:
        super().__init__(path, file_name_suffix, compression_type, header)


class WriteToParquet(WriteToFiles):
    """Rows as Parquet files, compressed with zstd."""

    format = "parquet"

    def __init__(self, file_path_prefix: str | Path, *, file_name_suffix: str = ".parquet") -> None:
        super().__init__(file_path_prefix, file_name_suffix, CompressionTypes.UNCOMPRESSED)


class Backfill(PTransform):
    """Files first, then the topic that goes on behind them, under one watermark: no window closes and no event of the
    topic is read before all of the files are.

    `from_offset`: the first offset of the topic that is read, for all partitions or by partition (0 where it is left
    out). `from_time`: events of the topic before this event time are left out, as the files have them."""

    def __init__(
        self,
        files: ReadFromFiles,
        then: ReadFromTopic,
        *,
        from_offset: int | Mapping[int, int] = 0,
        from_time: TimestampTypes | None = None,
    ) -> None:
        if not isinstance(files, ReadFromFiles) or not isinstance(then, ReadFromTopic):
            raise PipelineError("Backfill takes a file source and the topic behind it: Backfill(files, then=…).")
        lowest = min(from_offset.values(), default=0) if isinstance(from_offset, Mapping) else from_offset
        if lowest < 0:
            raise PipelineError(f"from_offset can't be negative, got {from_offset!r}.")
        self.files, self.then = files, copy.copy(then)
        self.then.from_offset = from_offset
        self.then.from_time_us = None if from_time is None else timestamp_us(from_time)

    def default_label(self) -> str:
        return self.label or f"Backfill-{self.then.topic}"

    def expand(self, pcoll: Any) -> Any:
        before = pcoll | self.files
        node: Node = before.producer
        self.then.behind = node
        return (before, pcoll | self.then) | Flatten()


def _as_line(element: Any, coder: Coder | None) -> dict[str, str]:
    return {LINE: str(element) if coder is None else coder.encode(element).decode()}


def _check_compression(compression: str) -> None:
    if compression not in _COMPRESSIONS:
        raise PipelineError(f"compression {compression!r} is not known. Use one of {', '.join(_COMPRESSIONS)}.")
