"""Which segments are merged, worked out from what is known of them alone."""

from streamflow.engine.ledger import Ledger
from streamflow.topics.protocol import SegmentInfo

PIECE = 100
"""Bytes, and rows: a row is one byte here."""


def ledger(*rows: int, slice_: int = 1) -> Ledger:
    """Segments of so many rows, the oldest first, none of them in memory."""
    return Ledger(
        [SegmentInfo(nth, 0, 0, count, count, 0, 10 * nth, slice_) for nth, count in enumerate(rows)], lambda _: b""
    )


def run(of: Ledger, segments_max: int, rows_resident: int = 0) -> list[int]:
    return [info.sequence for info in of.run_to_merge(segments_max, PIECE, rows_resident)]


def test_nothing_is_merged_while_there_are_few_segments_of_each_slice() -> None:
    assert run(ledger(*[1] * 32), 4) == []
    both = ledger(*[1] * 17)
    for sequence in range(20, 37):
        both.add(SegmentInfo(sequence, 0, 0, 1, 1, 0, 0, 2), resident=False)
    assert run(both, 3) == []
    assert run(both, 2) == [*range(17)]


def test_newest_are_merged_with_older_ones_that_are_not_much_larger() -> None:
    small = [1] * 31
    assert run(ledger(1, 1, *small), 4) == [*range(33)]
    assert run(ledger(90, 63, *small), 4) == [*range(2, 33)]
    assert run(ledger(190, 62, *small), 4) == [*range(1, 33)]
    assert run(ledger(*[1] * 6, 90, 50, 3, 1), 1) == [8, 9]


def test_no_more_than_a_few_pieces_are_merged_at_once() -> None:
    assert run(ledger(*[90] * 9), 8) == [5, 6, 7, 8]


def test_slice_with_more_bytes_than_a_few_pieces_is_cut_though_its_segments_are_few() -> None:
    assert run(ledger(90, 90, 90, 90), 32) == []
    assert run(ledger(90, 90, 90, 90, 90), 32) == [1, 2, 3, 4]


def test_huge_segment_is_cut_alone_and_keeps_nothing_else_from_being_merged() -> None:
    assert run(ledger(1_000, 1), 32) == [0]
    assert run(ledger(1, 390, 20), 32) == [1, 2]


def test_groups_that_no_cut_makes_smaller_are_not_written_again_and_again() -> None:
    assert run(ledger(1_000, 1_000, slice_=1 << 16), 4) == []
    assert run(ledger(*[1_000] * 33, slice_=1 << 16), 4) == [31, 32]


def test_resident_segments_have_time_until_half_of_their_rows_are_needless() -> None:
    of = ledger(*[10] * 9)
    of.take_up(of.on_disk_only())
    assert run(of, 2, rows_resident=45) == []
    assert len(run(of, 2, rows_resident=44)) > 1
    assert len(run(of, 1, rows_resident=90)) > 1


def test_resident_and_other_segments_are_never_merged_with_each_other() -> None:
    of = ledger(*[1] * 17)
    for sequence in range(17, 34):
        of.add(SegmentInfo(sequence, 0, 0, 1, 1, 0, 0, 1), resident=True)
    assert run(of, 2, rows_resident=1) == [*range(17, 34)]
    assert run(of, 2, rows_resident=17) == [*range(17)]
    of.let_go()
    assert run(of, 2) == [*range(34)]


def test_segment_expires_with_the_last_window_in_it() -> None:
    of = ledger(1, 1, 1)
    assert of.expired(14, lambda end_us: end_us + 5) == [0]
    assert of.expired(15, lambda end_us: end_us + 5) == [0, 1]


def test_sequences_go_on_after_the_highest() -> None:
    of = ledger(1, 1)
    assert [of.next_sequence(), of.next_sequence()] == [2, 3]
    assert ledger().next_sequence() == 0
