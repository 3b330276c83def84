"""Apache Beam's module of this name."""

from streamflow.model.panes import PaneInfo, PaneInfoTiming
from streamflow.transforms.outputs import WindowedValue

__all__ = ["PaneInfo", "PaneInfoTiming", "WindowedValue"]
