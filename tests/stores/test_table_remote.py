"""The Delta library in a process of its own: what it is asked, what it answers, and that it is quick to start."""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, Field, Schema
from hypothesis import given, settings
from hypothesis import strategies as st
from small_frames import rows

from streamflow.base.errors import ConflictError, CorruptionError, DataError, StreamFlowError
from streamflow.stores.table import TableSpec, TableWriter, library
from streamflow.stores.table.delta_schema import from_delta, to_delta
from streamflow.stores.table.remote import ask

PLAIN = TableSpec("t")

SIMPLE = [pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.Float32(), pl.Float64(), pl.Boolean(), pl.String()]
OTHERS = [pl.Binary(), pl.Date(), pl.Datetime("us", "UTC"), pl.Datetime("us"), pl.Decimal(10, 2), pl.Decimal(38, 0)]
NAMES = st.sampled_from(["a", "b c", "ä", "d.e", 'q"'])
TYPES = st.recursive(
    st.sampled_from(SIMPLE + OTHERS),
    lambda inner: (
        st.builds(pl.List, inner) | st.builds(pl.Struct, st.dictionaries(NAMES, inner, min_size=1, max_size=3))
    ),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, TYPES, min_size=1))
def test_schemas_are_translated_as_the_library_does(schema: dict[str, pl.DataType]) -> None:
    theirs = Schema.from_arrow(pl.Schema(schema))
    assert Schema.from_json(to_delta(schema)) == theirs
    assert from_delta("t", theirs.to_json()) == schema == dict(pl.Schema(theirs))


def test_a_table_with_a_column_that_no_frame_has_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    kind = '{"type":"map","keyType":"string","valueType":"long","valueContainsNull":true}'
    schema = Schema.from_json(
        f'{{"type":"struct","fields":[{{"name":"m","type":{kind},"nullable":true,"metadata":{{}}}}]}}'
    )
    DeltaTable.create(tmp_path / "t", schema)
    with pytest.raises(ConflictError, match="table 't' has a column of type map"):
        TableWriter(tmp_path, PLAIN, "app")


def test_a_table_that_needs_a_newer_writer_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    configuration: dict[str, str | None] = {"delta.enableChangeDataFeed": "true"}
    DeltaTable.create(tmp_path / "t", Schema([Field("n", "long")]), configuration=configuration)
    with pytest.raises(ConflictError, match="requires Delta writer version"):
        TableWriter(tmp_path, PLAIN, "app")


def test_what_the_library_says_when_it_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(StreamFlowError, match=r"table 't': .* ended with 1 on 'create': ValueError: expected"):
        ask(tmp_path / "t", "create", app="a", schema="not a schema", name="t", partition_by=[], configuration={})
    assert not (tmp_path / "t").exists()


def test_a_column_that_another_writer_adds_in_other_case_meanwhile_is_not_added_beside_it(tmp_path: Path) -> None:
    class Slow(TableWriter):
        """Is overtaken by another app between its refresh and its change of the schema."""

        def _ask(self, do: str, **values: object) -> object:
            if do == "add_columns":
                TableWriter(tmp_path, PLAIN, "fast").write(rows(0, 1, NEW=1), end=1)
            return super()._ask(do, **values)

    writer = Slow(tmp_path, PLAIN, "slow")
    writer.write(rows(0, 1), end=1)
    with pytest.raises(DataError, match="'new' differs from the table's 'NEW' only in case"):
        writer.write(rows(1, 2, new=1), end=2)
    assert [field.name for field in DeltaTable(tmp_path / "t").schema().fields] == ["n", "NEW"]


@pytest.mark.parametrize("remade", [False, True])
def test_a_table_that_is_removed_before_a_column_is_added_is_not_begun_anew(tmp_path: Path, remade: bool) -> None:
    class Unlucky(TableWriter):
        def _ask(self, do: str, **values: object) -> object:
            if do == "add_columns":
                shutil.rmtree(tmp_path / "t")
                if remade:
                    DeltaTable.create(tmp_path / "t", Schema([Field("n", "long")]))
            return super()._ask(do, **values)

    writer = Unlucky(tmp_path, PLAIN, "app")
    for offset in range(3):
        writer.write(rows(offset, offset + 1), end=offset + 1)
    with pytest.raises(CorruptionError, match="Was its folder removed"):
        writer.write(rows(3, 4, new=1), end=4)


def test_the_librarys_process_loads_nothing_of_ours() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print({m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, library.__file__], capture_output=True, text=True, check=True
    )
    assert "'deltalake'" in done.stdout
    assert not {name for name in ("streamflow", "polars", "pyarrow") if f"'{name}'" in done.stdout}
