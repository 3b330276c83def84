"""Apache Beam's module of this name: sources and sinks of your own."""

from streamflow.transforms.sinks import Sink, Write, Writer
from streamflow.transforms.sources import BoundedSource, RangeTracker, Read, SourceBundle

__all__ = ["BoundedSource", "RangeTracker", "Read", "Sink", "SourceBundle", "Write", "Writer"]
