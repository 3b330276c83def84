"""Topics: the durable logs between all stages, their encoding, and the way in for publishers.

Here live the contract (`protocol.py`), what a payload looks like (`codec.py`), where keys go
(`partition.py`), the publisher, and one folder for each backend. Nothing here knows pipelines, operators or
tables: a task is an offset, an epoch and some opaque state.
"""

from pathlib import Path

from streamflow.base.clock import Clock
from streamflow.base.errors import NotFoundError, PipelineError
from streamflow.topics.embedded import EmbeddedLog
from streamflow.topics.memory import MemoryLog
from streamflow.topics.protocol import Log, SubscribedLog, TopicLog
from streamflow.topics.publisher import Publisher

__all__ = ["Log", "Publisher", "SubscribedLog", "TopicLog", "open_log", "topics_at"]


def open_log(url: str | Path, *, clock: Clock | None = None) -> Log:
    """A handle on the log at `url`; close it when done. `clock` decides publication times and retention.

    - a path, or `file:path`: the folder of an embedded log, made if it is not there
    - `memory://name`: shared within this process; `memory://`: a fresh private one

    NotFoundError for any other scheme; ConflictError for a folder that this version can't use; PipelineError for Kafka,
    whose topics `topics_at` gives.
    """
    if isinstance(url, Path):
        return EmbeddedLog(url, clock=clock)
    scheme, separator, rest = url.partition(":")
    if not separator or len(scheme) == 1 or "/" in scheme:
        return EmbeddedLog(Path(url), clock=clock)
    if scheme == "file":
        return EmbeddedLog(Path(rest.removeprefix("//")), clock=clock)
    if scheme == "memory":
        return MemoryLog(rest.removeprefix("//"), clock=clock)
    if scheme == "kafka":
        raise PipelineError(
            f"'{url}' is no log of this machine. Its topics are at `topics_at`, and pipelines run there with "
            "`streamflow worker … --on kafka://…`"
        )
    raise NotFoundError(
        f"log '{url}' has the unknown scheme '{scheme}'. Use a folder path, 'file:PATH' or 'memory://NAME'"
    )


def topics_at(url: str | Path, *, clock: Clock | None = None) -> SubscribedLog:
    """A handle on the topics and subscriptions at `url`: what `open_log` takes, or `kafka://host:port` (see
    `kafka.connection.parse`)."""
    if isinstance(url, str) and url.startswith("kafka:"):
        try:
            from streamflow.topics.kafka import KafkaLog
        except ImportError as error:
            raise NotFoundError(f"'{url}' needs aiokafka: {error}. pip install 'streamflow[kafka]'") from error
        return KafkaLog(url, clock=clock)
    return open_log(url, clock=clock)
