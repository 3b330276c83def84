"""From --data and the names on a command line to what is there; errors say what to type instead."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streamflow.base.errors import ConflictError, NotFoundError
from streamflow.runtime.hints import command, sentence
from streamflow.runtime.processes import is_alive
from streamflow.topics import open_log, rules, topics_at
from streamflow.topics.protocol import Log, Snapshot, TopicInfo, TopicLog, WorkerInfo
from streamflow.topics.subscriptions.store import SubscriptionStore

if TYPE_CHECKING:
    from streamflow.topics.client.sync import SyncClient

_KAFKA = "kafka://"
RUN_FIRST = "Give the folder that `streamflow run --data` was given."


def data_folder(data: Path, hint: str = RUN_FIRST) -> Path:
    """`data` if it holds StreamFlow's data; NotFoundError with the hint if not."""
    if data.exists() and not data.is_dir():
        raise NotFoundError(f"'{data}' is a file, not a folder. Name the folder of your data.")
    if not (data / "streamflow.db").is_file():
        what = "holds no StreamFlow data" if data.is_dir() else "holds no StreamFlow data: there is no such folder"
        raise NotFoundError(f"'{data}' {what}. {hint}")
    return data


def stores_in(data: Path, folder_of: Callable[[Path], Path]) -> Path:
    """Where its tables, or its row stores, are. They are all there is where a run had its log in memory."""
    there = folder_of(data)
    return there if there.is_dir() else folder_of(data_folder(data))


@contextmanager
def opened(data: Path, hint: str = RUN_FIRST) -> Iterator[Log]:
    """The log of a folder that is there already."""
    log = open_log(data_folder(data, hint))
    try:
        yield log
    finally:
        log.close()


@contextmanager
def opened_topics(data: str, hint: str, *, new: bool = False) -> Iterator[TopicLog]:
    """The topics of a folder that is there already, or may be `new`, or of a Kafka."""
    log = topics_at(place(data, hint, new=new))
    try:
        yield log
    finally:
        log.close()


@contextmanager
def opened_client(data: str, hint: str) -> Iterator["SyncClient"]:
    """A client of the same."""
    there = place(data, hint)
    # Here, not above: a worker, which is started by this command too, would load asyncio with it.
    from streamflow.topics.client.sync import connect_sync

    with connect_sync(there) as client:
        yield client


def place(data: str, hint: str, *, new: bool = False) -> str | Path:
    """What --data names, as `connect` takes it."""
    if data.startswith(_KAFKA):
        return data
    if data.startswith("memory:"):
        raise NotFoundError(f"'{data}' lives and ends with one process. Give a folder, or the address of a Kafka.")
    return Path(data) if new else data_folder(Path(data), hint)


def shown_data(data: str) -> str:
    """What --data was, fit to be printed: of an address no credentials and no options."""
    return f"{_KAFKA}{urlsplit(data).netloc.rpartition('@')[2]}" if data.startswith(_KAFKA) else data


def create_hint(topic: str, data: str) -> str:
    return f"Create a topic in it: {command(f'topic create {topic}', shown_data(data))}."


def subscriptions_in(log: TopicLog) -> SubscriptionStore | None:
    """None where a log has topics alone."""
    return getattr(log, "subscriptions", None)


def known_pipeline(log: Log, name: str) -> str:
    """NotFoundError if no pipeline of that name has run here."""
    names = log.pipelines()
    if name not in names:
        there = f"There are: {', '.join(names)}." if names else "None has run in this folder yet."
        raise NotFoundError(f"no pipeline '{name}' here. {there}")
    return name


def known_topic(log: TopicLog, name: str) -> TopicInfo:
    """NotFoundError with the closest of the topics that are the user's own."""
    infos = {info.name: info for info in log.topics()}
    if name not in infos:
        visible = [info.name for info in infos.values() if not info.config.internal]
        raise NotFoundError(sentence(rules.unknown("topic", name, visible)))
    return infos[name]


def own_topic(log: TopicLog, name: str) -> TopicInfo:
    """The same for a topic that is to be written to; ConflictError if it is a pipeline's internal one."""
    info = known_topic(log, name)
    if info.config.internal:
        raise ConflictError(f"topic '{name}' is internal: only its pipeline writes to it. Name a topic of your own.")
    return info


def live_workers(snapshot: Snapshot) -> list[WorkerInfo]:
    """Workers whose process is there; one that was killed stays a member until somebody notices."""
    return [worker for worker in snapshot.workers.values() if is_alive(worker)]
