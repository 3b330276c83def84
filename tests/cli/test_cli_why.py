"""`streamflow why` on a folder in which pipelines really ran."""

import json
import re
from pathlib import Path

import pytest
from cli.command import ok, refused, told

from streamflow.runtime.target import load_pipeline

DOCUMENT = Path(__file__).parents[2] / "docs" / "why.md"

VISITS = """
import streamflow as sf

pipeline = sf.Pipeline("visits")
visits = pipeline | sf.ReadFromTopic("visits", schema={"page": str, "at": str}, event_time="at", WATERMARK)
(
    visits
    | sf.WindowInto(sf.FixedWindows(60), allowed_lateness=60)
    | "Per minute" >> sf.Aggregate(by=["page"], n=sf.Count())
    | sf.WriteToTopic("out")
)
"""
ASK = ("why", "/", "2026-07-04T12:00", "--data", "data")


def prepare(folder: Path, watermark: str) -> None:
    (folder / "visits.py").write_text(VISITS.replace("WATERMARK", watermark))
    told("topic", "create", "visits", "--data", "data", "--partitions", "1")


def publish(*times: str, page: str = "/") -> None:
    typed = "".join(json.dumps({"page": page, "at": f"2026-07-04T{time}"}) + "\n" for time in times)
    told("topic", "publish", "visits", "--data", "data", typed=typed.encode())


def run(folder: Path, *more: str) -> None:
    ok(" ".join(["streamflow run visits.py --data data --port 0 -q --until drained", *more]), folder)


def test_why_tells_how_a_window_stands_and_what_it_took(folder: Path) -> None:
    prepare(folder, "disorder=5")
    publish("12:00:10", "12:00:41")
    run(folder, "--explain-panes")
    shown = told(*ASK)
    assert "open: it ends at 2026-07-04T12:01:00Z; the watermark is 2026-07-04T12:00:36Z, 24 s to go" in shown
    assert "visits/0: its newest event is at 2026-07-04T12:00:41Z (newest event time less 5 s)" in shown
    assert "no pane has fired yet" in shown

    publish("12:01:20", page="/cart")
    run(folder, "--explain-panes")
    publish("12:00:55")
    run(folder, "--explain-panes")
    publish("12:09:00", page="/cart")
    run(folder, "--explain-panes")
    publish("12:00:07")
    run(folder, "--explain-panes")
    found = json.loads(told(*ASK, "--json"))
    assert (found["state"], found["window"]) == ("gone", "2026-07-04T12:00:00Z/2026-07-04T12:01:00Z")
    assert [(pane["timing"], pane["events"]) for pane in found["panes"]] == [("ON_TIME", 2), ("LATE", 1)]
    assert [(row["became"], row["offset"], row["panes"], row["event"]["at"][-8:]) for row in found["rows"]] == [
        ("in time", 0, [0], "12:00:10"),
        ("in time", 1, [0], "12:00:41"),
        ("late", 3, [1], "12:00:55"),
        ("dropped", 5, [], "12:00:07"),
    ]
    shown = told(*ASK, "-n", "1")
    assert "2 events in time, the first 1" in shown
    assert "1 event dropped: the window was gone at 2026-07-04T12:02:00Z" in shown
    assert "Similar keys there: '/cart'" in refused("why", "/car", "2026-07-04T12:00", "--data", "data")
    assert "The nearest are: 2026-07-04T12:00:00Z/2026-07-04T12:01:00Z" in refused(
        "why", "/", "2026-07-04", "--data", "data"
    )


def test_why_without_a_history_tells_how_to_keep_one(folder: Path) -> None:
    prepare(folder, "disorder=5")
    publish("12:00:10")
    run(folder)
    shown = told(*ASK)
    assert "open: it ends at 2026-07-04T12:01:00Z" in shown
    assert "run the pipeline with --explain-panes" in shown
    assert json.loads(told(*ASK, "--json"))["panes"] is None


def test_markers_are_published_and_told(folder: Path) -> None:
    prepare(folder, "watermark=sf.PublishedMarkers()")
    publish("12:00:10", "12:30:00")
    run(folder)
    assert "nothing that its watermark could go by has come yet (markers published)" in told(*ASK)
    mark = ("topic", "publish", "visits", "--data", "data", "--watermark")
    told(*mark, "2026-07-04T12:01:00Z")
    run(folder)
    shown = told(*ASK)
    assert "on time, and open for late events" in shown
    assert "its last marker is 2026-07-04T12:01:00Z" in shown
    (status,) = json.loads(told("status", "--data", "data", "--json"))
    assert (status["watermark"], status["held_back_by"]) == ("2026-07-04T12:01:00Z", "visits/0")
    assert "no earlier event follows here" in told("topic", "tail", "visits", "--data", "data")
    assert "'noon' is no time" in refused(*mark, "noon")


@pytest.mark.parametrize("pipeline", [(), ("--pipeline", "hits")])
def test_unknown_pipelines_are_named(folder: Path, pipeline: tuple[str, ...]) -> None:
    prepare(folder, "disorder=5")
    said = refused(*ASK, *pipeline)
    assert "None has run in this folder yet" in said


def test_help_teaches_by_example() -> None:
    shown = told("why", "--help")
    for part in ("--explain-panes", "streamflow why /checkout 2026-07-04T12:00", "global", "--step"):
        assert part in shown


def test_what_the_documentation_shows_is_what_is_printed(folder: Path) -> None:
    """All but the wall times at which panes fired."""
    text = DOCUMENT.read_text()
    (folder / "visits.py").write_text(text.split("```python\n")[1].split("```")[0])
    shown = [block.split("```")[0] for block in text.split("$ streamflow why / 2026-07-04T12:00 --data data\n")[1:]]
    told("topic", "create", "visits", "--data", "data", "--partitions", "1")
    first, then = (block.split("```")[0] for block in text.split("```json\n")[1:])
    printed = []
    for events in (first, *then.splitlines(keepends=True)):
        told("topic", "publish", "visits", "--data", "data", typed=events.encode())
        load_pipeline("visits.py").run(on=folder / "data", until="drained", explain_panes=True)
        printed.append(told(*ASK))
    fired_at = re.compile(r"((?:ON_TIME|LATE) +\d +)[-\d]+ [:\d]+")
    assert fired_at.sub(r"\1", shown[0]) == printed[0]
    assert fired_at.sub(r"\1", shown[1]) == fired_at.sub(r"\1", printed[-1])
