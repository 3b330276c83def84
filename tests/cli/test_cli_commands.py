"""The commands as users type them: help that teaches, results, errors with a hint."""

import json
import shlex
from pathlib import Path

import pytest
from cli.command import ok, shell

COMMANDS = ["run", "worker", "scale", "stop", "reset", "status", "explain", "sql", "row"]
TOPIC_COMMANDS = ["list", "create", "publish", "tail"]


@pytest.mark.parametrize("command", [*COMMANDS, *(f"topic {name}" for name in TOPIC_COMMANDS)])
def test_every_command_teaches_by_example(command: str, tmp_path: Path) -> None:
    text = ok(f"streamflow {command} --help", tmp_path)
    assert "Example" in text
    assert f"streamflow {command}" in text.split("Example")[1]


def test_help_lists_every_command(tmp_path: Path) -> None:
    text = ok("streamflow --help", tmp_path)
    assert all(command in text for command in [*COMMANDS, "topic"])


def test_readme_example_works_as_it_is_printed(tmp_path: Path) -> None:
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    blocks = [block.split("\n", 1) for block in readme.split("```")[1::2]]
    (code,) = [text for kind, text in blocks if kind == "python" and text.startswith("# visits.py")]
    (lines,) = [text for kind, text in blocks if kind == "sh" and "visits.py" in text]
    (tmp_path / "visits.py").write_text(code)
    outputs = [ok(line, tmp_path) for line in lines.strip().splitlines()]
    assert outputs[-1].split()[-3:] == ["/", "1", "12"] or "/" in outputs[-1]
    assert json.loads(
        ok("streamflow sql --data data --json 'select page, visits, slowest from visits_by_minute'", tmp_path)
    ) == [{"page": "/", "visits": 1, "slowest": 12}]


BAD = [
    '{"user": "ann", "page": "/", "ms": 1}',
    '{"user": "ann", "page": ',
    '{"user": "ann", "ms": 2}',
    '{"user": "ann", "page": 7, "ms": 3}',
    '{"user": "ann", "page": null, "ms": 3}',
    '{"user": "eve", "page": "/raise", "ms": 4}',
    '{"user": "bob", "page": "/b", "ms": null}',
]

PIPELINE = """
from typing import TypedDict
import streamflow as sf

class Visit(TypedDict):
    user: str
    page: str
    ms: int | None

def checked(visit):
    if visit["page"] == "/raise":
        raise ValueError("no such page")
    return visit

pipeline = sf.Pipeline("visits")
visits = pipeline | sf.ReadFromTopic("visits", schema=Visit)
(
    visits
    | sf.Map(checked)
    | sf.AsColumns(Visit)
    | sf.WindowInto(sf.FixedWindows(86400))
    | sf.Aggregate(by=["page"], visits=sf.Count())
    | sf.WriteToTable("by_page")
)
"""


def test_bad_events_go_to_the_dead_letter_topic_and_the_workers_live_on(tmp_path: Path) -> None:
    (tmp_path / "visits.py").write_text(PIPELINE)
    (tmp_path / "events").write_text("\n".join(BAD) + "\n")
    ok("streamflow topic create visits --data data --partitions 1", tmp_path)
    ok("streamflow topic publish visits --data data --end < events", tmp_path)
    ran = shell("streamflow run visits.py --data data --until finished", tmp_path)
    assert ran.returncode == 0
    assert (tmp_path / "data" / "logs" / "visits.log").read_text() == "", "no worker had anything to complain of"
    assert "5 events failed: streamflow topic tail visits.dead-letter" in ran.stderr
    rows = json.loads(
        ok("streamflow sql --data data --json 'select page, visits from by_page order by page'", tmp_path)
    )
    assert rows == [{"page": "/", "visits": 1}, {"page": "/b", "visits": 1}]
    letters = [
        json.loads(line)["event"]
        for line in ok("streamflow topic tail visits.dead-letter --data data", tmp_path).splitlines()
    ]
    assert sorted(letter["offset"] for letter in letters) == [1, 2, 3, 4, 5]
    by_offset = {letter["offset"]: letter for letter in letters}
    assert by_offset[1]["input"] == BAD[1]
    assert "page" in by_offset[2]["error"]
    assert by_offset[5]["error"] == "ValueError: no such page"
    assert "in checked" in by_offset[5]["traceback"]
    assert by_offset[5]["transform"] == "Map(checked)"
    (status,) = json.loads(ok("streamflow status --data data --json", tmp_path))
    assert status["dead_lettered"] == 5
    assert status["backlog_events"] == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("streamflow sql --data data 'select 1'", "holds no StreamFlow data"),
        ("streamflow run nowhere.py --data data", "no file 'nowhere.py'"),
        ("streamflow run no.such.module --data data", "no module 'no'"),
        ("streamflow run streamflow.examples.flights --data data", "topic 'flights' does not exist"),
        ("streamflow run streamflow.examples.flights:pipelin --data data", "It has: pipeline"),
        ("streamflow run streamflow.examples --data data", "Define `pipeline"),
    ],
)
def test_mistakes_get_an_error_with_a_hint_and_exit_code_1(line: str, told: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_names_are_answered_with_the_closest(tmp_path: Path) -> None:
    ok("streamflow topic create clicks --data data", tmp_path)
    done = shell("streamflow topic tail click --data data", tmp_path)
    assert done.returncode == 1
    assert "'clicks'" in done.stderr
    done = shell("streamflow scale flights 2 --data data", tmp_path)
    assert "no pipeline 'flights' here" in done.stderr


def test_a_changed_pipeline_is_refused_and_reset_lets_it_begin_anew(tmp_path: Path) -> None:
    (tmp_path / "visits.py").write_text(PIPELINE)
    ok("streamflow topic create visits --data data --partitions 1", tmp_path)
    ok(f"echo {shlex.quote(BAD[0])} | streamflow topic publish visits --data data --end", tmp_path)
    ok("streamflow run visits.py --data data --until finished", tmp_path)
    (tmp_path / "visits.py").write_text(PIPELINE.replace("86400", "3600"))
    done = shell("streamflow run visits.py --data data --until finished", tmp_path)
    assert done.returncode == 1
    assert "state of another shape" in done.stderr
    assert "streamflow reset visits" in done.stderr
    ok("streamflow reset visits --data data --yes", tmp_path)
    ok("streamflow run visits.py --data data --until finished", tmp_path)


def test_a_second_supervisor_of_a_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "visits.py").write_text(PIPELINE)
    ok("streamflow topic create visits --data data --partitions 1", tmp_path)
    line = "streamflow run visits.py --data data --port 0 --quiet & pid=$!; sleep 3; "
    done = shell(
        f"{line} streamflow run visits.py --data data --port 0; echo code $?; kill -INT $pid; wait $pid", tmp_path
    )
    assert "already supervised" in done.stderr
    assert "code 1" in done.stdout
    assert done.returncode == 0


def test_stop_drains_a_pipeline_and_reset_is_refused_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "visits.py").write_text(PIPELINE)
    ok("streamflow topic create visits --data data --partitions 1", tmp_path)
    done = shell(
        "streamflow run visits.py --data data --port 0 --quiet & pid=$!; sleep 3; "
        "streamflow reset visits --data data --yes; streamflow stop visits --data data; wait $pid; echo code $?",
        tmp_path,
    )
    assert "is running. Stop it first" in done.stderr
    assert "code 0" in done.stdout
    (status,) = json.loads(ok("streamflow status --data data --json", tmp_path))
    assert status["workers"] == 0
