"""Apache Beam's module of this name."""

from streamflow.transforms.sources import OffsetRangeTracker

__all__ = ["OffsetRangeTracker"]
