"""Apache Beam's module of this name: files by patterns, and what is in them."""

from streamflow.transforms.matching import (
    EmptyMatchTreatment,
    FileMetadata,
    MatchAll,
    MatchFiles,
    ReadableFile,
    ReadMatches,
)

__all__ = ["EmptyMatchTreatment", "FileMetadata", "MatchAll", "MatchFiles", "ReadMatches", "ReadableFile"]
