"""The log that a pipeline runs on: a folder, memory, or Kafka."""

from pathlib import Path

from streamflow.base.clock import Clock
from streamflow.base.errors import NotFoundError
from streamflow.topics import open_log
from streamflow.topics.protocol import Log


def open_pipelines(url: str | Path, *, clock: Clock | None = None, static_id: str | None = None) -> Log:
    """What `open_log` takes, or `kafka://host:port` (see `topics.kafka.connection.parse`). `static_id`: the name that a
    worker keeps in a group on Kafka, over restarts. NotFoundError if what that needs is not installed."""
    if not str(url).startswith("kafka:"):
        return open_log(url, clock=clock)
    try:
        from streamflow.runtime.cluster import ClusterLog
    except ImportError as error:
        raise NotFoundError(f"'{url}' needs Faust: {error}. pip install 'streamflow[cluster]'") from error
    return ClusterLog(str(url), clock=clock, static_id=static_id)
