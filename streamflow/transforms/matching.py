"""Files that are found while a pipeline runs, by Apache Beam's names: MatchFiles, MatchAll, ReadMatches,
ReadAllFromText. Local files only. They are looked up when the step runs, and again when it is repeated after a crash:
they must not change meanwhile."""

import bz2
import glob
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from streamflow.base.errors import DataError
from streamflow.model.graph import PCollection, PTransform
from streamflow.transforms.collections import Create
from streamflow.transforms.elementwise import FlatMap, Map

__all__ = [
    "EmptyMatchTreatment",
    "FileMetadata",
    "MatchAll",
    "MatchFiles",
    "ReadAllFromText",
    "ReadMatches",
    "ReadableFile",
]


class EmptyMatchTreatment:
    """Whether a pattern without any file is a bad element: always, unless it has a wildcard, or never."""

    ALLOW = "ALLOW"
    DISALLOW = "DISALLOW"
    ALLOW_IF_WILDCARD = "ALLOW_IF_WILDCARD"


@dataclass(frozen=True, slots=True)
class FileMetadata:
    path: str
    size_in_bytes: int
    last_updated_in_seconds: float


@dataclass(frozen=True, slots=True)
class ReadableFile:
    """A file that can be read. Ones that end in `.gz` or `.bz2` are unpacked."""

    metadata: FileMetadata

    def open(self, mime_type: str = "text/plain", compression_type: str = "auto") -> IO[bytes]:
        path = self.metadata.path
        if compression_type == "gzip" or (compression_type == "auto" and path.endswith(".gz")):
            return cast(IO[bytes], gzip.open(path))
        if compression_type == "bzip2" or (compression_type == "auto" and path.endswith(".bz2")):
            return cast(IO[bytes], bz2.open(path))
        return open(path, "rb")

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()

    def read_utf8(self) -> str:
        return self.read().decode()


def matches(pattern: Any, empty: str = EmptyMatchTreatment.ALLOW_IF_WILDCARD) -> list[FileMetadata]:
    """The files of a pattern, by name. DataError if there are none and that is not allowed."""
    paths = sorted(path for path in glob.glob(str(pattern), recursive=True) if os.path.isfile(path))
    wild = any(sign in str(pattern) for sign in "*?[")
    if not paths and (empty == EmptyMatchTreatment.DISALLOW or (empty != EmptyMatchTreatment.ALLOW and not wild)):
        raise DataError(f"there is no file '{pattern}'.")
    return [FileMetadata(path, os.stat(path).st_size, os.stat(path).st_mtime) for path in paths]


class MatchAll(PTransform):
    """Patterns → the FileMetadata of their files."""

    def __init__(self, empty_match_treatment: str = EmptyMatchTreatment.ALLOW) -> None:
        self.empty = empty_match_treatment

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | FlatMap(matches, self.empty)


class MatchFiles(PTransform):
    """The FileMetadata of a pattern's files."""

    def __init__(self, file_pattern: Any, empty_match_treatment: str = EmptyMatchTreatment.ALLOW_IF_WILDCARD) -> None:
        self.pattern, self.empty = str(file_pattern), empty_match_treatment

    def expand(self, pcoll: Any) -> Any:
        return pcoll | Create([self.pattern]) | MatchAll(self.empty)


class ReadMatches(PTransform):
    """FileMetadata, or paths → ReadableFiles."""

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | FlatMap(_readable)


def _readable(file: FileMetadata | str) -> list[ReadableFile]:
    found = [file] if isinstance(file, FileMetadata) else matches(file)
    return [ReadableFile(metadata) for metadata in found]


class ReadAllFromText(PTransform):
    """Patterns → the lines of their files, without their line ends; with_filename: as (path, line)."""

    def __init__(self, *, skip_header_lines: int = 0, with_filename: bool = False) -> None:
        self.skip, self.with_filename = skip_header_lines, with_filename

    def expand(self, pcoll: PCollection) -> Any:
        lines = pcoll | "Match" >> FlatMap(matches) | "Read" >> FlatMap(self._lines)
        return lines if self.with_filename else lines | "Line" >> Map(lambda pair: pair[1])

    def _lines(self, metadata: FileMetadata) -> Iterator[tuple[str, str]]:
        with ReadableFile(metadata).open() as file:
            for place, line in enumerate(file):
                if place >= self.skip:
                    yield metadata.path, line.decode().removesuffix("\n").removesuffix("\r")
