"""`streamflow dead-letter …`: what failed is listed, shown and replayed, each event once whatever is killed."""

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli.command import BIN, call, refused, told

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.runtime.letters import letters
from streamflow.runtime.replay import replay
from streamflow.topics import codec
from streamflow.topics.protocol import Log, Producer, Record

pytestmark = pytest.mark.usefixtures("folder")
D = ("-d", "data")
LETTERS = "p.dead-letter"


def number(event: Any) -> int:
    if event["n"] % 2:
        raise ValueError(f"odd: {event['n']}")
    return int(event["n"])


def parts(event: Any) -> Iterator[Any]:
    yield from ({"n": event["n"], "part": part} for part in range(2))


def run(*, split: bool = False) -> None:
    p = sf.Pipeline("p", on="data")
    read = p | sf.ReadFromTopic("t")
    _ = (read | sf.FlatMap(parts) if split else read) | sf.Map(number)
    p.run(until="drained")


@pytest.fixture
def log(folder: Path) -> Iterator[Log]:
    opened = sf.open_log(folder / "data")
    opened.create_topic("t", sf.TopicConfig(partitions=2))
    yield opened
    opened.close()


def publish(log: Log, count: int) -> None:
    events = [b'{"n": %d}' % n for n in range(count)]
    attributes = [{"third": str(n % 3)} for n in range(count)]
    times = [n * 1_000_000 for n in range(count)]
    sf.Publisher(log, "t").publish_batch(events, times, [str(n) for n in range(count)], attributes)


def events(log: Log, topic: str = "t") -> list[dict[str, Any]]:
    """Data, time, key and attributes of all, in the order of partition and offset."""
    records = [r for at in range(log.topic(topic).config.partitions) for r in log.read(topic, at, 0)]
    return [row for record in records for row in codec.decode(record).iter_rows(named=True)]


def numbers(log: Log, topic: str = "t") -> Counter[int]:
    return Counter(json.loads(row[codec.JSON])["n"] for row in events(log, topic))


def replayed(*options: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(told("dead-letter", "replay", "p", *D, "--yes", "--json", *options))
    return document


def test_failed_events_go_back_as_they_were_and_once(log: Log) -> None:
    publish(log, 10)
    before = events(log)
    run()
    planned = replayed("--dry-run")
    assert (planned["events"], planned["to"], len(events(log))) == (5, {"t": 5}, 10)
    assert replayed()["events"] == 5
    assert sorted(map(str, events(log))) == sorted(map(str, before + [row for row in before if int(row["_key"]) % 2]))
    keys = {row["_key"]: at for at in range(2) for r in log.read("t", at, 0) for row in codec.decode(r).to_dicts()}
    assert len(keys) == 10, "equal keys are in one partition still"
    again = replayed()
    assert (again["events"], again["again"]) == (0, 5)
    # What was replayed fails anew, as an event of its own.
    run()
    assert replayed()["events"] == 5


def test_letters_are_listed_by_transform_and_error_with_what_is_left(log: Log) -> None:
    assert told("dead-letter", "list", *D) == "no dead letters in 'data'\n"
    publish(log, 10)
    run()
    replayed("--where", 'attributes.third = "0"')
    [row] = json.loads(told("dead-letter", "list", "p", *D, "--json"))
    assert (row["transform"], row["letters"], row["left"]) == ("Map(number)", 5, 3)
    assert row["error"].startswith("ValueError: odd: ")
    assert json.loads(told("dead-letter", "list", *D, "--json")) == [{"topic": LETTERS, "letters": 5, "left": 3}]
    shown = told("dead-letter", "show", "p", row["place"], *D)
    assert "Map(number)  (left)" in shown
    assert "in number" in shown
    found = [json.loads(line) for line in told("dead-letter", "show", "p", *D, "--json").splitlines()]
    assert sorted(each["input"]["n"] for each in found if each["replayed"]) == [3, 9]
    assert "no dead letter 0/99" in refused("dead-letter", "show", "p", "0/99", *D)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--error", "odd: 7"], {7}),
        (["--transform", "Map(number)", "--where", 'NOT attributes.third = "1"'], {3, 5, 9}),
        (["--transform", "Map(other)"], set()),
        (["--since", "1h"], {1, 3, 5, 7, 9}),
        (["--until", "1h"], set()),
    ],
)
def test_a_replay_takes_what_its_filters_choose(log: Log, options: list[str], expected: set[int]) -> None:
    publish(log, 10)
    run()
    assert replayed(*options)["events"] == len(expected)
    assert {n for n, count in numbers(log).items() if count == 2} == expected


def test_an_event_with_several_letters_is_replayed_once(log: Log) -> None:
    publish(log, 4)
    run(split=True)
    assert log.end(LETTERS, 0) == 4
    done = replayed("--dry-run")
    assert (done["letters"], done["events"], done["again"]) == (4, 2, 2)
    assert replayed()["events"] == 2
    assert numbers(log) == {0: 1, 1: 2, 2: 1, 3: 2}


def test_envelopes_keep_their_types(log: Log) -> None:
    day = pl.Series("day", ["2026-07-04"]).str.to_date()
    sf.Publisher(log, "t").publish_frame(pl.DataFrame({"n": [1], "_time": [5]}).with_columns(day))
    run()
    replayed()
    records = [record for at in range(2) for record in log.read("t", at, 0)]
    first, second = map(codec.decode, records)
    assert first.equals(second)
    assert first.schema["day"] == pl.Date


def test_events_that_are_not_kept_are_told_and_their_inputs_go_where_they_are_wanted(folder: Path) -> None:
    clock = ManualClock(1_000_000)
    log = sf.open_log(folder / "data", clock=clock)
    log.create_topic("t", sf.TopicConfig(partitions=1, retention_s=60))
    publish(log, 4)
    run()
    clock.advance(120)
    log.prune()
    said = told("dead-letter", "replay", "p", *D, "--yes")
    assert "0 events published\n2 letters left, of an event that its topic does not keep" in said
    told("topic", "create", "inputs", *D)
    assert "Publish 2 events to inputs (2)?" in refused("dead-letter", "replay", "p", *D, "--to", "inputs")
    for published in (2, 0):
        assert replayed("--to", "inputs")["events"] == published
    assert numbers(log, "inputs") == {1: 1, 3: 1}
    log.close()


def test_an_event_at_the_place_of_another_is_not_taken_for_it(log: Log) -> None:
    publish(log, 4)
    run()
    log.reset_pipeline("p")
    log.delete_topic("t")
    log.create_topic("t", sf.TopicConfig(partitions=2))
    publish(log, 4)
    assert replayed()["gone"] == 2


def test_messages_of_a_subscription_go_back_without_the_marks_of_their_dead_letter(folder: Path) -> None:
    with sf.connect_sync(folder / "data") as client:
        for topic in ("orders", "failed"):
            client.create_topic(topic, partitions=2)
        policy = sf.SubscriptionSettings(dead_letter=sf.DeadLetterPolicy("failed", 5))
        client.create_subscription("billing", "orders", policy)
        for kind in ("paid", "open"):
            client.publish("orders", [b"raw " + kind.encode()], ordering_key="ann", attributes={"kind": kind})
        for _ in range(5):
            client.nack("billing", client.pull("billing"))
    log = sf.open_log(folder / "data")
    [row] = json.loads(told("dead-letter", "list", "billing", *D, "--json"))
    assert (row["transform"], row["left"], row["error"]) == ("billing", 2, "5 deliveries were not acked")
    assert json.loads(told("dead-letter", "list", *D, "--json")) == [{"topic": "failed", "letters": 2, "left": 2}]
    for published in (1, 0):
        options = ("--where", 'attributes.kind = "paid"', "--yes", "--json")
        assert json.loads(told("dead-letter", "replay", "failed", *D, *options))["events"] == published
    found = events(log, "orders")
    assert [row[codec.JSON] for row in found] == [b"raw paid", b"raw open", b"raw paid"]
    assert found[2] == found[0]
    log.close()


class Failing:
    """A log whose publish fails: `before` it does anything, `after`, or when a `rival` has published meanwhile."""

    def __init__(self, log: Log, how: str) -> None:
        self._log, self.how = log, how

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def publish(self, records: Sequence[Record], producer: Producer | None = None) -> list[int]:
        how, self.how = self.how, ""
        if how == "rival":
            assert replay(self._log, LETTERS, lambda letter, _: "odd: 1" in letter.error, lambda: 1).events == 1
        if how == "before":
            raise ConnectionError
        offsets = self._log.publish(records, producer)
        if how == "after":
            raise ConnectionError
        return offsets


@pytest.mark.parametrize("how", ["before", "after", "rival"])
def test_a_replay_that_is_disturbed_and_repeated_publishes_each_event_once(log: Log, how: str) -> None:
    publish(log, 8)
    run()
    failing: Any = Failing(log, how)
    if how == "rival":
        done = replay(failing, LETTERS, lambda *_: True, lambda: 1)
        assert (done.events, done.again) == (3, 1)
    else:
        with pytest.raises(ConnectionError):
            replay(failing, LETTERS, lambda *_: True, lambda: 1)
    replay(log, LETTERS, lambda *_: True, lambda: 1)
    assert numbers(log) == {n: 1 + n % 2 for n in range(8)}


def test_a_replay_that_is_killed_and_repeated_publishes_each_event_once(log: Log) -> None:
    total = 5_000
    publish(log, total)
    run()
    assert sum(1 for _ in letters(log, LETTERS)) == total // 2
    chance = random.Random(5)
    kills = 0
    for _ in range(20):
        process = subprocess.Popen(
            [BIN / "streamflow", "dead-letter", "replay", "p", *D, "--yes"], stdout=subprocess.PIPE
        )
        before = log.end("t", 0) + log.end("t", 1)
        wanted = before + chance.choice([1, 501])
        while process.poll() is None and log.end("t", 0) + log.end("t", 1) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:
            break
        kills += 1
    assert kills >= 2
    assert numbers(log) == {n: 1 + n % 2 for n in range(total)}
    assert call("dead-letter", "replay", "p", *D).stdout.startswith("0 events published")
