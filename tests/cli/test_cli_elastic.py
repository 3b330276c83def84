"""Commands about the number of workers, on decisions that were recorded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli.command import refused, told
from runtime.test_elastic_records import entry

import streamflow as sf
from streamflow.runtime import decisions
from streamflow.runtime.autoscaler import Choice, Decision


@pytest.fixture
def recorded(folder: Path) -> Path:
    """A load of 150, then 600 events/s, of which two workers stand a third; one change."""
    sf.open_log("data").close()
    for second in range(90):
        each = entry(second, 150 if second < 30 else 600)
        if second == 31:
            choices = (Choice(2, 250.0, 2000.0), Choice(8, 0.5, 90.0))
            each = replace(each, decision=Decision(8, "up: it is too much for 2", 0.5, choices))
        decisions.append(Path("data"), "visits", each)
    return folder


def test_explain_tells_each_change_with_the_choices_and_their_prices(recorded: Path) -> None:
    lines = told("autoscale", "explain", "--data", "data").splitlines()
    assert lines == [
        "1970-01-01 00:00:31  2 → 8  up: it is too much for 2",
        "      2 workers: price 2,000, 250.0 s too late",
        "    * 8 workers: price 90, 0.5 s too late",
        "1970-01-01 00:01:29  now 2  stay",
    ]
    change, now = json.loads(told("autoscale", "explain", "visits", "--last", "1", "--json", "-d", "data"))
    assert change["seen"]["arrivals"] == [75.0] * 8
    assert (change["decision"]["workers"], now["decision"]["reason"]) == (8, "stay")


def test_what_if_compares_other_settings_with_what_was(recorded: Path) -> None:
    text = told("autoscale", "what-if", "--latency", "5s", "--max-workers", "8", "--data", "data")
    assert "2 → 8" in text
    found = json.loads(told("autoscale", "what-if", "--latency", "900ms", "--max-workers", "2", "-d", "data", "--json"))
    assert found["settings"]["latency_s"] == 0.9
    assert found["was"]["worker_seconds"] == 180
    assert found["would_be"]["seconds_over_latency"] > 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["autoscale", "explain", "-d", "data"], "no decision of the autoscaler is recorded in 'data'."),
        (["autoscale", "what-if", "other", "-d", "data"], "recorded in 'data' for 'other'. The autoscaler is at work"),
        (["autoscale", "what-if", "-d", "data", "--latency", "5x"], "5x is not a number of seconds above 0"),
        (["scale", "visits", "many", "-d", "data"], "'many' is neither a number nor 'auto'"),
        (["run", "x.py", "-d", "data", "--workers", "0"], "0 needs a --max-workers above 0"),
    ],
)
def test_what_can_not_be_told_is_refused_with_a_hint(folder: Path, arguments: list[str], said: str) -> None:
    sf.open_log("data").close()
    assert said in " ".join(refused(*arguments).replace("│", " ").split())


def test_of_several_pipelines_one_must_be_named(recorded: Path) -> None:
    decisions.append(Path("data"), "other", entry(0, 10))
    assert "Name one." in refused("autoscale", "explain", "-d", "data")


def test_nobody_at_work_is_said(folder: Path) -> None:
    sf.open_log("data").close()
    assert told("workers", "--data", "data") == "no worker is at work in 'data'\n"
