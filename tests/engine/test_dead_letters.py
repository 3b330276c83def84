"""Dead letters themselves: JSON events whatever failed, in a topic that can be read like any other."""

from typing import Any

import orjson
import pytest
from pipelines import end_topic, make_topic, publish_json, read_events

import streamflow as sf
from streamflow.engine.context import DeadLetter
from streamflow.topics import codec


def test_dead_letters_can_be_read_as_a_topic_like_any_other() -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    publish_json(log, [{"k": "a", "v": 1}, b"{"])
    end_topic(log)
    first = sf.Pipeline("first", on=log)
    first | sf.ReadFromTopic("in", schema={"k": str, "v": int}) | sf.WriteToTopic("out")
    first.run()
    end_topic(log, "first.dead-letter")
    second = sf.Pipeline("second", on=log)
    letters = second | sf.ReadFromTopic("first.dead-letter", schema={"topic": str, "offset": int, "input": str})
    letters | sf.WriteToTopic("repaired")
    second.run()
    assert read_events(log, "repaired") == [{"topic": "in", "offset": 1, "input": "{"}]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\xff{", "\\xff{"),
        ({1}, [1]),
        (2**80, str(2**80)),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ("\ud800", "'\\ud800'"),
        (Unshowable(), "<Unshowable whose repr raises RuntimeError>"),
        ({"x": Unshowable()}, {"x": "<Unshowable whose repr raises RuntimeError>"}),
        (float("nan"), None),
    ],
)
def test_any_value_can_be_a_dead_letter(value: Any, shown: Any) -> None:
    letter = orjson.loads(DeadLetter(value, 7, ValueError("why \ud800"), "T").to_json("in", 3))
    assert letter["input"] == shown
    assert letter["error"] == "ValueError: why \\ud800"
    assert (letter["transform"], letter["topic"], letter["partition"], letter["offset"]) == ("T", "in", 3, 7)


def test_dead_letter_is_never_too_long_to_be_written() -> None:
    huge = b'"' * (codec.EVENT_BYTES_MAX - 10)
    letter = DeadLetter(huge, 0, ValueError("x" * 10**6), "T").to_json("in", 0)
    assert len(letter) < codec.EVENT_BYTES_MAX
