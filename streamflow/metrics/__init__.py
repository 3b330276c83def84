"""Apache Beam's package of this name: what users' functions count, and how it is asked for after a run."""

from streamflow.metrics.metric import Metrics, MetricsFilter

__all__ = ["Metrics", "MetricsFilter"]
