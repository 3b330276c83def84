"""Exactly-once writes, schema evolution and refusals of Delta tables."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from small_frames import rows

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, CorruptionError, DataError, FencedError, PipelineError
from streamflow.stores.table import Catalog, TableSpec, TableWriter
from streamflow.stores.table.writer import CHECKPOINT_EVERY, KNOWN_FOR_S

PLAIN = TableSpec("t")


def numbers(root: Path, name: str = "t") -> list[int]:
    return sorted(Catalog(root).read(name)["n"].to_list())


def test_committed_is_zero_before_the_first_write_and_then_the_end(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    assert writer.committed() == 0
    assert writer.write(rows(0, 5), end=7) == 5
    assert writer.committed() == 7
    assert TableWriter(tmp_path, PLAIN, "app").committed() == 7
    assert TableWriter(tmp_path, PLAIN, "other").committed() == 0


def test_replay_of_a_write_is_skipped(tmp_path: Path) -> None:
    TableWriter(tmp_path, PLAIN, "app").write(rows(0, 5), end=5)
    again = TableWriter(tmp_path, PLAIN, "app")
    assert again.write(rows(0, 5), end=5) == 0
    assert again.write(rows(2, 4), end=4) == 0
    assert numbers(tmp_path) == [0, 1, 2, 3, 4]


def test_partly_overlapping_replay_writes_only_the_new_rows(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    writer.write(rows(0, 5), end=5)
    assert writer.write(rows(3, 8), end=8) == 3
    assert numbers(tmp_path) == list(range(8))


def test_an_empty_frame_commits_nothing(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    assert writer.write(rows(0, 0), end=3) == 0
    assert Catalog(tmp_path).tables() == []
    writer.write(rows(3, 4), end=4)
    assert writer.write(rows(4, 4), end=9) == 0
    assert writer.committed() == 4


def test_apps_of_one_table_have_offsets_of_their_own(tmp_path: Path) -> None:
    TableWriter(tmp_path, PLAIN, "a").write(rows(0, 2), end=2)
    TableWriter(tmp_path, PLAIN, "b").write(rows(0, 3), end=3)
    assert numbers(tmp_path) == [0, 0, 1, 1, 2]


def test_zombie_that_wakes_between_its_refresh_and_its_commit_is_fenced(tmp_path: Path) -> None:
    class Sleeper(TableWriter):
        """Falls asleep after its last refresh, while another writer continues the app."""

        def _store(self, state: Any, frame: pl.DataFrame, end: int) -> bool:
            TableWriter(tmp_path, PLAIN, "app").write(rows(5, 8), end=8)
            return super()._store(state, frame, end)

    TableWriter(tmp_path, PLAIN, "app").write(rows(0, 5), end=5)
    with pytest.raises(FencedError, match="'app' was continued by another writer at offset 8"):
        Sleeper(tmp_path, PLAIN, "app").write(rows(5, 9), end=9)
    assert numbers(tmp_path) == list(range(8))
    known = {Path(uri).name for uri in DeltaTable(tmp_path / "t").file_uris()}
    assert {path.name for path in (tmp_path / "t").glob("*.parquet")} == known, "the fenced write's file is gone"


def test_rows_of_others_delay_a_commit_but_do_not_hinder_it(tmp_path: Path) -> None:
    class Slow(TableWriter):
        """Is overtaken by another app between its refresh and its commit."""

        def _store(self, state: Any, frame: pl.DataFrame, end: int) -> bool:
            TableWriter(tmp_path, PLAIN, "fast").write(rows(end, end + 1), end=end + 1)
            return super()._store(state, frame, end)

    slow = Slow(tmp_path, PLAIN, "slow")
    for end in range(1, 5):
        assert slow.write(rows(end - 1, end), end=end) == 1
    assert numbers(tmp_path) == [0, 1, 1, 2, 2, 3, 3, 4]
    assert DeltaTable(tmp_path / "t").version() == 8


def test_rows_written_by_the_library_itself_are_followed(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    writer.write(rows(0, 2), end=2)
    write_deltalake(tmp_path / "t", pl.DataFrame({"n": [100]}), mode="append")
    assert writer.write(rows(2, 4), end=4) == 2
    DeltaTable(tmp_path / "t").optimize.compact()
    assert writer.write(rows(4, 5), end=5) == 1
    assert numbers(tmp_path) == [0, 1, 2, 3, 4, 100]
    assert TableWriter(tmp_path, PLAIN, "app").committed() == 5


def test_state_that_was_read_long_ago_is_read_anew(tmp_path: Path) -> None:
    clock = ManualClock()
    writer = TableWriter(tmp_path, PLAIN, "app", clock)
    writer.write(rows(0, 1), end=1)
    other = TableWriter(tmp_path, PLAIN, "other")
    other.write(rows(0, 1), end=1)
    DeltaTable(tmp_path / "t").create_checkpoint()
    for version in range(2, 4):
        other.write(rows(version - 1, version), end=version)
    DeltaTable(tmp_path / "t").create_checkpoint()
    (tmp_path / "t" / "_delta_log" / f"{3:020}.json").unlink()
    clock.advance(KNOWN_FOR_S)
    assert writer.write(rows(1, 2), end=2) == 1
    assert DeltaTable(tmp_path / "t").version() == 5
    assert numbers(tmp_path) == [0, 0, 1, 1, 2]


def test_table_that_was_removed_under_its_writer_is_not_begun_anew(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    writer.write(rows(0, 1), end=1)
    writer.write(rows(1, 2), end=2)
    shutil.rmtree(tmp_path / "t")
    with pytest.raises(CorruptionError, match="Was its folder removed"):
        writer.write(rows(2, 3), end=3)
    TableWriter(tmp_path, PLAIN, "other").write(rows(0, 1), end=1)
    with pytest.raises(CorruptionError, match="Was its folder removed"):
        writer.write(rows(2, 3), end=3)
    assert numbers(tmp_path) == [0]


def test_zombie_that_wakes_before_its_refresh_writes_only_what_is_missing(tmp_path: Path) -> None:
    zombie = TableWriter(tmp_path, PLAIN, "app")
    zombie.write(rows(0, 5), end=5)
    TableWriter(tmp_path, PLAIN, "app").write(rows(5, 8), end=8)
    assert zombie.write(rows(5, 8), end=8) == 0
    assert zombie.write(rows(5, 10), end=10) == 2
    assert numbers(tmp_path) == list(range(10))


def test_writers_racing_for_one_app_never_store_a_row_twice(tmp_path: Path) -> None:
    def run(_: int) -> None:
        writer = TableWriter(tmp_path, PLAIN, "app")
        while (start := writer.committed()) < 60:
            try:
                writer.write(rows(start, start + 5), end=start + 5)
            except FencedError:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert numbers(tmp_path) == list(range(60))


def test_racing_creators_both_end_well(tmp_path: Path) -> None:
    for round_ in range(4):
        spec = TableSpec(f"t{round_}")

        def create(app: str, spec: TableSpec = spec) -> int:
            return TableWriter(tmp_path, spec, app).write(rows(0, 3, **{app: 1}), end=3)

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(create, ["a", "b", "c"])) == [3, 3, 3]
        stored = Catalog(tmp_path).read(spec.name)
        assert sorted(stored["n"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert [stored[app].sum() for app in "abc"] == [3, 3, 3]


def test_opening_with_another_spec_is_a_conflict(tmp_path: Path) -> None:
    TableWriter(tmp_path, TableSpec("t", key=("n",)), "app").write(rows(0, 1, day="x"), end=1)
    TableWriter(tmp_path, TableSpec("t", key=("n",)), "app")
    for spec in (PLAIN, TableSpec("t", key=("day",)), TableSpec("t", ("day",), ("n",))):
        with pytest.raises(ConflictError, match="table 't' exists with"):
            TableWriter(tmp_path, spec, "app")


def test_impossible_specs_are_refused() -> None:
    with pytest.raises(DataError, match="'a/b' is not allowed"):
        TableSpec("a/b")
    with pytest.raises(PipelineError, match="twice"):
        TableSpec("t", key=("a", "a"))
    with pytest.raises(PipelineError, match="reserved column '_offset'"):
        TableSpec("t", partition_by=("_offset",))


@pytest.mark.parametrize(
    "property_",
    [{"delta.enableDeletionVectors": "true"}, {"delta.columnMapping.mode": "name"}],
    ids=["vectors", "mapping"],
)
def test_tables_with_deletion_vectors_or_column_mapping_are_refused(tmp_path: Path, property_: dict[str, str]) -> None:
    TableWriter(tmp_path, PLAIN, "app").write(rows(0, 1), end=1)
    log = tmp_path / "t" / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"] |= property_
    log.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(ConflictError, match=r"deletionVectors|columnMapping"):
        TableWriter(tmp_path, PLAIN, "app")
    with pytest.raises(ConflictError, match="does not read"):
        Catalog(tmp_path).read("t")


def test_a_log_that_can_not_be_read_is_corruption(tmp_path: Path) -> None:
    TableWriter(tmp_path, PLAIN, "app").write(rows(0, 1), end=1)
    (tmp_path / "t" / "_delta_log" / f"{0:020}.json").write_text("{broken")
    with pytest.raises(CorruptionError, match="table 't' can't be opened"):
        TableWriter(tmp_path, PLAIN, "app")


def test_a_new_column_is_null_in_old_rows_and_an_absent_one_null_in_new_rows(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    writer.write(rows(0, 1, old="o"), end=1)
    writer.write(rows(1, 2, new=1.5, pair={"x": 1}), end=2)
    stored = Catalog(tmp_path).read("t").sort("n")
    assert stored["old"].to_list() == ["o", None]
    assert stored["new"].to_list() == [None, 1.5]
    assert stored["pair"].to_list() == [None, {"x": 1}]


def test_schema_changes_of_other_apps_are_survived(tmp_path: Path) -> None:
    slow = TableWriter(tmp_path, PLAIN, "slow")
    slow.write(rows(0, 1), end=1)

    class Interrupted(TableWriter):
        interruptions = 0

        def _store(self, state: Any, frame: pl.DataFrame, end: int) -> bool:
            self.interruptions += 1
            if self.interruptions < 3:
                TableWriter(tmp_path, PLAIN, f"x{self.interruptions}").write(
                    rows(0, 1, **{f"c{self.interruptions}": 1}), end=1
                )
            return super()._store(state, frame, end)

    writer = Interrupted(tmp_path, PLAIN, "slow")
    assert writer.write(rows(1, 2), end=2) == 1
    assert writer.interruptions == 3
    assert numbers(tmp_path) == [0, 0, 0, 1]


def test_an_all_null_column_adopts_the_tables_type_or_string(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    writer.write(rows(0, 1, typed=1, unknown=None), end=1)
    writer.write(rows(1, 2, typed=None, unknown="s"), end=2)
    assert Catalog(tmp_path).read("t").sort("n").rows() == [(0, 1, None), (1, None, "s")]


def test_values_that_fit_are_widened(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    writer.write(rows(0, 1, big=pl.Series([1], dtype=pl.Int64), real=1.5), end=1)
    writer.write(rows(1, 2).with_columns(big=pl.lit(7, pl.Int8), real=pl.lit(3, pl.Int64)), end=2)
    assert Catalog(tmp_path).read("t").sort("n").select("big", "real").rows() == [(1, 1.5), (7, 3.0)]


@pytest.mark.parametrize(
    ("value", "expected", "got"),
    [
        (pl.lit("1.5"), "Float64", "String"),
        (pl.lit(2**53 + 1, pl.Int64), "Float64", "Int64"),
        (pl.lit(True), "Float64", "Boolean"),
        (pl.lit(datetime(2024, 1, 1)), "Float64", "Datetime"),
    ],
)
def test_a_cast_that_would_change_values_is_refused_by_name(
    tmp_path: Path, value: pl.Expr, expected: str, got: str
) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    writer.write(rows(0, 1, price=1.5), end=1)
    with pytest.raises(DataError, match=f"column 'price': expected {expected}, got {got}"):
        writer.write(rows(1, 2).with_columns(price=value), end=2)
    assert writer.committed() == 1
    assert writer.write(rows(1, 2, price=2.5), end=2) == 1


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (pl.lit(1, pl.Int32), pl.lit(1, pl.Int64)),
        (pl.lit(1, pl.Int64), pl.lit(1.0)),
        (pl.lit(1.5, pl.Float32), pl.lit(1.5, pl.Float64)),
        (pl.lit(2**64 - 1, pl.UInt64), None),
        (pl.struct(a=1), pl.struct(a=1, b=2)),
        (pl.lit([1]), pl.lit(["x"])),
    ],
)
def test_narrowing_is_refused(tmp_path: Path, first: pl.Expr, then: pl.Expr | None) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    start = 0
    if then is not None:
        writer.write(rows(0, 1).with_columns(c=first), end=1)
        start = 1
    with pytest.raises(DataError, match="column 'c': expected"):
        writer.write(rows(start, start + 1).with_columns(c=first if then is None else then), end=start + 1)


@pytest.mark.parametrize(
    "bad", [pl.lit(1).cast(pl.Duration), pl.lit(datetime(2024, 1, 1)).cast(pl.Datetime("ns"))], ids=["duration", "ns"]
)
def test_types_without_a_place_in_delta_are_refused(tmp_path: Path, bad: pl.Expr) -> None:
    with pytest.raises(DataError, match="column 'c' has type"):
        TableWriter(tmp_path, PLAIN, "app").write(rows(0, 1).with_columns(c=bad), end=1)
    assert not (tmp_path / "t").exists()


def test_reserved_names_and_names_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    with pytest.raises(DataError, match="'_time' is reserved"):
        writer.write(rows(0, 1, _time=1), end=1)
    with pytest.raises(DataError, match="'a' and 'A' differ only in case"):
        writer.write(rows(0, 1, a=1, A=1), end=1)
    writer.write(rows(0, 1, a=1), end=1)
    with pytest.raises(DataError, match="'A' differs from the table's 'a' only in case"):
        writer.write(rows(1, 2, A=1), end=2)


def test_offsets_must_be_there_and_below_the_end(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, PLAIN, "app")
    with pytest.raises(DataError, match="offset 4, not below the write's end 4"):
        writer.write(rows(0, 5), end=4)
    with pytest.raises(DataError, match="'_offset' must be Int64"):
        writer.write(pl.DataFrame({"n": [1]}), end=1)


def test_points_in_time_come_back_in_utc_whatever_they_were(tmp_path: Path) -> None:
    instant = datetime(2024, 7, 1, 12, tzinfo=UTC)
    writer = TableWriter(tmp_path, PLAIN, "app")
    frame = rows(0, 1).with_columns(
        aware=pl.lit(instant.astimezone(ZoneInfo("Europe/Berlin"))),
        naive=pl.lit(instant.replace(tzinfo=None)).cast(pl.Datetime("ms")),
    )
    writer.write(frame, end=1)
    stored = Catalog(tmp_path).read("t")
    assert stored.select("aware", "naive").row(0) == (instant, instant)
    assert stored.schema["naive"] == pl.Datetime("us", "UTC")


def test_types_survive_the_round_trip(tmp_path: Path) -> None:
    frame = rows(0, 2).with_columns(
        u8=pl.lit(255, pl.UInt8),
        category=pl.lit("c").cast(pl.Categorical),
        day=pl.lit(date(1969, 12, 31)),
        raw=pl.lit(b"\x00\xff"),
        money=pl.lit("1.25").cast(pl.Decimal(10, 2)),
        yes=pl.Series([True, None]),
        many=pl.Series([[1, None], []], dtype=pl.List(pl.Int64)),
        nested=pl.struct(a=pl.lit(1), b=pl.struct(c=pl.lit("x"))),
        real=pl.Series([float("inf"), float("nan")]),
    )
    TableWriter(tmp_path, PLAIN, "app").write(frame, end=2)
    stored = Catalog(tmp_path).read("t")
    assert stored.drop("n", "u8", "category").equals(frame.select(stored.columns).drop("n", "u8", "category"))
    assert stored["u8"].to_list() == [255, 255]
    assert stored["category"].to_list() == ["c", "c"]


def test_times_far_out_do_not_break_the_statistics(tmp_path: Path) -> None:
    far = rows(0, 1).with_columns(t=pl.lit(-(1 << 62)).cast(pl.Datetime("us", "UTC")))
    TableWriter(tmp_path, PLAIN, "app").write(far, end=1)
    assert DeltaTable(tmp_path / "t").count() == 1


def test_handles_stay_right_across_checkpoints(tmp_path: Path) -> None:
    other = TableWriter(tmp_path, PLAIN, "other")
    other.write(rows(0, 1), end=1)
    writer = TableWriter(tmp_path, PLAIN, "app")
    for offset in range(CHECKPOINT_EVERY + 10):
        assert writer.write(rows(offset, offset + 1), end=offset + 1) == 1
    assert len(list((tmp_path / "t" / "_delta_log").glob("*.checkpoint.parquet"))) == 1
    assert other.committed() == 1
    assert other.write(rows(0, 2), end=2) == 1
    assert TableWriter(tmp_path, PLAIN, "app").committed() == CHECKPOINT_EVERY + 10
    assert len(numbers(tmp_path)) == CHECKPOINT_EVERY + 12


def test_check_refuses_a_partition_value_that_can_be_no_folder(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, TableSpec("t", partition_by=("day",)), "app")
    writer.check(pl.DataFrame({"_offset": [0], "day": ["monday"]}))
    with pytest.raises(DataError, match="too long for a folder name"):
        writer.check(pl.DataFrame({"_offset": [0, 1], "day": ["monday", "x" * 300]}))
