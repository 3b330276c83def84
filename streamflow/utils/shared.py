"""Apache Beam's module of this name."""

from streamflow.transforms.shared import Shared

__all__ = ["Shared"]
