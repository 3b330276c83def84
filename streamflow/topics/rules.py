"""What every backend refuses, in one place so that all refuse the same: names, partition counts, records.

Pure checks that return or raise; no storage and no defaults.
"""

import difflib
import re
from collections.abc import Container, Iterable, Sequence

from streamflow.base.errors import ConflictError, DataError, FencedError, NotFoundError
from streamflow.topics.protocol import Record, TopicConfig

PARTITIONS_MAX = 4_096
"""Bounds the size of a snapshot and the number of tasks of a stage."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_name(what: str, name: str) -> None:
    """DataError unless `name` can name a topic or pipeline (it also names folders on disk)."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{what} name '{name}' is not allowed. Use 1 to 200 of A-Z a-z 0-9 . _ - and begin with a letter or digit"
        )


def check_config(name: str, config: TopicConfig) -> None:
    check_name("topic", name)
    if not 1 <= config.partitions <= PARTITIONS_MAX:
        raise DataError(f"topic '{name}' can't have {config.partitions} partitions. Give 1 to {PARTITIONS_MAX}")
    if not config.retention_s > 0:
        raise DataError(f"topic '{name}' can't keep records for {config.retention_s} s. Give a positive time")


def check_same_partitions(name: str, existing: int, wanted: TopicConfig | None) -> None:
    if wanted is not None and wanted.partitions != existing:
        raise ConflictError(
            f"topic '{name}' exists with {existing} partitions, not {wanted.partitions}: keys would move. "
            "Use another topic name or delete this one first"
        )


def check_alterable(name: str, internal: bool) -> None:
    if internal:
        raise ConflictError(f"topic '{name}' belongs to a pipeline, which alone changes it. Alter another")


def check_more_partitions(
    name: str, existing: int, wanted: int, *, pipelines: Iterable[str], ordered: Iterable[str]
) -> None:
    """`pipelines` that read the topic, and ordered subscriptions to it: both rely on where its keys are."""
    check_config(name, TopicConfig(wanted))
    if wanted < existing:
        raise ConflictError(
            f"topic '{name}' has {existing} partitions and can't have {wanted}: events would be lost. Make another one"
        )
    for what, names in (("pipeline", pipelines), ("ordered subscription", ordered)):
        listed = ", ".join(f"'{each}'" for each in sorted(set(names)))
        if listed:
            raise ConflictError(
                f"topic '{name}' can't get more partitions while {what} {listed} reads it: keys would move, and their "
                f"order be lost. {'Reset' if what == 'pipeline' else 'Delete'} that first, or make another topic"
            )


def check_partition(name: str, partition: int, partitions: int) -> None:
    if not 0 <= partition < partitions:
        raise DataError(f"topic '{name}' has no partition {partition}. It has 0 to {partitions - 1}")


def check_records(records: Sequence[Record]) -> None:
    """Offsets number events, so a record without any would have no place."""
    for record in records:
        if record.count < 1:
            raise DataError(f"a record for topic '{record.topic}' has {record.count} events. Leave empty batches out")


def check_fingerprint(name: str, existing: str, given: str) -> None:
    if existing != given:
        raise ConflictError(
            f"pipeline '{name}' exists in another shape ('{existing}', now '{given}'), and its state would not fit. "
            "Give the new one another name, or reset the old one"
        )


def check_forward(task: object, committed: int, offset: int) -> None:
    """A task that went back would apply events twice."""
    if offset < committed:
        raise ConflictError(
            f"task '{task}' would go back from offset {committed} to {offset}. Reset the pipeline to replay it"
        )


def fenced(task: object) -> FencedError:
    return FencedError(f"task '{task}' was taken over while its state was read. Drop it, it is run elsewhere")


def check_has_segments(task: object, kept: Container[int], wanted: Sequence[int]) -> None:
    for sequence in wanted:
        if sequence not in kept:
            raise NotFoundError(f"task '{task}' has no state segment {sequence}. Read those that it was claimed with")


def check_new_segments(task: object, kept: Iterable[int], added: Sequence[int]) -> None:
    """A sequence names one segment: two would leave the order of replay open."""
    taken = set(kept)
    for sequence in added:
        if sequence in taken:
            raise ConflictError(
                f"state segment {sequence} of task '{task}' exists already. Drop it in the same commit or "
                "use a higher sequence"
            )
        taken.add(sequence)


def check_workers(pipeline: str, count: int | None) -> None:
    if count is not None and count < 0:
        raise DataError(f"pipeline '{pipeline}' can't have {count} workers. Give 0 or more, or None for automatic")


def check_unread(topic: str, pipelines: Iterable[str]) -> None:
    names = ", ".join(f"'{name}'" for name in sorted(set(pipelines)))
    if names:
        raise ConflictError(f"topic '{topic}' is read by pipeline {names}. Reset the pipeline before deleting it")


def unknown(what: str, name: str, existing: Iterable[str]) -> NotFoundError:
    """The error to raise, with the closest existing names as its hint."""
    known = sorted(existing)
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        hint = "Did you mean " + " or ".join(f"'{candidate}'" for candidate in close) + "?"
    elif known:
        hint = "There are " + ", ".join(f"'{candidate}'" for candidate in known[:10])
    else:
        hint = f"There is no {what} at all yet"
    return NotFoundError(f"{what} '{name}' does not exist. {hint}")
