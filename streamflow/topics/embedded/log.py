"""The handle on a folder: each method is bytes first, then one transaction, or one view. No SQL, no file formats."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from zlib import crc32

from streamflow.base.clock import Clock, SystemClock
from streamflow.base.errors import CorruptionError
from streamflow.topics import rules
from streamflow.topics.embedded import subscription_rows, task_rows, topic_rows
from streamflow.topics.embedded.segments import (
    ROLL_BYTES,
    Entry,
    Place,
    SegmentReader,
    SegmentWriter,
    delete_if_finished,
    segment_paths,
)
from streamflow.topics.embedded.subscriptions import EmbeddedSubscriptions
from streamflow.topics.embedded.topic_rows import Chunk
from streamflow.topics.embedded.truth import DATABASE, Truth, usable
from streamflow.topics.partition import KeyHash
from streamflow.topics.protocol import (
    RECORD_BYTES_MAX,
    Assignment,
    Backlog,
    Claim,
    Kind,
    Producer,
    Record,
    Snapshot,
    StageInput,
    StepCommit,
    TaskId,
    TopicConfig,
    TopicInfo,
    WorkerInfo,
)

_TOPICS = "topics"
_STATE = "state"
_STATE_KIND = 0


class EmbeddedLog:
    """A log in a folder. Open it in as many processes as you like; threads may share a handle, forked children not."""

    key_hash: KeyHash = staticmethod(crc32)
    record_bytes_max = RECORD_BYTES_MAX
    offset_span = 1

    def __init__(self, folder: str | Path, *, clock: Clock | None = None, roll_bytes: int = ROLL_BYTES) -> None:
        """Create the folder if it is not there. One that may not be written to can be read.

        ConflictError: a folder of a newer format, or partitioned by another Polars version. CorruptionError:
        its database can't be read. StreamFlowError: the system does not let us use such a folder.
        """
        self._root = Path(folder).absolute()
        with usable(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            self._truth = Truth(self._root)
        self.url = f"file:{self._root}"
        self._clock = clock or SystemClock()
        self._pid = os.getpid()
        self._segments = SegmentWriter(self._root, roll_bytes)
        self._reader = SegmentReader(self._root)
        # Held from the first byte to the end of its transaction. Separate from the transactions' own lock, so that
        # a heartbeat does not wait for another thread's fdatasync.
        self._append_lock = threading.Lock()
        self._seen: dict[str, task_rows.Seen] = {}
        self.subscriptions = EmbeddedSubscriptions(self, self._truth, self._clock)

    def create_topic(self, name: str, config: TopicConfig | None = None) -> TopicInfo:
        with self._truth.transaction() as db:
            return topic_rows.create(db, name, config)

    def topic(self, name: str) -> TopicInfo:
        with self._truth.view() as db:
            return topic_rows.get(db, name)

    def topics(self) -> list[TopicInfo]:
        with self._truth.view() as db:
            return topic_rows.list_all(db)

    def alter_topic(self, name: str, retention_s: float) -> TopicInfo:
        with self._truth.transaction() as db:
            return topic_rows.alter(db, name, retention_s)

    def add_partitions(self, name: str, partitions: int) -> TopicInfo:
        with self._truth.transaction() as db:
            added = topic_rows.add_partitions(db, name, partitions, self.subscriptions.ordered_on(db, name))
            self.subscriptions.add_partitions(db, name, added)
            return topic_rows.get(db, name)

    def delete_topic(self, name: str) -> None:
        with self._truth.transaction() as db:
            topic_rows.delete(db, name)

    def publish(self, records: Sequence[Record], producer: Producer | None = None) -> list[int]:
        if not records:
            return []
        rules.check_records(records)
        topic = records[0].topic
        with self._append_lock:
            with self._truth.view() as db:
                topic_rows.check_targets(db, records)
                if producer is not None and producer.sequence <= topic_rows.last_sequence(db, topic, producer.name):
                    return []
            places = self._segments.write([_record_entry(record) for record in records])
            with self._truth.transaction() as db:
                if producer is not None and not topic_rows.advance_sequence(db, topic, producer):
                    return []
                offsets = topic_rows.append(db, records, places, self._clock.now_us())
            self._segments.settle()
        return offsets

    @contextmanager
    def appending(self) -> Iterator[None]:
        """Held around a transaction that calls `append_within`: bytes and rows of others don't come in between."""
        with self._append_lock:
            yield
            self._segments.settle()

    def append_within(self, db: sqlite3.Connection, records: Sequence[Record]) -> None:
        """Publish in a transaction of the caller, which holds `appending`."""
        rules.check_records(records)
        places = self._segments.write([_record_entry(record) for record in records])
        topic_rows.append(db, records, places, self._clock.now_us())

    def last_sequence(self, topic: str, producer: str) -> int:
        with self._truth.view() as db:
            return topic_rows.last_sequence(db, topic, producer)

    def advance_watermark(self, topic: str, watermark_us: int) -> None:
        with self._truth.transaction() as db:
            topic_rows.advance_watermark(db, topic, watermark_us)

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        end: int | None = None,
        max_events: int = 1 << 62,
        max_bytes: int = 1 << 62,
    ) -> list[Record]:
        def select() -> list[Chunk]:
            with self._truth.view() as db:
                chunks = topic_rows.chunks_from(db, topic, partition, offset)
                return _within(chunks, end, max_events, max_bytes)

        chunks = select()
        try:
            entries = self._reader.read([chunk.place for chunk in chunks])
        except FileNotFoundError:
            # Pruned after the selection; what is selected now is there, unless a file was lost.
            chunks = select()
            entries = self._read_all([chunk.place for chunk in chunks])
        _check_index(topic, partition, chunks, entries)
        return [
            Record(
                topic,
                partition,
                Kind(entry.kind),
                chunk.count,
                entry.payload,
                entry.time_min_us,
                entry.time_max_us,
                chunk.offset,
                chunk.published_us,
            )
            for chunk, entry in zip(chunks, entries, strict=True)
        ]

    def after(self, topic: str, partition: int, offset: int) -> int:
        return offset

    def end(self, topic: str, partition: int) -> int:
        with self._truth.view() as db:
            return topic_rows.end(db, topic, partition)

    def backlog(self, topic: str, partition: int, offset: int) -> Backlog:
        with self._truth.view() as db:
            return topic_rows.backlog(db, topic, partition, offset, self._clock.now_us())

    def register_pipeline(self, name: str, fingerprint: str, inputs: Sequence[StageInput]) -> None:
        rules.check_name("pipeline", name)
        with self._truth.transaction() as db:
            task_rows.register(db, name, fingerprint, inputs)

    def pipelines(self) -> dict[str, str]:
        with self._truth.view() as db:
            return task_rows.pipelines(db)

    def reset_pipeline(self, name: str) -> None:
        with self._truth.transaction() as db:
            task_rows.reset(db, name)

    def request_stop(self, name: str) -> None:
        with self._truth.transaction() as db:
            task_rows.request_stop(db, name)

    def request_workers(self, name: str, count: int | None) -> None:
        rules.check_workers(name, count)
        with self._truth.transaction() as db:
            task_rows.request_workers(db, name, count)

    def snapshot(self, pipeline: str, *, counters: bool = True) -> Snapshot:
        with self._truth.view() as db:
            if counters:
                return task_rows.snapshot(db, pipeline, task_rows.tasks_with_counters(db, pipeline))
            seen = self._seen[pipeline] = task_rows.tasks_since(db, pipeline, self._seen.get(pipeline))
            return task_rows.snapshot(db, pipeline, seen.tasks)

    def claim(self, task: TaskId, worker: str) -> Claim | None:
        # Not durable, nor is a release, so that a thousand tasks change hands in a moment: after a power cut nobody
        # lives whom a forgotten epoch would have to fence, and a forgotten owner is dead.
        with self._truth.transaction(quiet=True, durable=False) as db:
            state = task_rows.claim(db, task, worker)
            if state is None:
                return None
            return Claim(state, task_rows.segments(db, task))

    def read_state(self, task: TaskId, epoch: int, sequences: Sequence[int]) -> list[bytes]:
        def select() -> list[Place]:
            with self._truth.view() as db:
                return task_rows.segment_places(db, task, epoch, sequences)

        places = select()
        try:
            entries = self._reader.read(places)
        except FileNotFoundError:
            # Dropped by the next owner after the selection, unless the file was lost.
            entries = self._read_all(select())
        return [bytes(entry.payload) for entry in entries]

    def release(self, task: TaskId, epoch: int) -> bool:
        with self._truth.transaction(durable=False) as db:
            return task_rows.release(db, task, epoch)

    def commit(self, commits: Sequence[StepCommit]) -> list[bool]:
        with self._append_lock:
            with self._truth.view() as db:
                # What is fenced already costs no bytes, and may name topics that a reset has deleted.
                hopeful = {
                    nth: commit for nth, commit in enumerate(commits) if task_rows.held(db, commit.task, commit.epoch)
                }
                outputs = [record for commit in hopeful.values() for record in commit.outputs]
                rules.check_records(outputs)
                topic_rows.check_targets(db, outputs)
            entries = [entry for commit in hopeful.values() for entry in _step_entries(commit)]
            places = iter(self._segments.write(entries))
            applied = [False] * len(commits)
            with self._truth.transaction() as db:
                now_us = self._clock.now_us()
                for nth, commit in hopeful.items():
                    of_outputs = list(islice(places, len(commit.outputs)))
                    of_state = list(islice(places, len(commit.segments_add)))
                    held = task_rows.held(db, commit.task, commit.epoch)
                    if held is not None:
                        topic_rows.append(db, commit.outputs, of_outputs, now_us)
                        task_rows.apply(db, commit, *held, of_state)
                    applied[nth] = held is not None
            self._segments.settle()
        return applied

    def join(self, worker: WorkerInfo) -> None:
        with self._truth.transaction() as db:
            task_rows.join(db, worker)

    def heartbeat(self, worker: str, now_us: int, *, draining: bool = False) -> bool:
        # After a power cut no worker lives, whatever the last of these said.
        with self._truth.transaction(quiet=not draining, durable=False) as db:
            return task_rows.heartbeat(db, worker, now_us, draining)

    def leave(self, worker: str) -> None:
        with self._truth.transaction() as db:
            task_rows.remove_worker(db, worker)

    def reassign(self, pipeline: str, decide: Callable[[Snapshot], Assignment]) -> Assignment:
        # Mostly there is nothing to change, and then nobody should have to wait for it.
        decided = decide(self.snapshot(pipeline, counters=False))
        if not decided:
            return decided
        with self._truth.transaction() as db:
            decided = decide(task_rows.snapshot(db, pipeline, task_rows.tasks_since(db, pipeline, None).tasks))
            task_rows.assign(db, decided)
            return decided

    def wait_changed(self, timeout_s: float) -> bool:
        return self._truth.wait_changed(timeout_s)

    def prune(self) -> int:
        with self._truth.view() as db:
            cuts = topic_rows.prunable(db, self._clock.now_us())
        for part, offset in cuts.items():
            more = True
            while more:
                with self._truth.transaction(quiet=True) as db:
                    needed = subscription_rows.needed_from(db, part, self._clock.now_us())
                    more = topic_rows.drop_below(db, *part, offset if needed is None else min(offset, needed))
        return self._delete_files()

    def close(self) -> None:
        """Let go of all files. Without effect in a forked child, whose parent still writes to them."""
        if os.getpid() != self._pid:
            return
        with self._append_lock:
            self._segments.close()
        self._reader.close()
        self._truth.close()

    def __del__(self) -> None:
        # A handle that was dropped must not keep its segments locked. It may be one that never opened.
        with suppress(Exception):
            self.close()

    def _delete_files(self) -> int:
        with self._append_lock:
            with self._truth.view() as db:
                needed = topic_rows.referenced_files(db)
            for path in self._segments.paths():
                if path not in needed:
                    self._segments.finish(path)
        freed = 0
        for folder in (_TOPICS, _STATE):
            for path in segment_paths(self._root, folder):
                if path not in needed:
                    freed += delete_if_finished(self._root, path, self._is_referenced)
            for each in (self._root / folder).glob("*/"):
                with suppress(OSError):
                    each.rmdir()
        with self._truth.view() as db:
            unreferenced = topic_rows.unreferenced_files(db)
        gone = [path for path in unreferenced if not (self._root / path).exists()]
        if gone:
            with self._truth.transaction(quiet=True) as db:
                topic_rows.forget_files(db, gone)
        return freed

    def _is_referenced(self, path: str) -> bool:
        with self._truth.view() as db:
            return topic_rows.is_referenced(db, path)

    def _read_all(self, places: Sequence[Place]) -> list[Entry]:
        try:
            return self._reader.read(places)
        except FileNotFoundError as error:
            raise CorruptionError(
                f"segment '{error.filename}' is missing but still needed. Restore it from a copy, or reset "
                "what needs it"
            ) from error


def _within(chunks: Iterator[Chunk], end: int | None, max_events: int, max_bytes: int) -> list[Chunk]:
    """The first chunk, then as many as fit both bounds; none that begins at or after `end`."""
    taken: list[Chunk] = []
    events = size = 0
    for chunk in chunks:
        events += chunk.count
        size += chunk.place.length
        if (end is not None and chunk.offset >= end) or (taken and (events > max_events or size > max_bytes)):
            break
        taken.append(chunk)
    return taken


def _check_index(topic: str, partition: int, chunks: Sequence[Chunk], entries: Sequence[Entry]) -> None:
    """The database's pages have no checksum, those of entries cover their counts, and offsets have no gaps."""
    end = chunks[0].offset if chunks else 0
    for chunk, entry in zip(chunks, entries, strict=True):
        if chunk.offset != end or chunk.count != entry.count:
            raise CorruptionError(
                f"the database of the log says that offset {chunk.offset} of topic '{topic}' partition {partition} has "
                f"{chunk.count} events after offset {end}, but '{chunk.place.path}' has {entry.count} there. Restore "
                f"'{DATABASE}' from a copy"
            )
        end = chunk.offset + chunk.count


def _record_entry(record: Record) -> tuple[str, Entry]:
    entry = Entry(record.kind, record.count, record.time_min_us, record.time_max_us, record.payload)
    return f"{_TOPICS}/{record.topic}", entry


def _step_entries(commit: StepCommit) -> list[tuple[str, Entry]]:
    """Outputs, then state, in the order in which their places are used."""
    folder = f"{_STATE}/{commit.task.pipeline}"
    entries = [_record_entry(record) for record in commit.outputs]
    for segment in commit.segments_add:
        entry = Entry(_STATE_KIND, 0, segment.info.stamp, segment.info.watermark_us, segment.payload)
        entries.append((folder, entry))
    return entries
