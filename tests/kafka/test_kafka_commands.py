"""The commands on a Kafka's address, and the command that starts a Kafka."""

import json
import secrets
import signal
import subprocess
from pathlib import Path

import polars as pl
import pytest
from cli.command import BIN, refused, told

from streamflow.topics import Publisher, codec
from streamflow.topics.kafka import KafkaLog

pytestmark = pytest.mark.kafka


def test_topic_is_created_listed_published_to_and_shown_with_kafkas_offsets(kafka_url: str, log: KafkaLog) -> None:
    name = f"cli-{secrets.token_hex(4)}"
    assert told("topic", "create", name, "-d", kafka_url, "--partitions", "1") == f"topic {name}: 1 partition\n"
    assert "exists already" in told("topic", "create", name, "-d", kafka_url)
    assert "2 events published" in told("topic", "publish", name, "-d", kafka_url, typed=b'{"a":1}\n{"a":2}\n')
    log.publish([codec.encode_frame(name, 0, pl.DataFrame({"_time": [1 << 52, 1 << 52], "a": [3, 4]}))])
    rows = {row["topic"]: row for row in json.loads(told("topic", "list", "-d", kafka_url, "--json"))}
    assert rows[name]["partitions"] == 1
    lines = told("topic", "tail", name, "-d", kafka_url).splitlines()
    # Offset 2 is the mark of the first transaction.
    assert [line.split("  ", 1)[1] for line in lines] == [
        '0/0  {"a":1}',
        '0/1  {"a":2}',
        '0/3  {"a":3}',
        '0/3.1  {"a":4}',
    ]
    newest = [
        json.loads(line) for line in told("topic", "tail", name, "-d", kafka_url, "--json", "-n", "2").splitlines()
    ]
    assert [(event["offset"], event["index"], event["event"]) for event in newest] == [
        (3, 0, {"a": 3}),
        (3, 1, {"a": 4}),
    ]


def test_topic_is_described_and_its_tail_begins_where_it_is_told(kafka_url: str) -> None:
    name = f"cli-{secrets.token_hex(4)}"
    told("topic", "create", name, "-d", kafka_url, "--partitions", "2", "--retention", "1d")
    for kind in ("view", "buy"):
        lines = b"".join(b'{"n":%d}\n' % n for n in range(3))
        told("topic", "publish", name, "-d", kafka_url, "--attribute", f"kind={kind}", typed=lines)
    described = json.loads(told("topic", "describe", name, "-d", kafka_url, "--json"))
    assert (described["partitions"], described["retention_s"]) == (2, 86_400)
    assert described["events_per_s"] * 60 >= 6
    for since, count in (("beginning", 3), ("1h", 3), ("end", 0)):
        options = ("--from", since, "--filter", 'attributes.kind = "buy"', "--json")
        found = [json.loads(line) for line in told("topic", "tail", name, "-d", kafka_url, *options).splitlines()]
        assert [each["event"]["n"] for each in found] == [0, 1, 2][:count]


def test_dead_letters_are_replayed_once(kafka_url: str, log: KafkaLog) -> None:
    origin, failed = (f"{name}-{secrets.token_hex(4)}" for name in ("orders", "failed"))
    for name in (origin, failed):
        told("topic", "create", name, "-d", kafka_url, "--partitions", "2")
    mark = "CloudPubSubDeadLetterSource"
    places = [
        {
            f"{mark}Subscription": "billing",
            f"{mark}Topic": origin,
            f"{mark}MessageId": f"0-{n << 16}",
            f"{mark}DeliveryCount": "5",
            f"{mark}TopicPublishTime": "1",
            "n": str(n),
        }
        for n in range(4)
    ]
    Publisher(log, failed).publish_batch([b"%d" % n for n in range(4)], attributes=places)
    for options, published in ((("--where", 'attributes.n = "2"'), 1), ((), 3), ((), 0)):
        done = told("dead-letter", "replay", failed, "-d", kafka_url, "--yes", "--json", *options)
        assert json.loads(done)["events"] == published
    found = told("topic", "tail", origin, "-d", kafka_url, "--from", "beginning", "--json").splitlines()
    assert sorted((each["event"], each["attributes"]["n"]) for each in map(json.loads, found)) == [
        (n, str(n)) for n in range(4)
    ]
    [row] = json.loads(told("dead-letter", "list", failed, "-d", kafka_url, "--json"))
    assert (row["letters"], row["left"]) == (4, 0)


def test_password_of_an_address_is_not_printed(kafka_url: str) -> None:
    address = kafka_url.replace("//", "//ann:s3cret@") + "?security_protocol=PLAINTEXT"
    assert "s3cret" not in told("topic", "list", "-d", address) + refused("topic", "tail", "none", "-d", address)


def test_kafka_for_trying_keeps_its_topics_when_it_is_started_again(tmp_path: Path) -> None:
    addresses = []
    for command in (["create", "kept", "--partitions", "1"], ["list"]):
        with subprocess.Popen(
            [BIN / "loadgen", "kafka", "--data", tmp_path / "k"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            addresses.append(process.stdout.readline().strip())
            try:
                assert "kept" in told("topic", *command, "--data", addresses[-1])
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    assert addresses[0] == addresses[1]
