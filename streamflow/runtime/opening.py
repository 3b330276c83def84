"""The log that a pipeline runs on: a folder, memory, or Kafka."""

from pathlib import Path
from typing import TYPE_CHECKING

from streamflow.base.clock import Clock
from streamflow.base.errors import NotFoundError
from streamflow.topics import open_log
from streamflow.topics.protocol import Log

if TYPE_CHECKING:
    from streamflow.runtime.cluster import ClusterLog


def open_pipelines(url: str | Path, *, clock: Clock | None = None, static_id: str | None = None) -> Log:
    """What `open_log` takes, or what `open_cluster` does."""
    if str(url).startswith("kafka:"):
        return open_cluster(str(url), clock=clock, static_id=static_id)
    return open_log(url, clock=clock)


def open_cluster(url: str, *, clock: Clock | None = None, static_id: str | None = None) -> "ClusterLog":
    """`kafka://host:port` (see `topics.kafka.connection.parse`). `static_id`: the name that a worker keeps in its group
    over restarts. NotFoundError if what it needs is not installed."""
    try:
        from streamflow.runtime.cluster import ClusterLog
    except ImportError as error:
        raise NotFoundError(f"'{url}' needs Faust: {error}. pip install 'streamflow[cluster]'") from error
    return ClusterLog(url, clock=clock, static_id=static_id)
