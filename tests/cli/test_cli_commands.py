"""The commands as users type them: help that teaches, results, errors with a hint."""

import json
from pathlib import Path

import pytest
from cli.command import call, ok, refused, shell, told
from typer import Typer

import streamflow as sf
from streamflow.cli.main import app
from streamflow.stores.widerow import SetCell, WideRowStore

COMMANDS = [
    "run",
    "worker",
    "scale",
    "restart",
    "stop",
    "reset",
    "status",
    "explain",
    "sql",
    "row",
    "why",
    "workers",
    "pubsub-server",
]
GROUPS = {
    "topic": ["list", "create", "describe", "alter", "delete", "publish", "end", "tail"],
    "sub": ["list", "create", "describe", "alter", "delete", "detach", "seek", "pull", "tail", "ack", "nack", "push"],
    "sub snapshot": ["list", "create", "delete"],
    "dead-letter": ["list", "show", "replay"],
    "autoscale": ["explain", "what-if"],
    "cluster": ["status", "stop", "reset"],
}
IN_GROUPS = [f"{group} {name}" for group, names in GROUPS.items() for name in names]


@pytest.mark.parametrize("command", [*COMMANDS, *IN_GROUPS])
def test_every_command_teaches_by_example(command: str) -> None:
    text = told(*command.split(), "-h")
    assert "Example" in text
    assert f"streamflow {command}" in text.split("Example")[1]
    assert text == told(*command.split(), "--help")


def test_help_lists_every_command_and_no_other() -> None:
    text = told("-h")
    assert all(command in text for command in [*COMMANDS, *(group.split()[0] for group in GROUPS)])
    assert _registered(app) == len([*COMMANDS, *IN_GROUPS])


def _registered(group: Typer) -> int:
    inner = [each.typer_instance for each in group.registered_groups]
    return len(group.registered_commands) + sum(_registered(each) for each in inner if each is not None)


def test_version_is_that_of_the_package() -> None:
    assert told("--version") == f"streamflow {sf.__version__}\n"


def test_readme_example_works_as_it_is_printed(tmp_path: Path) -> None:
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    blocks = [block.split("\n", 1) for block in readme.split("```")[1::2]]
    (code,) = [text for kind, text in blocks if kind == "python" and text.startswith("# visits.py")]
    (lines,) = [text for kind, text in blocks if kind == "sh" and "visits.py" in text]
    (tmp_path / "visits.py").write_text(code)
    outputs = [ok(line, tmp_path) for line in lines.strip().splitlines()]
    assert outputs[-1].split()[-2:] == ["1", "12"]
    assert json.loads(
        ok("streamflow sql --data data --json 'select page, visits, slowest from visits_by_minute'", tmp_path)
    ) == [{"page": "/", "visits": 1, "slowest": 12}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "x.py", "-d", "d", "--port", "70000"], "Invalid value for '--port'"),
        (["run", "x.py", "-d", "d", "--workers", "3", "--max-workers", "2"], "2 is below --workers 3"),
        (["run", "x.py", "-d", "d", "--latency", "-1"], "not a number of seconds above 0"),
        (["run", "x.py", "-d", "d", "--latency", "nan"], "not a number of seconds above 0"),
        (["row", "-d", "d", "--limit", "0"], "Invalid value for '--limit'"),
        (["topic", "tail", "x", "-d", "d", "-n", "0"], "Invalid value for '-n'"),
    ],
)
def test_flags_that_can_not_work_are_refused(arguments: list[str], said: str, folder: Path) -> None:
    assert said in refused(*arguments)
    assert not (folder / "d").exists()


def test_topics_are_listed_without_the_internal_ones_unless_all_are_asked_for(folder: Path) -> None:
    log = sf.open_log(folder / "data")
    log.create_topic("visits")
    log.create_topic("p.internal", sf.TopicConfig(partitions=1, internal=True))
    log.close()
    assert [row["topic"] for row in json.loads(told("topic", "list", "-d", "data", "--json"))] == ["visits"]
    assert "p.internal" in told("topic", "list", "-d", "data", "--all")
    assert "p.internal" not in told("topic", "list", "-d", "data")
    assert "p.internal" not in refused("topic", "tail", "q", "-d", "data")
    assert "is internal" in refused("topic", "publish", "p.internal", "-d", "data", typed=b"{}\n")
    assert "is internal" in refused("topic", "end", "p.internal", "-d", "data")


def test_creating_a_topic_again_says_that_it_exists(folder: Path) -> None:
    assert told("topic", "create", "visits", "-d", "data", "--partitions", "1") == "topic visits: 1 partition\n"
    assert told("topic", "create", "visits", "-d", "data") == "topic visits exists already: 1 partition\n"
    assert "exists already with 1 partition, not 3" in refused(
        "topic", "create", "visits", "-d", "data", "--partitions", "3"
    )


def test_a_topic_is_ended_by_its_command_and_by_an_empty_publish(folder: Path) -> None:
    for name in ("a", "b"):
        told("topic", "create", name, "-d", "data")
    assert told("topic", "publish", "a", "-d", "data", "--end") == "0 events published to a, ended\n"
    assert told("topic", "end", "b", "-d", "data") == "topic b: ended\n"
    assert told("topic", "end", "b", "-d", "data") == "topic b: was ended already\n"
    assert [row["ended"] for row in json.loads(told("topic", "list", "-d", "data", "--json"))] == [True, True]
    assert "was ended" in refused("topic", "publish", "b", "-d", "data", typed=b"{}\n")


def test_tail_prints_the_newest_events_of_all_partitions_in_the_order_of_event_time(folder: Path) -> None:
    log = sf.open_log(folder / "data")
    log.create_topic("t", sf.TopicConfig(partitions=4))
    events = [b'{"n": %d}' % n for n in range(40)]
    sf.Publisher(log, "t").publish_batch(events, [n * 1_000_000 for n in range(40)], keys=[str(n) for n in range(40)])
    log.close()
    rows = [json.loads(line) for line in told("topic", "tail", "t", "-d", "data", "-n", "5", "--json").splitlines()]
    assert [row["event"]["n"] for row in rows] == [35, 36, 37, 38, 39]
    assert rows[-1]["time"] == "1970-01-01T00:00:39Z"
    lines = told("topic", "tail", "t", "-d", "data", "-n", "2").splitlines()
    assert [line.split()[0] for line in lines] == ["1970-01-01T00:00:38Z", "1970-01-01T00:00:39Z"]
    of_one = told("topic", "tail", "t", "-d", "data", "--partition", "2", "--json").splitlines()
    assert {json.loads(line)["partition"] for line in of_one} == {2}


def test_rows_that_are_not_there_are_told_with_what_to_type(folder: Path) -> None:
    sf.open_log(folder / "my data").close()
    assert "written rows" in told("row", "-d", "my data")
    with WideRowStore(folder / "my data" / "rows" / "s") as store:
        store.mutate(b"UA#1", [SetCell("f", b"c", 1, b"v")])
    assert told("row", "s", "-d", "my data", "--prefix", "ZZ") == "no row begins with 'ZZ' in 's'\n"
    assert "`streamflow row s --prefix UA --data 'my data'`" in refused("row", "s", "UA#2", "-d", "my data")
    assert "UA#1" in told("row", "s", "-d", "my data", "--prefix", "UA")


def test_cells_are_shown_as_they_are_and_whole_where_there_is_no_terminal(folder: Path) -> None:
    sf.open_log(folder / "data").close()
    text = "[red]x[/red] " + 300 * "y"
    with WideRowStore(folder / "data" / "rows" / "s") as store:
        store.mutate(b"k", [SetCell("f", b"c", 1, text.encode())])
    assert text in told("row", "s", "-d", "data").splitlines()[1]


def test_sql_without_a_query_lists_the_tables_with_the_rows_as_stored(folder: Path) -> None:
    sf.open_log(folder / "data").close()
    assert told("sql", "-d", "data") == "no pipeline has written a table in 'data' yet\n"
    with sf.Pipeline("p", on=folder / "data") as p:
        p | sf.Create([{"a": 1}, {"a": 2}]) | sf.AsColumns({"a": int}) | sf.WriteToTable("t")
    assert told("sql", "-d", "data").splitlines()[0].split()[:2] == ["name", "stored_rows"]


def test_status_of_a_folder_in_which_nothing_has_run_says_so(folder: Path) -> None:
    told("topic", "create", "visits", "-d", "data")
    assert told("status", "-d", "data") == "no pipeline has run in 'data' yet\n"
    assert told("status", "-d", "data", "--json") == "[]\n"


def test_scale_and_stop_of_a_pipeline_that_does_not_run_say_so(folder: Path) -> None:
    with sf.Pipeline("p", on=folder / "data") as p:
        p | sf.Create([1]) | sf.Map(str)
    assert "pipeline 'p' is not running in 'data'" in refused("scale", "p", "2", "-d", "data")
    assert told("stop", "p", "-d", "data") == "p: not running\n"
    assert not sf.open_log(folder / "data").snapshot("p").stopping
    assert "There are: p." in refused("stop", "q", "-d", "data")


def test_hints_of_a_log_without_a_folder_are_in_python() -> None:
    p = sf.Pipeline("p")
    p | sf.ReadFromTopic("visits") | sf.Map(str)
    with pytest.raises(sf.NotFoundError, match=r"Create it with `log.create_topic\('visits'\)` on the log"):
        p.run()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sql 'select 1'", "there is no such folder. Give the folder that"),
        ("run streamflow.examples.flights", "Create it with `streamflow topic create flights --data 'my data'`."),
        ("topic tail x", "Create a topic in it: `streamflow topic create x --data 'my data'`."),
    ],
)
def test_mistakes_get_an_error_with_a_hint_that_can_be_pasted(line: str, said: str, tmp_path: Path) -> None:
    done = shell(f"streamflow {line} --data 'my data'", tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(wrong in done.stderr for wrong in ("..", "?.", ":."))


def test_unknown_names_are_answered_with_the_closest(folder: Path) -> None:
    told("topic", "create", "clicks", "--data", "data")
    assert "Did you mean 'clicks'?\n" in refused("topic", "tail", "click", "--data", "data")
    assert "no pipeline 'flights' here" in refused("scale", "flights", "2", "--data", "data")
    said = refused("run", "streamflow.examples.flights", "--data", "data")
    assert "There are 'clicks'. Create it with" in said


def test_port_and_host_that_can_not_be_used_are_told_apart(folder: Path) -> None:
    (folder / "job.py").write_text("import streamflow as sf\np = sf.Pipeline('p')\np | sf.Create([1]) | sf.Map(str)\n")
    run = ["run", "job.py", "-d", "data", "--until", "finished"]
    assert "no IPv4 address of this machine" in refused(*run, "--host", "192.0.2.1")
    assert "no IPv4 address of this machine" in refused(*run, "--host", "no.such.host.invalid")
    done = call(*run, "--host", "192.0.2.1", "--port", "0")
    assert "pipeline p on" not in done.stdout, "nothing is announced that does not run"
