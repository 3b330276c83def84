"""`streamflow sub …` as users type it."""

import json
import signal
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest
from cli.command import BIN, call, refused, told

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.topics.subscriptions.push import PushConfig

pytestmark = pytest.mark.usefixtures("folder")
D = ("-d", "data")


def prepare(events: int = 0, *options: str) -> None:
    told("topic", "create", "orders", *D, "--partitions", "2")
    told("sub", "create", "billing", "--topic", "orders", *D, *options)
    publish(events)


def publish(events: int, *options: str) -> None:
    typed = "".join(json.dumps({"n": n}) + "\n" for n in range(events)).encode()
    told("topic", "publish", "orders", *D, *options, typed=typed)


def documents(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told(*arguments, *D, "--json").splitlines()]


def described() -> dict[str, Any]:
    [document] = documents("sub", "describe", "billing")
    return document


def left() -> int:
    return int(described()["backlog"]["messages"])


def test_every_setting_can_be_given_and_is_described() -> None:
    told("topic", "create", "failed", *D)
    settings = "--ack-deadline 30s --ordered --exactly-once --dead-letter failed --max-attempts 7 --retry 10s..600s"
    text = 'attributes.type = "view"'
    more = "--retention 2d --retain-acked --expires never --push http://localhost:8080/in"
    prepare(0, *settings.split(), *more.split(), "--filter", text)
    assert described()["settings"] == {
        "ack_deadline_s": 30,
        "exactly_once": True,
        "ordered": True,
        "retry": {"backoff_min_s": 10, "backoff_max_s": 600},
        "dead_letter": {"topic": "failed", "attempts_max": 7},
        "filter": text,
        "retention_s": 172_800,
        "retain_acked": True,
        "expiry_s": None,
        "outstanding_messages_max": 1_000_000,
        "outstanding_bytes_max": None,
        "push": asdict(PushConfig("http://localhost:8080/in")),
    }
    said = told("sub", "describe", "billing", *D)
    assert "delivery: exactly once, in the order of keys" in said
    assert "dead letters: to failed after 7 attempts" in said
    assert "expires: never" in said
    assert "push: to http://localhost:8080/in" in said


def test_altering_changes_what_is_named_and_nothing_else() -> None:
    told("topic", "create", "failed", *D)
    prepare(0, "--dead-letter", "failed", "--retry", "1s..2s", "--exactly-once")
    told("sub", "alter", "billing", *D, "--ack-deadline", "1m", "--max-attempts", "9")
    settings = described()["settings"]
    assert (settings["ack_deadline_s"], settings["exactly_once"]) == (60, True)
    assert settings["dead_letter"] == {"topic": "failed", "attempts_max": 9}
    told("sub", "alter", "billing", *D, "--retry", "none", "--dead-letter", "none", "--at-least-once")
    settings = described()["settings"]
    assert (settings["retry"], settings["dead_letter"], settings["exactly_once"]) == (None, None, False)
    assert "can't change" in refused("sub", "alter", "billing", *D, "--ordered")
    assert "name a setting that is to change" in refused("sub", "alter", "billing", *D)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--filter", "attributes.type = view"], 1, "    attributes.type = view\n                      ^"),
        (["--ack-deadline", "soon"], 2, "'soon' is no duration. Write it as"),
        (["--ack-deadline", "5s"], 1, "ack_deadline_s is 5.0, out of bounds. Give 10 to 600"),
        (["--retry", "9s..1s"], 2, "Exchange them"),
        (["--retry", "9s"], 2, "no range of waits"),
        (["--dead-letter", "faild"], 1, "faild"),
        (["--max-attempts", "5"], 1, "Name the topic that gets them"),
        (["--max-attempts", "4"], 2, "Invalid value for '--max-attempts'"),
    ],
)
def test_mistakes_are_told_with_what_to_write(options: list[str], code: int, said: str) -> None:
    told("topic", "create", "orders", *D)
    done = call("sub", "create", "s", "-t", "orders", *D, *options)
    assert done.exit_code == code
    assert said in " ".join(done.stderr.split()) or said in done.stderr
    assert told("sub", "list", *D) == "no subscriptions in 'data' yet\n"


def test_names_and_places_that_are_not_there_are_told() -> None:
    prepare()
    assert "Did you mean 'billing'?" in refused("sub", "describe", "biling", *D)
    assert "Did you mean 'orders'?" in refused("sub", "create", "s", "-t", "order", *D)
    assert "lives and ends with one process" in refused("sub", "list", "-d", "memory://x")
    assert "lives and ends with one process" in refused("topic", "create", "t", "-d", "memory://x")
    assert "holds no StreamFlow data" in refused("sub", "list", "-d", "other")


def test_backlog_is_shown_by_partition_and_in_all() -> None:
    prepare(3)
    document = described()
    assert document["backlog"]["messages"] == 3
    assert sum(part["messages"] for part in document["by_partition"]) == 3
    assert len(document["by_partition"]) == 2
    [rows] = [json.loads(told("sub", "list", *D, "--json", "--backlog"))]
    assert [(row["subscription"], row["messages"]) for row in rows] == [("billing", 3)]
    assert told("sub", "describe", "billing", *D).splitlines()[-1].split()[:3] == ["in", "all", "3"]


def test_pulled_messages_are_acked_at_once_or_by_their_ids_or_given_back() -> None:
    prepare(4, "--exactly-once")
    [message] = documents("sub", "pull", "billing", "--max", "1", "--ack")
    assert (message["attempt"], message["data"].keys()) == (1, {"n"})
    first, second = documents("sub", "pull", "billing", "--max", "2")
    assert told("sub", "ack", "billing", first["ack_id"], *D) == "1 message acked\n"
    assert told("sub", "nack", "billing", second["ack_id"], *D) == "1 message given back\n"
    assert "the lease has ended" in refused("sub", "ack", "billing", second["ack_id"], *D)
    assert "is no ack id" in refused("sub", "ack", "billing", "x", *D)
    assert left() == 2
    again = documents("sub", "pull", "billing", "--ack")
    assert sorted(each["attempt"] for each in again) == [1, 2]
    assert told("sub", "pull", "billing", *D) == "subscription billing has nothing to deliver now\n"


def test_tail_acks_only_what_it_was_told_to_and_has_shown() -> None:
    prepare(3, "--ack-deadline", "10m")
    publish(2, "--attribute", "type=view")
    assert len(documents("sub", "tail", "billing", "-n", "2")) == 2
    assert left() == 5
    wanted = ("--ack", "-n", "2", "--filter", "attributes:type")
    assert [each["attributes"] for each in documents("sub", "tail", "billing", *wanted)] == [{"type": "view"}] * 2
    assert left() == 3
    assert len(documents("sub", "pull", "billing")) == 3, "what it left out was given back at once"


def test_a_seek_that_loses_messages_asks_and_one_that_does_not_does_not() -> None:
    prepare(3)
    told("sub", "pull", "billing", "--max", "1", "--ack", *D)
    assert "This acks 2 messages that nobody has worked off" in refused(
        "sub", "seek", "billing", *D, "--to-time", "end"
    )
    assert left() == 2
    assert (
        told("sub", "seek", "billing", *D, "--to-time", "10m") == "subscription billing: 3 messages to be delivered\n"
    )
    told("sub", "seek", "billing", *D, "--to-time", "end", "--yes")
    assert left() == 0
    told("sub", "seek", "billing", *D, "--to-time", "2026-01-01T00:00Z")
    assert left() == 3
    assert "give either" in refused("sub", "seek", "billing", *D)
    assert "no moment" in refused("sub", "seek", "billing", *D, "--to-time", "yesterday")


def test_what_a_seek_to_a_snapshot_would_lose_is_exact() -> None:
    prepare(4)
    told("sub", "pull", "billing", "--max", "3", "--ack", *D)
    told("sub", "snapshot", "create", "s", "--subscription", "billing", *D)
    told("sub", "seek", "billing", *D, "--to-time", "beginning")
    publish(2)
    assert "This acks 3 messages" in refused("sub", "seek", "billing", *D, "--to-snapshot", "s")
    told("sub", "seek", "billing", *D, "--to-snapshot", "s", "--yes")
    assert left() == 3
    assert described()["snapshots"] == ["s"]
    assert [row["snapshot"] for row in json.loads(told("sub", "snapshot", "list", *D, "--json"))] == ["s"]
    told("sub", "snapshot", "delete", "s", *D)
    assert told("sub", "snapshot", "list", *D) == "no snapshots in 'data'\n"


@pytest.mark.parametrize("filter_", [None, "attributes:even"])
def test_lost_by_seek_is_what_the_seek_acks(filter_: str | None) -> None:
    clock = ManualClock(0)
    with sf.connect_sync("data", clock=clock) as client:
        client.create_topic("t", partitions=1)
        client.create_subscription("s", "t", sf.SubscriptionSettings(filter=filter_))
        for n in range(6):
            clock.advance(1)
            client.publish("t", [b"x"], attributes={"even" if n % 2 == 0 else "odd": ""})
        client.ack("s", client.pull("s", 2))
        for second in range(8):
            to = datetime.fromtimestamp(second, UTC)
            acked = 2 if filter_ is None else 3
            published = [n for n in range(6) if n + 1 < second and (filter_ is None or n % 2 == 0)]
            assert client.run(client.client.lost_by_seek("s", to)) == max(0, len(published) - min(2, acked))


def test_deleting_and_detaching_ask_while_there_is_a_backlog() -> None:
    prepare(1)
    for command in ("delete", "detach"):
        assert "with 1 message that nobody has worked off?" in refused("sub", command, "billing", *D)
    told("sub", "detach", "billing", "--yes", *D)
    assert described()["detached"]
    assert "is detached from topic 'orders'" in refused("sub", "pull", "billing", *D)
    assert told("sub", "delete", "billing", *D) == "subscription billing: deleted\n"


def test_topic_is_described_with_schema_subscriptions_sizes_and_rates() -> None:
    prepare()
    publish(60)
    [document] = documents("topic", "describe", "orders")
    assert (document["partitions"], document["subscriptions"]) == (2, ["billing"])
    assert sum(part["events"] for part in document["by_partition"]) == 60
    assert document["events_per_s"] == 1
    assert document["bytes"] == sum(part["bytes"] for part in document["by_partition"]) > 0
    assert "subscriptions: billing" in told("topic", "describe", "orders", *D)
    assert "not done without a yes" in refused("topic", "delete", "orders", *D)
    told("topic", "delete", "orders", *D, "--yes")
    assert described()["detached"]


def test_bad_lines_are_told_by_number_and_the_others_are_published() -> None:
    told("topic", "create", "t", *D, "--partitions", "1")
    lines = [
        '{"k": "a", "at": "1970-01-01T00:00:01Z"}',
        "{",
        "",
        '{"k": "b"}',
        '{"k": [], "at": 2}',
        '{"k": 7, "at": 3000000}',
    ]
    done = call(
        *("topic", "publish", "t", *D, "--key-field", "k", "--time-field", "at", "--attribute", "a=b=c"),
        typed="\n".join(lines).encode(),
    )
    assert done.exit_code == 1
    assert done.stdout == "2 events published to t\n"
    assert "line 2: no JSON" in done.stderr
    assert "line 4: it has no field 'at'" in done.stderr
    assert "line 5: field 'k' is no key" in done.stderr
    assert "3 lines could not be published" in done.stderr
    found = documents("topic", "tail", "t")
    assert [(each["key"], each["time"][-3:], each["attributes"]) for each in found] == [
        ("a", "01Z", {"a": "b=c"}),
        ("7", "03Z", {"a": "b=c"}),
    ]


def test_tail_shows_what_was_published_since_then_and_follows() -> None:
    clock = ManualClock(0)
    log = sf.open_log("data", clock=clock)
    log.create_topic("t", sf.TopicConfig(partitions=3))
    publisher = sf.Publisher(log, "t", clock=clock)
    for n in range(20):
        publisher.publish_batch([b'{"n": %d}' % n], attributes=[{"odd": str(n % 2)}])
        clock.advance(1)
    log.close()

    def shown(*options: str) -> list[int]:
        return [each["event"]["n"] for each in documents("topic", "tail", "t", *options)]

    assert shown("--from", "beginning") == [*range(20)]
    for second in (0, 7, 19, 20):
        assert shown("--from", f"1970-01-01T00:00:{second:02}Z") == [*range(second, 20)]
    assert shown("--from", "end") == []
    assert shown("-f", "--from", "beginning", "-n", "4", "--filter", 'attributes.odd = "1"') == [1, 3, 5, 7]
    assert shown("-n", "3", "--filter", 'attributes.odd = "1"') == [15, 17, 19]


@pytest.mark.parametrize("command", ["sub tail billing", "topic tail orders -f --from beginning"])
def test_interrupting_what_follows_is_its_clean_end(command: str) -> None:
    prepare(3, "--ack-deadline", "10m")
    with subprocess.Popen(
        [BIN / "streamflow", *command.split(), *D], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert all('{"n":' in process.stdout.readline() for _ in range(3))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    assert len(documents("sub", "pull", "billing")) == 3, "nobody has them any more"
