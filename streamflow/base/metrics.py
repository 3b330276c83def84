"""The one place where metric names are decided: what is exported, with which labels, and what it means.

Only the table; counting and exporting belong to the layers that do the work. Names follow Prometheus: a unit last,
`_total` on counters. The dashboard in `deploy/` is checked against this table.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

_PIPELINE = ("pipeline",)
_STAGE = ("pipeline", "stage")
_TOPIC = ("pipeline", "stage", "topic")


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. `name` is the exported one, with `_total` for a counter; a histogram adds `_bucket` and so on."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


EVENTS_IN = Metric("streamflow_events_in_total", "counter", _STAGE, "Events read and committed.")
EVENTS_OUT = Metric("streamflow_events_out_total", "counter", _STAGE, "Events written and committed.")
EVENTS_LATE = Metric(
    "streamflow_events_late_total", "counter", _STAGE, "Events that changed a window after its first result."
)
EVENTS_DROPPED = Metric("streamflow_events_dropped_total", "counter", _STAGE, "Events whose window was gone already.")
EVENTS_DEAD_LETTERED = Metric(
    "streamflow_events_dead_lettered_total", "counter", _STAGE, "Events that failed and went to the dead letters."
)
STATE_SPILLED_BYTES = Metric(
    "streamflow_state_spilled_bytes_total", "counter", _STAGE, "Window state that memory let go of: in the log only."
)
STATE_READ_BYTES = Metric(
    "streamflow_state_read_bytes_total", "counter", _STAGE, "Window state read back from the log, as written there."
)
STATE_KEYED_BYTES = Metric(
    "streamflow_state_keyed_bytes",
    "gauge",
    _STAGE,
    "Memory that keyed state takes, about: of triggers, DoFns with state, side inputs and joins by time.",
)
STEP_SECONDS = Metric(
    "streamflow_step_seconds",
    "histogram",
    _STAGE,
    "Seconds of one step up to its commit: read, compute, write to a store.",
)
COMMIT_SECONDS = Metric(
    "streamflow_commit_seconds", "histogram", _STAGE, "Seconds of the durable commit that a step was part of."
)
BACKLOG_EVENTS = Metric("streamflow_backlog_events", "gauge", _TOPIC, "Committed events not read yet.")
BACKLOG_BYTES = Metric("streamflow_backlog_bytes", "gauge", _TOPIC, "Bytes of the events not read yet.")
BACKLOG_OLDEST_AGE_SECONDS = Metric(
    "streamflow_backlog_oldest_age_seconds", "gauge", _TOPIC, "Seconds since the oldest unread event was published."
)
WATERMARK_LAG_SECONDS = Metric(
    "streamflow_watermark_lag_seconds", "gauge", _STAGE, "Wall time minus the stage's watermark, in seconds."
)
WORKERS = Metric("streamflow_workers", "gauge", _PIPELINE, "Workers alive.")
WORKERS_WANTED = Metric("streamflow_workers_wanted", "gauge", _PIPELINE, "Workers the autoscaler asks for.")
TASKS = Metric("streamflow_tasks", "gauge", (*_STAGE, "state"), "Tasks by state: owned, assigned, unassigned.")

METRICS: tuple[Metric, ...] = (
    EVENTS_IN,
    EVENTS_OUT,
    EVENTS_LATE,
    EVENTS_DROPPED,
    EVENTS_DEAD_LETTERED,
    STATE_SPILLED_BYTES,
    STATE_READ_BYTES,
    STATE_KEYED_BYTES,
    STEP_SECONDS,
    COMMIT_SECONDS,
    BACKLOG_EVENTS,
    BACKLOG_BYTES,
    BACKLOG_OLDEST_AGE_SECONDS,
    WATERMARK_LAG_SECONDS,
    WORKERS,
    WORKERS_WANTED,
    TASKS,
)
