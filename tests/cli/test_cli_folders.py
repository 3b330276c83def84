"""Folders that can't be used, or only be read: an error with a hint from every command, never a traceback."""

from pathlib import Path

import pytest
from cli.command import ok, refused, shell

import streamflow as sf
from streamflow.stores.widerow import SetCell, WideRowStore

LOOKING = [
    "status",
    "topic list",
    "topic tail visits",
    "sub list",
    "dead-letter list",
    "sql",
    "sql 'select * from t'",
    "row",
    "row s k",
]
CHANGING = [
    "topic create new",
    "topic end visits",
    "topic publish visits --end",
    "sub create s -t visits",
    "run job.py",
    "reset p --yes",
]
JOB = "import streamflow as sf\np = sf.Pipeline('p')\np | sf.Create([1]) | sf.Map(str)\n"


@pytest.fixture
def filled(folder: Path) -> Path:
    """A folder with a topic, a table and a row store, without anyone at work."""
    (folder / "job.py").write_text(JOB)
    log = sf.open_log(folder / "data")
    log.create_topic("visits", sf.TopicConfig(partitions=1))
    sf.Publisher(log, "visits").publish_batch([b'{"n": 1}'])
    log.close()
    with sf.Pipeline("p", on=folder / "data") as p:
        p | sf.Create([{"a": 1}]) | sf.AsColumns({"a": int}) | sf.WriteToTable("t")
    with WideRowStore(folder / "data" / "rows" / "s") as store:
        store.mutate(b"k", [SetCell("f", b"c", 1, b"v")])
    return folder


def protect(folder: Path, mode: str) -> None:
    ok(f"chmod -R {mode} data", folder)


def test_a_folder_that_may_only_be_read_can_be_looked_into_and_not_changed(filled: Path) -> None:
    protect(filled, "a-w")
    try:
        done = shell(
            "; ".join(f"streamflow {command} --data data < /dev/null || echo FAILED" for command in LOOKING), filled
        )
        assert "FAILED" not in done.stdout
        assert done.stderr == ""
        assert '"n":1' in done.stdout
        done = shell("; ".join(f"streamflow {command} --data data < /dev/null" for command in CHANGING), filled)
        assert done.stderr.count("can only be read: its files may not be written to. Change") == len(CHANGING)
        assert "Traceback" not in done.stderr
    finally:
        protect(filled, "u+w")


def test_who_may_only_read_sees_what_another_process_is_writing(filled: Path) -> None:
    with sf.Publisher(log := sf.open_log(filled / "data"), "visits") as publisher:
        publisher.publish_batch([b'{"n": 2}'])
        protect(filled, "a-w")
        try:
            assert '"n":2' in ok("streamflow topic tail visits --data data", filled)
        finally:
            protect(filled, "u+w")
        publisher.publish_batch([b'{"n": 3}'])
        log.close()


def test_a_folder_without_any_permission_is_refused(filled: Path) -> None:
    (filled / "data").chmod(0)
    try:
        lines = "; ".join(
            f"streamflow {command} --data data < /dev/null; echo code $?" for command in LOOKING[:3] + CHANGING[:1]
        )
        done = shell(lines, filled)
        assert "code 0" not in done.stdout
        assert "Traceback" not in done.stderr
    finally:
        (filled / "data").chmod(0o755)


COMMANDS = ["status", "topic list", "topic create x", "topic end x", "sql", "row", "run job.py", "stop p", "reset p"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing"])
def test_a_place_that_can_not_be_a_folder_is_refused(command: str, place: str, folder: Path) -> None:
    (folder / "file").touch()
    (folder / "job.py").write_text(JOB)
    said = refused(*command.split(), "--data", place)
    assert place in said
    assert said.startswith("error: ")


def test_tables_and_rows_of_a_run_with_its_log_in_memory_can_be_looked_at(folder: Path) -> None:
    with sf.Pipeline(data=folder / "data") as p:
        p | sf.Create([{"a": 41}]) | sf.AsColumns({"a": int}) | sf.WriteToTable("t")
    assert "41" in ok("streamflow sql 'select a from t' --data data", folder)
    assert "holds no StreamFlow data" in refused("status", "--data", str(folder / "data"))
