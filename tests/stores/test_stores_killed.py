"""Processes that write stores are killed with SIGKILL at seeded moments; content is exact all the same."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from appender import content

from streamflow.stores.table import Catalog
from streamflow.stores.widerow import WideRowStore, rows_as_dicts

KILLS = 12
TOTAL = 3_000
BATCH = 25


def expected(*apps: str) -> list[tuple[object, ...]]:
    return sorted(pl.concat([content(0, TOTAL, app) for app in apps]).select("app", "n", "text").rows())


def cells(root: Path) -> list[tuple[object, ...]]:
    with WideRowStore(root / "s", readonly=True) as store:
        found = []
        for row in store.scan():
            app = row.key.decode().split("#")[0]
            texts = {cell.timestamp_us: cell.value.decode() for cell in row.families["f"][b"text"]}
            numbers = row.families["f"][b"n"]
            found += [(app, int.from_bytes(n.value, "big"), texts.pop(n.timestamp_us)) for n in numbers]
            assert not texts
        return sorted(found)


@pytest.mark.chaos
def test_a_table_is_exact_after_its_writer_was_killed_again_and_again(
    tmp_path: Path, kill_in_a_loop: Callable[..., int]
) -> None:
    chance = random.Random(7)
    delays = [chance.uniform(0.0, 0.12) for _ in range(KILLS)]
    assert kill_in_a_loop(delays, "table", tmp_path, "t", "a", TOTAL, BATCH) >= 10
    assert sorted(Catalog(tmp_path).sql("SELECT app, n, text FROM t").rows()) == expected("a")


@pytest.mark.chaos
def test_a_row_store_is_exact_after_its_writer_was_killed_again_and_again(
    tmp_path: Path, kill_in_a_loop: Callable[..., int]
) -> None:
    chance = random.Random(7)
    delays = [chance.uniform(0.0, 0.03) for _ in range(KILLS)]
    assert kill_in_a_loop(delays, "rows", tmp_path, "s", "a", TOTAL, 10) >= 10
    assert cells(tmp_path) == expected("a")


@pytest.mark.chaos
def test_files_are_exact_after_their_writer_was_killed_again_and_again(
    tmp_path: Path, kill_in_a_loop: Callable[..., int]
) -> None:
    chance = random.Random(7)
    delays = [chance.uniform(0.0, 0.03) for _ in range(KILLS)]
    assert kill_in_a_loop(delays, "files", tmp_path, "f", "a", TOTAL, 10) >= 10
    assert sorted(pl.read_csv(tmp_path / "f*.csv").select("app", "n", "text").rows()) == expected("a")
    assert list(tmp_path.glob(".*.draft")) == []


@pytest.mark.parametrize("kind", ["table", "rows"])
def test_two_processes_write_one_store(
    tmp_path: Path, kind: str, appender: Callable[..., "subprocess.Popen[str]"]
) -> None:
    processes = [appender(kind, tmp_path, "s", app, TOTAL, 200) for app in ("a", "b")]
    assert [process.wait(60) for process in processes] == [0, 0]
    if kind == "table":
        assert sorted(Catalog(tmp_path).sql("SELECT app, n, text FROM s").rows()) == expected("a", "b")
    else:
        assert cells(tmp_path) == expected("a", "b")
        with WideRowStore(tmp_path / "s", readonly=True) as store:
            assert len(rows_as_dicts(store, b"b#")) == 100
