"""Sources and sinks under the names that Apache Beam users import them by: `from streamflow.io import ReadFromText`."""

from streamflow.io import fileio, textio
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

__all__ = [
    "Backfill",
    "CompressionTypes",
    "ReadAllFromText",
    "ReadFromCsv",
    "ReadFromJson",
    "ReadFromParquet",
    "ReadFromText",
    "ReadFromTopic",
    "WriteToCsv",
    "WriteToJson",
    "WriteToParquet",
    "WriteToRows",
    "WriteToTable",
    "WriteToText",
    "WriteToTopic",
    "fileio",
    "textio",
]
