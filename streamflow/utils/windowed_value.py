"""Apache Beam's module of this name."""

from streamflow.model.panes import PANE_UNKNOWN, PaneInfo, PaneInfoTiming
from streamflow.transforms.outputs import WindowedValue

__all__ = ["PANE_INFO_UNKNOWN", "PaneInfo", "PaneInfoTiming", "WindowedValue"]

PANE_INFO_UNKNOWN = PANE_UNKNOWN
"""Of elements that come from no grouping."""
