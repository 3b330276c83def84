"""Statements on subscriptions, their machines and snapshots, inside a transaction or view that the caller has opened.

The tables are made when a folder is next opened for writing. They need no new format: older code leaves them alone, and
deleting a topic detaches its subscriptions there too. But it prunes without asking them.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from streamflow.topics import rules
from streamflow.topics.subscriptions.settings import SubscriptionSettings
from streamflow.topics.subscriptions.store import SnapshotInfo, SubscriptionInfo, retained_from

TABLES = """
CREATE TABLE IF NOT EXISTS subscription (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    topic_id INTEGER REFERENCES topic ON DELETE SET NULL,
    topic TEXT NOT NULL,
    settings BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    active_us INTEGER NOT NULL,
    expires_us INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS subscription_topic ON subscription (topic_id);
CREATE TABLE IF NOT EXISTS machine (
    subscription_id INTEGER NOT NULL REFERENCES subscription ON DELETE CASCADE,
    partition INTEGER NOT NULL,
    version INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (subscription_id, partition)
) STRICT;
CREATE TABLE IF NOT EXISTS snapshot (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    topic_id INTEGER NOT NULL REFERENCES topic ON DELETE CASCADE,
    subscription TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS topic_schema (
    topic_id INTEGER PRIMARY KEY REFERENCES topic ON DELETE CASCADE,
    schema TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS snapshot_topic ON snapshot (topic_id);
CREATE TABLE IF NOT EXISTS snapshot_part (
    snapshot_id INTEGER NOT NULL REFERENCES snapshot ON DELETE CASCADE,
    partition INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    acks BLOB NOT NULL,
    PRIMARY KEY (snapshot_id, partition)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A subscription with the ids behind its names. `topic_id`: None if it is detached."""

    id: int
    topic_id: int | None
    info: SubscriptionInfo


class ChunkIndex:
    """`RecordIndex` of a partition of the topic, by its rows; only inside of transactions."""

    def __init__(self, db: sqlite3.Connection, topic_id: int, partition: int) -> None:
        self._db = db
        self._part = (topic_id, partition)

    def end(self) -> int:
        return self._next()[0]

    def bytes_between(self, start: int, end: int) -> int:
        return self._byte(end) - self._byte(start)

    def published_us(self, offset: int) -> int:
        row = self._db.execute(
            "SELECT published_us FROM chunk WHERE topic_id = ? AND partition = ? AND offset <= ? "
            "ORDER BY offset DESC LIMIT 1",
            (*self._part, offset),
        ).fetchone()
        return int(row[0])

    def offset_at(self, time_us: int) -> int:
        row = self._db.execute(
            "SELECT offset FROM chunk WHERE topic_id = ? AND partition = ? AND published_us >= ? "
            "ORDER BY offset LIMIT 1",
            (*self._part, time_us),
        ).fetchone()
        return int(row[0]) if row else self.end()

    def _byte(self, offset: int) -> int:
        """What is before that message; a record's bytes are spread evenly over its messages."""
        row = self._db.execute(
            "SELECT offset, count, byte_start, len FROM chunk WHERE topic_id = ? AND partition = ? AND offset <= ? "
            "ORDER BY offset DESC LIMIT 1",
            (*self._part, offset),
        ).fetchone()
        if row is None or offset >= row[0] + row[1]:
            return self._next()[1] if row is not None else 0
        first, count, before, size = row
        return int(before + size * (offset - first) // count)

    def _next(self) -> tuple[int, int]:
        row = self._db.execute(
            "SELECT next_offset, next_byte FROM part WHERE topic_id = ? AND partition = ?", self._part
        ).fetchone()
        return int(row[0]), int(row[1])


def insert(db: sqlite3.Connection, info: SubscriptionInfo, topic_id: int) -> int:
    settings = info.settings
    cursor = db.execute(
        "INSERT INTO subscription (name, topic_id, topic, settings, created_us, active_us, expires_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            info.name,
            topic_id,
            info.topic,
            msgspec.json.encode(settings),
            info.created_us,
            info.active_us,
            settings.expires_us(info.active_us),
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def change(db: sqlite3.Connection, row: Row, settings: SubscriptionSettings, active_us: int) -> None:
    """`row` with other settings or activity."""
    db.execute(
        "UPDATE subscription SET settings = ?, active_us = ?, expires_us = ? WHERE id = ?",
        (msgspec.json.encode(settings), active_us, settings.expires_us(active_us), row.id),
    )


def topic_id(db: sqlite3.Connection, topic: str) -> int:
    """Of a topic that is there."""
    return int(db.execute("SELECT id FROM topic WHERE name = ?", (topic,)).fetchone()[0])


def find(db: sqlite3.Connection, name: str, now_us: int) -> Row | None:
    rows = listed(db, now_us, "AND name = ?", name)
    return rows[0] if rows else None


def get(db: sqlite3.Connection, name: str, now_us: int) -> Row:
    found = find(db, name, now_us)
    if found is None:
        raise rules.unknown("subscription", name, [row.info.name for row in listed(db, now_us)])
    return found


def listed(db: sqlite3.Connection, now_us: int, where: str = "", *values: object) -> list[Row]:
    """Those that have not expired; none if the folder has had no subscriptions yet and can only be read."""
    if not _has_tables(db):
        return []
    rows = db.execute(
        "SELECT id, topic_id, name, topic, settings, created_us, active_us FROM subscription "
        f"WHERE (expires_us IS NULL OR expires_us > ?) {where} ORDER BY name",
        (now_us, *values),
    )
    return [
        Row(
            id,
            topic_id,
            SubscriptionInfo(
                name,
                topic,
                msgspec.json.decode(settings, type=SubscriptionSettings),
                created_us,
                active_us,
                topic_id is None,
            ),
        )
        for id, topic_id, name, topic, settings, created_us, active_us in rows
    ]


def delete(db: sqlite3.Connection, row: Row) -> None:
    db.execute("DELETE FROM subscription WHERE id = ?", (row.id,))


def detach(db: sqlite3.Connection, row: Row) -> None:
    db.execute("UPDATE subscription SET topic_id = NULL WHERE id = ?", (row.id,))
    db.execute("DELETE FROM machine WHERE subscription_id = ?", (row.id,))


def partitions(db: sqlite3.Connection, topic: int) -> int:
    return int(db.execute("SELECT partitions FROM topic WHERE id = ?", (topic,)).fetchone()[0])


def version(db: sqlite3.Connection, row: Row, partition: int) -> int:
    found = db.execute(
        "SELECT version FROM machine WHERE subscription_id = ? AND partition = ?", (row.id, partition)
    ).fetchone()
    return int(found[0])


def versions(db: sqlite3.Connection, row: Row) -> tuple[tuple[int, int, int], ...]:
    """(partition, version of its machine, its end), of all."""
    found = db.execute(
        "SELECT p.partition, m.version, p.next_offset FROM machine m JOIN part p ON p.partition = m.partition "
        "WHERE m.subscription_id = ? AND p.topic_id = ? ORDER BY 1",
        (row.id, row.topic_id),
    )
    return tuple(found.fetchall())


def state(db: sqlite3.Connection, row: Row, partition: int) -> bytes:
    found = db.execute(
        "SELECT state FROM machine WHERE subscription_id = ? AND partition = ?", (row.id, partition)
    ).fetchone()
    return bytes(found[0])


def store(db: sqlite3.Connection, row: Row, partition: int, version: int, floor: int, state: bytes) -> None:
    db.execute(
        "INSERT INTO machine VALUES (?1, ?2, ?3, ?4, ?5) "
        "ON CONFLICT DO UPDATE SET version = ?3, floor = ?4, state = ?5",
        (row.id, partition, version, floor, state),
    )


def insert_snapshot(
    db: sqlite3.Connection, info: SnapshotInfo, topic: int, acks: Mapping[int, tuple[int, bytes]]
) -> None:
    """`acks`: partition → (floor, the bytes)."""
    cursor = db.execute(
        "INSERT INTO snapshot (name, topic_id, subscription, created_us, expires_us) VALUES (?, ?, ?, ?, ?)",
        (info.name, topic, info.subscription, info.created_us, info.expires_us),
    )
    db.executemany(
        "INSERT INTO snapshot_part VALUES (?, ?, ?, ?)",
        [(cursor.lastrowid, partition, floor, data) for partition, (floor, data) in acks.items()],
    )


def extend_snapshots(db: sqlite3.Connection, topic: str, partitions: Sequence[int], acks: bytes) -> None:
    """Of the topic, to partitions in which no message was when they were made."""
    db.executemany(
        "INSERT INTO snapshot_part SELECT s.id, ?, 0, ? FROM snapshot s JOIN topic t ON t.id = s.topic_id "
        "WHERE t.name = ?",
        [(partition, acks, topic) for partition in partitions],
    )


def snapshots(db: sqlite3.Connection, now_us: int) -> list[SnapshotInfo]:
    if not _has_tables(db):
        return []
    rows = db.execute(
        "SELECT s.name, t.name, s.subscription, s.created_us, s.expires_us FROM snapshot s "
        "JOIN topic t ON t.id = s.topic_id WHERE s.expires_us > ? ORDER BY s.name",
        (now_us,),
    )
    return [SnapshotInfo(*row) for row in rows]


def snapshot(db: sqlite3.Connection, name: str, now_us: int) -> SnapshotInfo:
    every = snapshots(db, now_us)
    for info in every:
        if info.name == name:
            return info
    raise rules.unknown("snapshot", name, [info.name for info in every])


def snapshot_acks(db: sqlite3.Connection, name: str) -> dict[int, bytes]:
    rows = db.execute(
        "SELECT p.partition, p.acks FROM snapshot_part p JOIN snapshot s ON s.id = p.snapshot_id WHERE s.name = ?",
        (name,),
    )
    return {partition: bytes(acks) for partition, acks in rows}


def delete_snapshot(db: sqlite3.Connection, name: str) -> None:
    db.execute("DELETE FROM snapshot WHERE name = ?", (name,))


def schema(db: sqlite3.Connection, topic: str) -> str | None:
    if not _has_tables(db):
        return None
    row = db.execute("SELECT s.schema FROM topic_schema s JOIN topic t ON t.id = s.topic_id WHERE t.name = ?", (topic,))
    found = row.fetchone()
    return None if found is None else str(found[0])


def set_schema(db: sqlite3.Connection, topic: str, schema: str) -> None:
    db.execute(
        "INSERT INTO topic_schema VALUES (?1, ?2) ON CONFLICT DO UPDATE SET schema = ?2", (topic_id(db, topic), schema)
    )


def forget_expired(db: sqlite3.Connection, now_us: int) -> None:
    db.execute("DELETE FROM subscription WHERE expires_us <= ?", (now_us,))
    db.execute("DELETE FROM snapshot WHERE expires_us <= ?", (now_us,))


def needed_from(db: sqlite3.Connection, part: tuple[int, int], now_us: int) -> int | None:
    """The first message of (topic id, partition) that subscriptions and snapshots need; None: they need none."""
    if not _has_tables(db):
        return None
    index = ChunkIndex(db, *part)
    needs = []
    for row in listed(db, now_us, "AND topic_id = ?", part[0]):
        settings = row.info.settings
        floor = db.execute(
            "SELECT floor FROM machine WHERE subscription_id = ? AND partition = ?", (row.id, part[1])
        ).fetchone()
        start = index.offset_at(now_us - round(settings.retention_s * 1e6))
        needs.append(retained_from(settings, int(floor[0]), start))
    floors = db.execute(
        "SELECT p.floor FROM snapshot_part p JOIN snapshot s ON s.id = p.snapshot_id "
        "WHERE s.topic_id = ? AND p.partition = ? AND s.expires_us > ?",
        (*part, now_us),
    )
    needs += [int(floor) for (floor,) in floors]
    return min(needs, default=None)


def _has_tables(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'snapshot_part'").fetchone() is not None
