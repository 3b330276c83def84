"""Statements on pipelines, tasks, state and workers, inside a transaction or view that the caller has opened."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import compress
from operator import ne
from typing import Any

import orjson

from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics import rules
from streamflow.topics.embedded import topic_rows
from streamflow.topics.embedded.segments import Place
from streamflow.topics.protocol import (
    Assignment,
    SegmentInfo,
    Snapshot,
    StageInput,
    StateSegment,
    StepCommit,
    TaskId,
    TaskState,
    TopicInfo,
    WorkerInfo,
)

_TASKS = (
    "SELECT k.pipeline, k.stage, k.partition, t.name, k.offset, k.watermark_us, k.epoch, k.owner, "
    "k.assigned, {counters}, k.hold_us FROM task k JOIN topic t ON t.id = k.topic_id "
)
_OF_ONE = "WHERE k.pipeline = ? ORDER BY k.stage, k.partition"
_OF_PIPELINE = "IN (SELECT DISTINCT topic_id FROM task WHERE pipeline = ?)"


def register(db: sqlite3.Connection, name: str, fingerprint: str, inputs: Sequence[StageInput]) -> None:
    row = db.execute("SELECT fingerprint FROM pipeline WHERE name = ?", (name,)).fetchone()
    rules.check_fingerprint(name, row[0] if row else fingerprint, fingerprint)
    db.execute(
        "INSERT INTO pipeline (name, fingerprint) VALUES (?, ?) ON CONFLICT DO UPDATE SET stopping = 0",
        (name, fingerprint),
    )
    floor = db.execute("SELECT value FROM meta WHERE key = ?", (_floor_key(name),)).fetchone()
    for each in inputs:
        info = topic_rows.get(db, each.topic)
        db.executemany(
            "INSERT INTO task (pipeline, stage, partition, topic_id, watermark_us, hold_us, epoch) "
            "SELECT ?, ?, ?, id, ?, ?, ? FROM topic WHERE name = ? ON CONFLICT DO NOTHING",
            [
                (name, each.stage, partition, MIN_US, MAX_US, floor[0] if floor else 0, each.topic)
                for partition in range(info.config.partitions)
            ],
        )


def pipelines(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT name, fingerprint FROM pipeline ORDER BY name").fetchall())


def reset(db: sqlite3.Connection, name: str) -> None:
    _check_pipeline(db, name)
    # A pipeline registered again under this name must not meet the epochs of workers that are still running
    # the old one.
    db.execute(
        "INSERT INTO meta SELECT ?1, max(epoch) FROM task WHERE pipeline = ?2 HAVING count(*) "
        "ON CONFLICT DO UPDATE SET value = excluded.value",
        (_floor_key(name), name),
    )
    db.execute("DELETE FROM pipeline WHERE name = ?", (name,))
    db.execute(
        "DELETE FROM topic WHERE internal AND substr(name, 1, length(?1) + 1) = ?1 || '.' "
        "AND id NOT IN (SELECT topic_id FROM task)",
        (name,),
    )


def request_stop(db: sqlite3.Connection, name: str) -> None:
    _check_pipeline(db, name)
    db.execute("UPDATE pipeline SET stopping = 1 WHERE name = ?", (name,))


def request_workers(db: sqlite3.Connection, name: str, count: int | None) -> None:
    _check_pipeline(db, name)
    db.execute("UPDATE pipeline SET workers_wanted = ? WHERE name = ?", (count, name))


@dataclass(frozen=True, slots=True)
class Seen:
    """The tasks of a pipeline as rows and as what was made of them. From one look to the next few have changed, and of
    a thousand tasks it is the making that costs."""

    rows: list[tuple[object, ...]]
    tasks: dict[TaskId, TaskState]


def tasks_since(db: sqlite3.Connection, pipeline: str, seen: Seen | None) -> Seen:
    """The tasks now, without counters; those that are as they were `seen` are the same objects."""
    rows = db.execute(_TASKS.format(counters="NULL") + _OF_ONE, (pipeline,)).fetchall()
    if seen is None or len(rows) != len(seen.rows):
        return Seen(rows, {state.task: state for state in map(_task, rows)})
    changed = {state.task: state for state in map(_task, compress(rows, map(ne, rows, seen.rows)))}
    if not changed.keys() <= seen.tasks.keys():
        return tasks_since(db, pipeline, None)
    return Seen(rows, {**seen.tasks, **changed})


def tasks_with_counters(db: sqlite3.Connection, pipeline: str) -> dict[TaskId, TaskState]:
    return {state.task: state for state in _tasks(db, _OF_ONE, (pipeline,))}


def snapshot(db: sqlite3.Connection, pipeline: str, tasks: Mapping[TaskId, TaskState]) -> Snapshot:
    """`tasks`: of the pipeline, as this view or transaction has them."""
    row = db.execute("SELECT stopping, workers_wanted FROM pipeline WHERE name = ?", (pipeline,)).fetchone()
    if row is None:
        _check_pipeline(db, pipeline)
    ends = db.execute(
        "SELECT t.name, p.partition, p.next_offset FROM part p JOIN topic t ON t.id = p.topic_id "
        f"WHERE p.topic_id {_OF_PIPELINE} ORDER BY t.name, p.partition",
        (pipeline,),
    )
    topics: list[TopicInfo] = topic_rows.list_all(db, f"WHERE id {_OF_PIPELINE}", (pipeline,))
    workers = db.execute(
        "SELECT id, pipeline, pid, process_started, heartbeat_us, draining FROM worker WHERE pipeline = ? ORDER BY id",
        (pipeline,),
    )
    return Snapshot(
        ends={(topic, partition): end for topic, partition, end in ends},
        topics={info.name: info for info in topics},
        tasks=tasks,
        workers={
            worker: WorkerInfo(worker, of_pipeline, pid, process_started, heartbeat_us, bool(draining))
            for worker, of_pipeline, pid, process_started, heartbeat_us, draining in workers
        },
        stopping=bool(row[0]),
        workers_wanted=row[1],
    )


def claim(db: sqlite3.Connection, task: TaskId, worker: str) -> TaskState | None:
    cursor = db.execute(
        "UPDATE task SET owner = ?1, epoch = epoch + 1 WHERE pipeline = ?2 AND stage = ?3 AND partition = ?4 "
        "AND assigned = ?1 AND (owner IS NULL OR owner = ?1)",
        (worker, task.pipeline, task.stage, task.partition),
    )
    found = _tasks(
        db,
        "WHERE k.pipeline = ? AND k.stage = ? AND k.partition = ?",
        (task.pipeline, task.stage, task.partition),
    )
    if not found:
        _check_task(db, task)
    return found[0] if cursor.rowcount else None


def segments(db: sqlite3.Connection, task: TaskId) -> list[SegmentInfo]:
    """The task's state segments, in order."""
    rows = db.execute(
        "SELECT s.sequence, s.stamp, s.watermark_us, s.rows, s.memory_bytes, s.low_us, s.high_us, s.slice "
        "FROM task k JOIN state s ON s.task_id = k.id "
        "WHERE k.pipeline = ? AND k.stage = ? AND k.partition = ? ORDER BY s.sequence",
        (task.pipeline, task.stage, task.partition),
    )
    return [SegmentInfo(*row) for row in rows]


def segment_places(db: sqlite3.Connection, task: TaskId, epoch: int, sequences: Sequence[int]) -> list[Place]:
    """Where these state segments are; FencedError unless that epoch owns the task."""
    owned = held(db, task, epoch)
    if owned is None:
        raise rules.fenced(task)
    rows = db.execute(
        "SELECT s.sequence, f.path, s.pos, s.len FROM state s JOIN file f ON f.id = s.file_id "
        "WHERE s.task_id = ? AND s.sequence IN (SELECT value FROM json_each(?))",
        (owned[0], orjson.dumps(list(sequences)).decode()),
    )
    places = {sequence: Place(path, position, length) for sequence, path, position, length in rows}
    rules.check_has_segments(task, places, sequences)
    return [places[sequence] for sequence in sequences]


def release(db: sqlite3.Connection, task: TaskId, epoch: int) -> bool:
    cursor = db.execute(
        "UPDATE task SET owner = NULL WHERE pipeline = ? AND stage = ? AND partition = ? AND epoch = ? "
        "AND owner IS NOT NULL",
        (task.pipeline, task.stage, task.partition, epoch),
    )
    return cursor.rowcount > 0


def held(db: sqlite3.Connection, task: TaskId, epoch: int) -> tuple[int, int] | None:
    """(task row id, committed offset) if that epoch still owns the task."""
    row = db.execute(
        "SELECT id, offset FROM task WHERE pipeline = ? AND stage = ? AND partition = ? AND epoch = ? "
        "AND owner IS NOT NULL",
        (task.pipeline, task.stage, task.partition, epoch),
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else None


def apply(db: sqlite3.Connection, commit: StepCommit, task_id: int, committed: int, places: Sequence[Place]) -> None:
    """The task's side of a commit; `places` of its added state segments."""
    rules.check_forward(commit.task, committed, commit.offset)
    db.executemany(
        "DELETE FROM state WHERE task_id = ? AND sequence = ?",
        [(task_id, sequence) for sequence in commit.segments_drop],
    )
    added: Sequence[StateSegment] = commit.segments_add
    if added:
        kept = db.execute("SELECT sequence FROM state WHERE task_id = ?", (task_id,)).fetchall()
        rules.check_new_segments(
            commit.task, [sequence for (sequence,) in kept], [segment.info.sequence for segment in added]
        )
        db.executemany(
            f"INSERT INTO state VALUES ({', '.join('?' * 12)})",
            [_state_row(db, task_id, segment.info, place) for segment, place in zip(added, places, strict=True)],
        )
    db.execute(
        "UPDATE task SET offset = ?2, watermark_us = max(watermark_us, ?3), counters = coalesce(?4, "
        "counters), hold_us = ?5 WHERE id = ?1",
        (
            task_id,
            commit.offset,
            commit.watermark_us,
            orjson.dumps(dict(commit.counters)) if commit.counters else None,
            commit.hold_us,
        ),
    )


def _state_row(db: sqlite3.Connection, task_id: int, info: SegmentInfo, place: Place) -> tuple[int, ...]:
    sequence, *about = astuple(info)
    return task_id, sequence, topic_rows.file_id(db, place.path), place.position, place.length, *about


def join(db: sqlite3.Connection, worker: WorkerInfo) -> None:
    _check_pipeline(db, worker.pipeline)
    db.execute(
        "INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?, ?)",
        (
            worker.id,
            worker.pipeline,
            worker.pid,
            worker.process_started,
            worker.heartbeat_us,
            worker.draining,
        ),
    )


def heartbeat(db: sqlite3.Connection, worker: str, now_us: int, draining: bool) -> bool:
    cursor = db.execute(
        "UPDATE worker SET heartbeat_us = ?, draining = draining OR ? WHERE id = ?", (now_us, draining, worker)
    )
    return cursor.rowcount > 0


def remove_worker(db: sqlite3.Connection, worker: str) -> None:
    """Fence what it owns and take back what was meant for it; what is promised to another stays promised."""
    if not db.execute("DELETE FROM worker WHERE id = ?", (worker,)).rowcount:
        return
    db.execute("UPDATE task SET owner = NULL, epoch = epoch + 1 WHERE owner = ?", (worker,))
    db.execute("UPDATE task SET assigned = NULL WHERE assigned = ?", (worker,))


def assign(db: sqlite3.Connection, assignment: Assignment) -> None:
    for worker in sorted(assignment.dead):
        remove_worker(db, worker)
    for task, assigned in assignment.moves.items():
        cursor = db.execute(
            "UPDATE task SET assigned = ? WHERE pipeline = ? AND stage = ? AND partition = ?",
            (assigned, task.pipeline, task.stage, task.partition),
        )
        if not cursor.rowcount:
            _check_task(db, task)


def _tasks(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[TaskState]:
    return [_task(row) for row in db.execute(_TASKS.format(counters="k.counters") + where, values)]


def _task(row: tuple[Any, ...]) -> TaskState:
    pipeline, stage, partition, topic, offset, watermark_us, epoch, owner, assigned, counters, hold_us = row
    known = {} if counters is None else orjson.loads(counters)
    task = TaskId(pipeline, stage, partition)
    return TaskState(task, topic, offset, watermark_us, epoch, owner, assigned, known, hold_us)


def _check_pipeline(db: sqlite3.Connection, name: str) -> None:
    known = pipelines(db)
    if name not in known:
        raise rules.unknown("pipeline", name, known)


def _check_task(db: sqlite3.Connection, task: TaskId) -> None:
    _check_pipeline(db, task.pipeline)
    known = [str(state.task) for state in _tasks(db, "WHERE k.pipeline = ?", (task.pipeline,))]
    raise rules.unknown("task", str(task), known)


def _floor_key(pipeline: str) -> str:
    return f"epoch_floor:{pipeline}"
