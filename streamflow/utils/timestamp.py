"""Apache Beam's module of this name."""

from streamflow.model.time import (
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
    Duration,
    DurationTypes,
    Timestamp,
    TimestampTypes,
)

__all__ = ["MAX_TIMESTAMP", "MIN_TIMESTAMP", "Duration", "DurationTypes", "Timestamp", "TimestampTypes"]
