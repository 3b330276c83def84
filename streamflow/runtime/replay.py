"""Dead letters back to the topics that their events come from: each event once, whatever is killed or repeated.

Beside the dead letters `X` lies a topic `X.replayed`. A batch of events is published in one transaction with a note of
which they are, under the sequence of the producer `replay`. So an event is back if and only if its note is there:

killed before the transaction     neither is there, and the next replay begins with this batch
killed after it                   both are there, and the next replay passes the batch over
two replays at once               the second to publish has a sequence that is taken: it reads the notes again first

An event is named by where and when it was published first, not by its letter, of which it may have several (each output
of a FlatMap may fail, and so may each subscription).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import orjson
import polars as pl

from streamflow.base.errors import ConflictError
from streamflow.model.time import MAX_US
from streamflow.runtime.letters import Letter, Original, Originals, Place, letters
from streamflow.topics import codec
from streamflow.topics.partition import partition_of
from streamflow.topics.protocol import Kind, Producer, Record, TopicConfig, TopicLog
from streamflow.topics.reading import ORIGIN_ATTRIBUTES

BATCH_EVENTS_MAX = 500
"""Of one transaction: what is read again if it is refused."""
NOTES_RETENTION_MIN_S = 366 * 24 * 3600
_PRODUCER = "replay"

Chosen = Callable[[Letter, Original | None], bool]


@dataclass(frozen=True, slots=True)
class Named:
    """An event that can be replayed: its name, and what is to be published to where; without a key to `partition`."""

    place: Place
    published_us: int
    original: Original
    partition: int
    target: str


@dataclass(slots=True)
class Replay:
    """What a replay has done. `events`: published; `again`: letters whose event was back already, by an earlier replay
    or another letter; `gone`: letters whose event is not kept any more, or was none of a topic."""

    letters: int = 0
    events: int = 0
    again: int = 0
    gone: int = 0
    by_topic: dict[str, int] = field(default_factory=dict)


class Replayed:
    """Which events of a dead letter topic are back where they came from."""

    def __init__(self, log: TopicLog, topic: str) -> None:
        self._log = log
        self.topic = f"{topic}.replayed"
        self._source = topic
        self._published: dict[str, set[int]] = {}
        self._sequence = -1
        self._offset = 0
        self.refresh()

    def refresh(self) -> None:
        """Take in what other replays have published."""
        if not any(info.name == self.topic for info in self._log.topics()):
            return
        # First the sequence: what is published after it is read makes it one that is taken.
        self._sequence = self._log.last_sequence(self.topic, _PRODUCER)
        while records := self._log.read(self.topic, 0, self._offset, max_bytes=4_000_000):
            for record in records:
                self._take(record)
            self._offset = records[-1].end

    def has(self, letter: Letter, original: Original | None) -> bool:
        """An event that is not kept any more is known by its place alone."""
        if letter.published_us in self._published.get(str(letter.place), ()):
            return True
        known = self._published.get(str(letter.origin), set())
        return bool(known) if original is None else original.published_us in known

    def knows(self, event: Named) -> bool:
        return event.published_us in self._published.get(str(event.place), ())

    def publish(self, events: Sequence[Named], now_us: int) -> bool:
        """All of them, durable; False, and nothing is published, if another replay has published meanwhile."""
        self._log.create_topic(self.topic, self._config())
        note = codec.encode_json(
            self.topic,
            0,
            [
                orjson.dumps({"event": str(each.place), "published_us": each.published_us, "to": each.target})
                for each in events
            ],
            [now_us] * len(events),
        )
        records = [note, *_encoded(self._log, events)]
        return bool(self._log.publish(records, Producer(_PRODUCER, self._sequence + 1)))

    def _config(self) -> TopicConfig:
        # A note is younger than its letter, and must be there for at least as long, even if that is altered.
        kept_s = max(self._log.topic(self._source).config.retention_s, NOTES_RETENTION_MIN_S)
        return TopicConfig(partitions=1, retention_s=kept_s)

    def _take(self, record: Record) -> None:
        if record.kind is Kind.JSON:
            for document in codec.json_documents(record):
                note = orjson.loads(document)
                self._published.setdefault(note["event"], set()).add(note["published_us"])


def replay(
    log: TopicLog, topic: str, chosen: Chosen, now_us: Callable[[], int], *, to: str | None = None, dry: bool = False
) -> Replay:
    """Publish the events of the chosen letters: to where they were, or to `to`, which also gets the inputs of letters
    whose event can't be had.

    ConflictError if a target was ended. `dry`: publish nothing."""
    done, replayed, originals = Replay(), Replayed(log, topic), Originals(log)
    seen: set[tuple[Place, int]] = set()
    batch: list[Named] = []
    size = 0
    for letter in letters(log, topic):
        original = originals.of(letter)
        if not chosen(letter, original):
            continue
        done.letters += 1
        event = named(letter, original, originals, to)
        if replayed.has(letter, original) or (event is not None and (event.place, event.published_us) in seen):
            done.again += 1
        elif event is None:
            done.gone += 1
        else:
            seen.add((event.place, event.published_us))
            batch.append(event)
            size += _size(event.original)
            if len(batch) >= BATCH_EVENTS_MAX or size >= log.record_bytes_max:
                _flush(log, replayed, batch, done, now_us, dry=dry)
                batch, size = [], 0
    _flush(log, replayed, batch, done, now_us, dry=dry)
    return done


def named(letter: Letter, original: Original | None, originals: Originals, to: str | None) -> Named | None:
    """What a replay would publish; None if there is nothing, or nowhere to."""
    if original is None:
        if to is None:
            return None
        given = orjson.dumps(letter.input)
        original = Original(letter.published_us, letter.published_us, given, None, {})
        return Named(letter.place, letter.published_us, original, letter.origin.partition, to)
    target = letter.origin.topic if to is None else to
    if not originals.takes(target):
        return None
    return Named(letter.origin, original.published_us, original, letter.origin.partition, target)


def _flush(
    log: TopicLog, replayed: Replayed, batch: Sequence[Named], done: Replay, now_us: Callable[[], int], *, dry: bool
) -> None:
    while batch and not dry and not replayed.publish(batch, now_us()):
        replayed.refresh()
        left = [event for event in batch if not replayed.knows(event)]
        done.again += len(batch) - len(left)
        batch = left
    if batch and not dry:
        replayed.refresh()
    done.events += len(batch)
    for event in batch:
        done.by_topic[event.target] = done.by_topic.get(event.target, 0) + 1


def _encoded(log: TopicLog, events: Sequence[Named]) -> Iterator[Record]:
    """Records of the events as they were; in each partition in the order given."""
    configs = {target: log.topic(target) for target in {event.target for event in events}}
    for target, info in configs.items():
        if info.watermark_us >= MAX_US:
            raise ConflictError(
                f"topic '{target}' was ended: its readers would drop the events. Replay to another topic"
            )
    parts: dict[tuple[str, int], list[Original]] = {}
    for event in events:
        size, key = configs[event.target].config.partitions, event.original.key
        at = event.partition % size if key is None else partition_of(key, size, log.key_hash)
        parts.setdefault((event.target, at), []).append(event.original)
    for (target, at), originals in parts.items():
        for is_frame, run in groupby(originals, key=lambda each: isinstance(each.data, pl.DataFrame)):
            yield from (_rows if is_frame else _documents)(target, at, list(run))


def _rows(target: str, partition: int, run: Sequence[Original]) -> Iterator[Record]:
    for each in run:
        assert isinstance(each.data, pl.DataFrame)
        yield codec.encode_frame(target, partition, each.data)


def _documents(target: str, partition: int, run: Sequence[Original]) -> Iterator[Record]:
    yield codec.encode_json(
        target,
        partition,
        [each.data for each in run if isinstance(each.data, bytes)],
        [each.time_us for each in run],
        [each.key for each in run],
        [each.attributes for each in run],
        attributes_max=codec.ATTRIBUTES_MAX + ORIGIN_ATTRIBUTES,
    )


def _size(original: Original) -> int:
    data = original.data
    return len(data) if isinstance(data, bytes) else int(data.estimated_size())
