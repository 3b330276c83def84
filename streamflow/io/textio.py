"""Apache Beam's module of this name: lines of text files."""

from streamflow.transforms.files import ReadFromCsv, ReadFromJson, ReadFromText, WriteToCsv, WriteToJson, WriteToText
from streamflow.transforms.matching import ReadAllFromText

__all__ = [
    "ReadAllFromText",
    "ReadFromCsv",
    "ReadFromJson",
    "ReadFromText",
    "WriteToCsv",
    "WriteToJson",
    "WriteToText",
]
