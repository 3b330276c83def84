"""When what tasks have told may be shown, and what a changelog says: pure."""

from dataclasses import dataclass, field

import polars as pl
import pytest

from streamflow.runtime.cluster.records import (
    Changelog,
    TaskRecord,
    fitting,
    record_message,
    segment_messages,
    tombstones,
)
from streamflow.runtime.cluster.view import Pairing, Told
from streamflow.topics import codec
from streamflow.topics.kafka.messages import SPAN, Messages
from streamflow.topics.protocol import SegmentInfo, StateSegment, TaskId

TASK = TaskId("p", "s", 0)
PLACE = ("in", 0)


def told(commit: int) -> Told:
    return Told({TASK: TaskRecord(1, commit)})


def test_records_are_shown_once_all_that_was_written_before_them_can_be_read() -> None:
    before = Pairing().after(told(1), {PLACE: 10}).reached({PLACE: 10})
    assert before.seen.told == told(1)
    # Somebody's transaction is open at 12; what the task has committed lies behind it, up to 20.
    hidden = before.after(told(2), {PLACE: 20}).reached({PLACE: 12})
    assert (hidden.seen.told, hidden.seen.ends) == (told(1), {PLACE: 12})
    assert not hidden.wants_more
    shown = hidden.reached({PLACE: 25})
    assert (shown.seen.told, shown.seen.ends) == (told(2), {PLACE: 25})
    assert shown.wants_more


def test_ends_never_go_back() -> None:
    """A broker that has just become the leader may not know yet."""
    assert Pairing().reached({PLACE: 7}).reached({PLACE: 5}).seen.ends == {PLACE: 7}


@dataclass
class Got:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    timestamp: int = 0


def received(first: int, *sent: Messages) -> list[Got]:
    rows = [row for each in sent for row in zip(each.keys, each.values, each.headers, strict=True)]
    return [Got(first + n, key, value, list(headers)) for n, (key, value, headers) in enumerate(rows)]


def test_changelog_gives_the_newest_record_and_the_segments_that_are_left() -> None:
    infos = [SegmentInfo(sequence, 5, 6, rows=7) for sequence in range(2)]
    small, large = (StateSegment(info, b"x" * size) for info, size in zip(infos, (3, 25), strict=True))
    newest = TaskRecord(2, 9, "w", 123, 4, 5, {"events_in": 3.0})
    log = Changelog()
    log.take(received(100, record_message("c", 0, TaskRecord()), segment_messages("c", 0, small, 10)))
    log.take(received(110, segment_messages("c", 0, large, 10), record_message("c", 0, newest)))
    log.take(received(120, tombstones("c", 0, 0, 1)))
    assert log.record == newest
    assert {sequence: (kept.info, kept.first, kept.pieces) for sequence, kept in log.segments.items()} == {
        1: (infos[1], 110, 3)
    }


@pytest.mark.parametrize(("rows", "width"), [(SPAN + 1, 0), (40, 50_000), (2, 2_000_000), (3, 1)])
def test_outputs_are_cut_into_messages_that_kafka_takes(rows: int, width: int) -> None:
    frame = pl.DataFrame({"_time": range(rows), "a": [str(n) * width for n in range(rows)]})
    pieces = list(fitting(codec.encode_frame("t", 1, frame, internal=True), 900_000))
    assert pl.concat([codec.decode(piece) for piece in pieces]).equals(frame)
    assert all(piece.count <= SPAN and (len(piece.payload) <= 900_000 or piece.count == 1) for piece in pieces)
