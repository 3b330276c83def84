"""What readers of Delta tables see, and what SQL may do."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, Schema
from small_frames import rows

from streamflow.base.errors import CorruptionError, DataError, NotFoundError
from streamflow.stores.table import Catalog, TableInfo, TableSpec, TableWriter

KEYED = TableSpec("latest", key=("k",))


def keyed(offsets: list[int], keys: list[object], values: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"_offset": offsets, "k": keys, "v": values})


def test_a_keyed_table_shows_the_newest_row_of_each_key(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, KEYED, "app")
    writer.write(keyed([0, 1, 2, 3], ["a", "b", "a", "a"], [1, 2, 3, 4]), end=4)
    writer.write(keyed([4, 5], ["b", "c"], [5, 6]), end=6)
    stored = Catalog(tmp_path).read("latest")
    assert stored.columns == ["k", "v"]
    assert sorted(stored.rows()) == [("a", 4), ("b", 5), ("c", 6)]


def test_newest_means_highest_offset_then_last_in_the_frame(tmp_path: Path) -> None:
    TableWriter(tmp_path, KEYED, "app").write(keyed([7, 3, 7], ["a", "a", "a"], [1, 2, 3]), end=8)
    assert Catalog(tmp_path).read("latest").rows() == [("a", 3)]


def test_null_is_a_key_like_any_other(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, KEYED, "app")
    writer.write(keyed([0, 1], ["a", None], [1, 2]), end=2)
    writer.write(keyed([2], [None], [3]).with_columns(pl.col("k").cast(pl.String)), end=3)
    assert sorted(Catalog(tmp_path).read("latest")["v"]) == [1, 3]


def test_an_absent_key_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="key column 'k' is not in the frame"):
        TableWriter(tmp_path, KEYED, "app").write(rows(0, 1), end=1)


def test_offsets_are_stored_only_with_a_key(tmp_path: Path) -> None:
    TableWriter(tmp_path, KEYED, "app").write(keyed([0], ["a"], [1]), end=1)
    TableWriter(tmp_path, TableSpec("all"), "app").write(rows(0, 1), end=1)
    assert [f.name for f in DeltaTable(tmp_path / "latest").schema().fields] == ["_offset", "k", "v"]
    assert [f.name for f in DeltaTable(tmp_path / "all").schema().fields] == ["n"]


def test_partition_values_come_back_as_they_were_and_prune_files(tmp_path: Path) -> None:
    values = ["a b", "x/y", "a=b", "ü", "%", "?#", None, "__x", "..", "it's", "[a]*", "NULL"]
    frame = pl.DataFrame({"_offset": range(len(values)), "p": values, "v": range(len(values))})
    TableWriter(tmp_path, TableSpec("t", partition_by=("p",)), "app").write(frame, end=len(values))
    catalog = Catalog(tmp_path)
    assert catalog.sql("SELECT p, v FROM t ORDER BY v").rows() == list(zip(values, range(len(values)), strict=True))
    plan = catalog.sql("EXPLAIN ANALYZE SELECT v FROM t WHERE p = 'ü'")[0, 1]
    assert f"Scanning Files: 1/{len(values)}" in plan
    assert catalog.tables()[0].partitions == len(values)


def test_partition_columns_keep_their_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"_offset": [0, 1], "day": [date(2024, 1, 2), None], "hour": [7, None], "hot": [True, None], "v": [1, 2]}
    )
    TableWriter(tmp_path, TableSpec("t", partition_by=("day", "hour", "hot")), "app").write(frame, end=2)
    stored = Catalog(tmp_path).sql("SELECT day, hour, hot, v FROM t ORDER BY v")
    assert stored.equals(frame.drop("_offset"))
    pruned = Catalog(tmp_path).sql("EXPLAIN ANALYZE SELECT v FROM t WHERE day >= DATE '2024-01-01'")[0, 1]
    assert "Scanning Files: 1/2" in pruned


def test_an_empty_string_in_a_partition_column_is_null_as_delta_has_it(tmp_path: Path) -> None:
    frame = pl.DataFrame({"_offset": [0, 1], "p": ["", None], "v": [1, 2]})
    TableWriter(tmp_path, TableSpec("t", partition_by=("p",)), "app").write(frame, end=2)
    assert Catalog(tmp_path).read("t")["p"].to_list() == [None, None]
    assert Catalog(tmp_path).tables()[0].files == 1


@pytest.mark.parametrize(
    ("column", "message"), [(1.5, "has type Float64, expected a string"), ("x" * 300, "too long for a folder name")]
)
def test_columns_that_can_not_be_folders_are_refused(tmp_path: Path, column: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TableWriter(tmp_path, TableSpec("t", partition_by=("p",)), "app").write(rows(0, 1, p=column), end=1)


def test_any_delta_reader_reads_the_table(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path, TableSpec("t", partition_by=("p",)), "app")
    writer.write(rows(0, 2, p="a b"), end=2)
    assert sorted(pl.read_delta(str(tmp_path / "t"), pyarrow_options=None)["n"]) == [0, 1]


def test_an_empty_table_answers_with_its_schema(tmp_path: Path) -> None:
    schema = pl.Schema({"a": pl.Int64(), "s": pl.Struct({"x": pl.List(pl.String())}), "t": pl.Datetime("us", "UTC")})
    DeltaTable.create(tmp_path / "t", Schema.from_arrow(schema))
    stored = Catalog(tmp_path).read("t")
    assert stored.schema == schema
    assert stored.is_empty()
    assert Catalog(tmp_path).tables() == [TableInfo("t", (), (), 0, 0, 0, 0, 0)]


def test_tables_tells_what_is_there(tmp_path: Path) -> None:
    assert Catalog(tmp_path / "missing").tables() == []
    TableWriter(tmp_path, TableSpec("b", partition_by=("p",)), "app").write(rows(0, 2, p="x"), end=2)
    TableWriter(tmp_path, KEYED, "app").write(keyed([0, 1], ["a", "b"], [1, 2]), end=2)
    first, second = Catalog(tmp_path).tables()
    assert (first.name, first.partition_by, first.rows, first.files, first.partitions) == ("b", ("p",), 2, 1, 1)
    assert (second.name, second.key, second.rows, second.version) == ("latest", ("k",), 2, 1)
    assert second.bytes == sum(path.stat().st_size for path in (tmp_path / "latest").glob("*.parquet"))


def test_an_unknown_table_is_named_with_the_closest_ones(tmp_path: Path) -> None:
    TableWriter(tmp_path, TableSpec("flights_daily"), "app").write(rows(0, 1), end=1)
    with pytest.raises(NotFoundError, match=r"'flight_daily' does not exist\. Did you mean 'flights_daily'\?"):
        Catalog(tmp_path).sql("SELECT * FROM flight_daily")
    with pytest.raises(NotFoundError, match="'nope' does not exist"):
        Catalog(tmp_path).sql("SELECT * FROM flights_daily JOIN nope USING (n)")
    with pytest.raises(NotFoundError, match="There are none yet"):
        Catalog(tmp_path / "missing").read("t")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM t", 'column "nope" not found'),
        ("SELECT n + 'x' FROM t", "Could not convert"),
        ("CREATE TABLE x AS SELECT 1", "expected one SELECT statement, got CREATE"),
        ("DROP VIEW t", "got DROP"),
        ("COPY t TO 'x.csv'", "got COPY"),
        ("INSTALL httpfs", "expected one SELECT"),
        ("SELECT 1; SELECT 2", "got SELECT, SELECT"),
        ("", "got nothing"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission Error"),
        ("SELECT * FROM '/etc/passwd.parquet'", "Permission Error|does not exist"),
        ("SELECT INTERVAL 1 DAY AS i", "column 'i' of the result has type INTERVAL"),
        ("SELECT 1 AS a, 2 AS a", "two columns of the same name"),
    ],
)
def test_what_is_wrong_with_a_query_is_told(tmp_path: Path, query: str, message: str) -> None:
    TableWriter(tmp_path, TableSpec("t"), "app").write(rows(0, 1), end=1)
    with pytest.raises((DataError, NotFoundError), match=message):
        Catalog(tmp_path).sql(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM T",
        'SELECT count(*) FROM "my-table"',
        "WITH c AS (FROM t) SELECT count(*) FROM c, t",
        "SELECT count(*) FROM t JOIN (SELECT n FROM t) USING (n)",
        "PIVOT t ON n USING count(*)",
        "DESCRIBE t",
        "SUMMARIZE t",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM t",
        "SELECT (SELECT max(n) FROM t) FROM range(3)",
        "SELECT count(*) FROM duckdb_settings()",
        "SELECT count(*) FROM information_schema.tables",
        "  -- a comment\n SELECT * FROM t;",
    ],
)
def test_every_kind_of_select_works(tmp_path: Path, query: str) -> None:
    for name in ("t", "my-table"):
        TableWriter(tmp_path, TableSpec(name), "app").write(rows(0, 2), end=2)
    assert Catalog(tmp_path, threads=1, memory_mb=256).sql(query).height > 0


def test_sums_of_integers_are_integers_while_they_fit(tmp_path: Path) -> None:
    TableWriter(tmp_path, TableSpec("t"), "app").write(rows(0, 3), end=3)
    result = Catalog(tmp_path).sql("SELECT sum(n) AS total, sum(n + 9223372036854775800) AS huge FROM t")
    assert result.schema["total"] == pl.Int64
    assert result["total"].item() == 3
    assert result["huge"].item() == 3 * 9223372036854775800 + 3


def test_times_are_read_in_utc(tmp_path: Path) -> None:
    frame = rows(0, 1).with_columns(t=pl.lit(datetime(2024, 7, 1, 23, 30, tzinfo=UTC)))
    TableWriter(tmp_path, TableSpec("t"), "app").write(frame, end=1)
    result = Catalog(tmp_path).sql("SELECT t, t::DATE AS day, hour(t) AS hour, date_trunc('day', t) AS start FROM t")
    assert result.row(0) == (
        datetime(2024, 7, 1, 23, 30, tzinfo=UTC), date(2024, 7, 1), 23, datetime(2024, 7, 1, tzinfo=UTC)
    )  # fmt: skip


def test_a_missing_data_file_is_corruption(tmp_path: Path) -> None:
    TableWriter(tmp_path, TableSpec("t"), "app").write(rows(0, 1), end=1)
    for path in (tmp_path / "t").glob("*.parquet"):
        path.unlink()
    with pytest.raises(CorruptionError, match="can't be read"):
        Catalog(tmp_path).read("t")


def test_folders_with_special_characters_are_read(tmp_path: Path) -> None:
    root = tmp_path / "it's [odd] * ? ü"
    TableWriter(root, TableSpec("t"), "app").write(rows(0, 2), end=2)
    assert sorted(Catalog(root).read("t")["n"]) == [0, 1]
    with pytest.raises(DataError, match="because of the '%' in its path"):
        TableWriter(tmp_path / "50%20", TableSpec("t"), "app")


def test_only_the_tables_that_a_query_names_are_opened(tmp_path: Path) -> None:
    TableWriter(tmp_path, TableSpec("good"), "app").write(rows(0, 1), end=1)
    (tmp_path / "bad" / "_delta_log").mkdir(parents=True)
    (tmp_path / "bad" / "_delta_log" / f"{0:020}.json").write_text("{broken")
    assert Catalog(tmp_path).read("good").height == 1
    with pytest.raises(CorruptionError):
        Catalog(tmp_path).read("bad")
