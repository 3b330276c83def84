"""Statements on topics, records and files, inside a transaction or view that the caller has opened."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from streamflow.base.errors import CorruptionError, NotFoundError
from streamflow.model.time import MIN_US
from streamflow.topics import rules
from streamflow.topics.embedded.segments import Place
from streamflow.topics.protocol import Backlog, Producer, Record, TopicConfig, TopicInfo

_PRUNE_BATCH = 10_000
"""Rows deleted in one transaction: keeps other writers' waits to milliseconds."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A committed record without its bytes."""

    offset: int
    count: int
    published_us: int
    place: Place


def create(db: sqlite3.Connection, name: str, config: TopicConfig | None) -> TopicInfo:
    found = find(db, name)
    if found is not None:
        rules.check_same_partitions(name, found.config.partitions, config)
        return found
    wanted = config or TopicConfig()
    rules.check_config(name, wanted)
    cursor = db.execute(
        "INSERT INTO topic (name, partitions, retention_s, internal, watermark_us) VALUES (?, ?, ?, ?, ?)",
        (name, wanted.partitions, wanted.retention_s, wanted.internal, MIN_US),
    )
    db.executemany(
        "INSERT INTO part (topic_id, partition) VALUES (?, ?)",
        [(cursor.lastrowid, partition) for partition in range(wanted.partitions)],
    )
    return TopicInfo(name, wanted, MIN_US)


def find(db: sqlite3.Connection, name: str) -> TopicInfo | None:
    found = list_all(db, "WHERE name = ?", (name,))
    return found[0] if found else None


def get(db: sqlite3.Connection, name: str) -> TopicInfo:
    found = find(db, name)
    if found is None:
        raise _unknown(db, name)
    return found


def list_all(db: sqlite3.Connection, where: str = "", values: Sequence[object] = ()) -> list[TopicInfo]:
    rows = db.execute(
        f"SELECT name, partitions, retention_s, internal, watermark_us FROM topic {where} ORDER BY name",
        values,
    )
    return [
        TopicInfo(name, TopicConfig(partitions, retention_s, bool(internal)), watermark_us)
        for name, partitions, retention_s, internal, watermark_us in rows
    ]


def alter(db: sqlite3.Connection, name: str, retention_s: float) -> TopicInfo:
    config = get(db, name).config
    rules.check_alterable(name, config.internal)
    rules.check_config(name, replace(config, retention_s=retention_s))
    db.execute("UPDATE topic SET retention_s = ? WHERE name = ?", (retention_s, name))
    return get(db, name)


def add_partitions(db: sqlite3.Connection, name: str, partitions: int, ordered: Sequence[str]) -> range:
    """The new ones. `ordered`: names of the topic's subscriptions with ordering keys."""
    rules.check_alterable(name, get(db, name).config.internal)
    topic_id, before = _locate(db, name)
    rules.check_more_partitions(name, before, partitions, pipelines=_readers(db, topic_id), ordered=ordered)
    db.execute("UPDATE topic SET partitions = ? WHERE id = ?", (partitions, topic_id))
    added = range(before, partitions)
    db.executemany("INSERT INTO part (topic_id, partition) VALUES (?, ?)", [(topic_id, each) for each in added])
    return added


def delete(db: sqlite3.Connection, name: str) -> None:
    topic_id, _ = _locate(db, name)
    rules.check_unread(name, _readers(db, topic_id))
    db.execute("DELETE FROM topic WHERE id = ?", (topic_id,))


def check_targets(db: sqlite3.Connection, records: Sequence[Record]) -> None:
    """Refuse what `append` would refuse, before any byte is written."""
    partitions = {topic: _locate(db, topic)[1] for topic in dict.fromkeys(record.topic for record in records)}
    for record in records:
        rules.check_partition(record.topic, record.partition, partitions[record.topic])


def last_sequence(db: sqlite3.Connection, topic: str, producer: str) -> int:
    topic_id, _ = _locate(db, topic)
    row = db.execute("SELECT sequence FROM producer WHERE topic_id = ? AND name = ?", (topic_id, producer)).fetchone()
    return int(row[0]) if row else -1


def advance_sequence(db: sqlite3.Connection, topic: str, producer: Producer) -> bool:
    """False, and no change, if that sequence was published before."""
    topic_id, _ = _locate(db, topic)
    cursor = db.execute(
        "INSERT INTO producer VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET sequence = ?3 WHERE sequence < ?3",
        (topic_id, producer.name, producer.sequence),
    )
    return cursor.rowcount > 0


def advance_watermark(db: sqlite3.Connection, topic: str, watermark_us: int) -> None:
    topic_id, _ = _locate(db, topic)
    db.execute("UPDATE topic SET watermark_us = ?2 WHERE id = ?1 AND watermark_us < ?2", (topic_id, watermark_us))


def append(db: sqlite3.Connection, records: Sequence[Record], places: Sequence[Place], published_us: int) -> list[int]:
    """Give each record the next offsets of its partition and point to its bytes; the offsets in order."""
    files: dict[str, int] = {}
    ends: dict[tuple[int, int], tuple[int, int]] = {}
    topics: dict[str, int] = {}
    chunks: list[tuple[int, ...]] = []
    for record, place in zip(records, places, strict=True):
        if record.topic not in topics:
            topics[record.topic] = _locate(db, record.topic)[0]
        part = (topics[record.topic], record.partition)
        if part not in ends:
            ends[part] = _part(db, record.topic, part)
        offset, byte = ends[part]
        ends[part] = (offset + record.count, byte + place.length)
        file = files.get(place.path) or files.setdefault(place.path, file_id(db, place.path))
        chunks.append((*part, offset, record.count, byte, file, place.position, place.length, published_us))
    db.executemany("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", chunks)
    db.executemany(
        "UPDATE part SET next_offset = ?, next_byte = ? WHERE topic_id = ? AND partition = ?",
        [(*end, *part) for part, end in ends.items()],
    )
    return [chunk[2] for chunk in chunks]


def file_id(db: sqlite3.Connection, path: str) -> int:
    row = db.execute("SELECT id FROM file WHERE path = ?", (path,)).fetchone()
    if row is None:
        row = (db.execute("INSERT INTO file (path) VALUES (?)", (path,)).lastrowid,)
    return int(row[0])


def end(db: sqlite3.Connection, topic: str, partition: int) -> int:
    return _part(db, topic, (_checked(db, topic, partition), partition))[0]


def chunks_from(db: sqlite3.Connection, topic: str, partition: int, offset: int) -> Iterator[Chunk]:
    """From the record that contains `offset`, or the first kept one after it, on; fetched as they are asked for."""
    rows = db.execute(
        "SELECT c.offset, c.count, c.published_us, f.path, c.pos, c.len FROM chunk c JOIN file f ON f.id = "
        "c.file_id WHERE c.topic_id = ?1 AND c.partition = ?2 AND c.offset >= coalesce((SELECT max(offset) FROM chunk "
        "WHERE topic_id = ?1 AND partition = ?2 AND offset <= ?3), ?3) ORDER BY c.offset",
        (_checked(db, topic, partition), partition, offset),
    )
    for start, count, published_us, path, position, length in rows:
        if start + count > offset:
            yield Chunk(start, count, published_us, Place(path, position, length))


def backlog(db: sqlite3.Connection, topic: str, partition: int, offset: int, now_us: int) -> Backlog:
    topic_id = _checked(db, topic, partition)
    next_offset, next_byte = _part(db, topic, (topic_id, partition))
    row = db.execute(
        "SELECT offset, byte_start, published_us FROM chunk WHERE topic_id = ?1 AND partition = ?2 "
        "AND offset >= coalesce((SELECT max(offset) FROM chunk WHERE topic_id = ?1 AND partition = ?2 "
        "AND offset <= ?3), ?3) AND offset + count > ?3 ORDER BY offset LIMIT 1",
        (topic_id, partition, offset),
    ).fetchone()
    if row is None:
        return Backlog(0, 0, 0.0)
    first, byte_start, published_us = row
    return Backlog(next_offset - max(offset, first), next_byte - byte_start, max(0, now_us - published_us) / 1e6)


_FIRST = "FROM chunk c WHERE c.topic_id = {0}.topic_id AND c.partition = {0}.partition ORDER BY c.offset LIMIT 1"


def prunable(db: sqlite3.Connection, now_us: int) -> dict[tuple[int, int], int]:
    """(topic id, partition) → the offset below which whole records are no longer needed, where there are any.

    Of a thousand topics mostly none has any: finding that out is two statements, not one for each partition."""
    consumed = db.execute(
        "SELECT k.topic_id, k.partition, min(k.offset) AS cut FROM task k JOIN topic t ON t.id = k.topic_id "
        f"WHERE t.internal GROUP BY 1, 2 HAVING cut >= (SELECT c.offset + c.count {_FIRST.format('k')})"
    )
    cuts = {(topic_id, partition): offset for topic_id, partition, offset in consumed}
    expired = db.execute(
        "SELECT p.topic_id, p.partition, p.next_offset, "
        "?1 - CAST(round(min(t.retention_s, 1e12) * 1e6) AS INTEGER) AS oldest_us "
        "FROM part p JOIN topic t ON t.id = p.topic_id WHERE p.next_offset > 0 "
        "AND (NOT t.internal OR NOT EXISTS (SELECT 1 FROM task k WHERE k.topic_id = t.id)) "
        f"AND (SELECT c.published_us {_FIRST.format('p')}) < oldest_us",
        (now_us,),
    )
    for topic_id, partition, next_offset, oldest_us in expired.fetchall():
        row = db.execute(
            "SELECT offset FROM chunk WHERE topic_id = ? AND partition = ? AND published_us >= ? "
            "ORDER BY offset LIMIT 1",
            (topic_id, partition, oldest_us),
        ).fetchone()
        cuts[topic_id, partition] = row[0] if row else next_offset
    return cuts


def drop_below(db: sqlite3.Connection, topic_id: int, partition: int, offset: int) -> bool:
    """Drop whole records that end at or before `offset`; True if there may be more than one transaction's worth."""
    cursor = db.execute(
        "DELETE FROM chunk WHERE topic_id = ?1 AND partition = ?2 AND offset IN (SELECT offset FROM chunk "
        "WHERE topic_id = ?1 AND partition = ?2 AND offset < ?3 AND offset + count <= ?3 ORDER BY offset "
        "LIMIT ?4)",
        (topic_id, partition, offset, _PRUNE_BATCH),
    )
    return cursor.rowcount >= _PRUNE_BATCH


def referenced_files(db: sqlite3.Connection) -> set[str]:
    return {path for (path,) in db.execute("SELECT path FROM file WHERE refs > 0")}


def is_referenced(db: sqlite3.Connection, path: str) -> bool:
    return db.execute("SELECT 1 FROM file WHERE path = ? AND refs > 0", (path,)).fetchone() is not None


def unreferenced_files(db: sqlite3.Connection) -> list[str]:
    return [path for (path,) in db.execute("SELECT path FROM file WHERE refs = 0")]


def forget_files(db: sqlite3.Connection, paths: Sequence[str]) -> None:
    db.executemany("DELETE FROM file WHERE path = ? AND refs = 0", [(path,) for path in paths])


def _locate(db: sqlite3.Connection, name: str) -> tuple[int, int]:
    row = db.execute("SELECT id, partitions FROM topic WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise _unknown(db, name)
    return int(row[0]), int(row[1])


def _readers(db: sqlite3.Connection, topic_id: int) -> list[str]:
    """Names of pipelines."""
    return [name for (name,) in db.execute("SELECT DISTINCT pipeline FROM task WHERE topic_id = ?", (topic_id,))]


def _checked(db: sqlite3.Connection, topic: str, partition: int) -> int:
    topic_id, partitions = _locate(db, topic)
    rules.check_partition(topic, partition, partitions)
    return topic_id


def _part(db: sqlite3.Connection, topic: str, part: tuple[int, int]) -> tuple[int, int]:
    row = db.execute("SELECT next_offset, next_byte FROM part WHERE topic_id = ? AND partition = ?", part).fetchone()
    if row is None:
        rules.check_partition(topic, part[1], _locate(db, topic)[1])
        raise CorruptionError(
            f"the database of the log has lost partition {part[1]} of topic '{topic}'. Restore it from a copy"
        )
    return int(row[0]), int(row[1])


def _unknown(db: sqlite3.Connection, name: str) -> NotFoundError:
    return rules.unknown("topic", name, [topic for (topic,) in db.execute("SELECT name FROM topic")])
