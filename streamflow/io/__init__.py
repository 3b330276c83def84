"""Sources and sinks under the names that Apache Beam users import them by: `from streamflow.io import ReadFromText`."""

from streamflow.io import fileio, iobase, parquetio, range_trackers, textio
from streamflow.transforms.files import (
    Backfill,
    CompressionTypes,
    ReadFromCsv,
    ReadFromJson,
    ReadFromParquet,
    ReadFromText,
    WriteToCsv,
    WriteToJson,
    WriteToParquet,
    WriteToText,
)
from streamflow.transforms.io import ReadFromTopic, WriteToRows, WriteToTable, WriteToTopic
from streamflow.transforms.matching import ReadAllFromText
from streamflow.transforms.sinks import Sink, Write
from streamflow.transforms.sources import BoundedSource, OffsetRangeTracker, Read

__all__ = [
    "Backfill",
    "BoundedSource",
    "CompressionTypes",
    "OffsetRangeTracker",
    "Read",
    "ReadAllFromText",
    "ReadFromCsv",
    "ReadFromJson",
    "ReadFromParquet",
    "ReadFromText",
    "ReadFromTopic",
    "Sink",
    "Write",
    "WriteToCsv",
    "WriteToJson",
    "WriteToParquet",
    "WriteToRows",
    "WriteToTable",
    "WriteToText",
    "WriteToTopic",
    "fileio",
    "iobase",
    "parquetio",
    "range_trackers",
    "textio",
]
