"""Threads of several processes in one subscription of a folder, all at once: nothing lost, never two holders, and the
backlog exact."""

import subprocess
import sys
from pathlib import Path

import pytest

from streamflow.topics import Publisher, open_log
from streamflow.topics.client.consuming import Consumer
from streamflow.topics.protocol import TopicConfig
from streamflow.topics.subscriptions import SubscriptionSettings

pytestmark = [pytest.mark.contract, pytest.mark.chaos]
PROGRAM = Path(__file__).with_name("stressed_client.py")
MESSAGES = 900


@pytest.mark.parametrize("ordered", [False, True])
def test_threads_and_processes_share_a_subscription_without_losing_or_doubling(tmp_path: Path, ordered: bool):
    log, notes = open_log(tmp_path / "log"), tmp_path / "notes"
    log.create_topic("t", TopicConfig(2))
    settings = SubscriptionSettings(exactly_once=True, ordered=ordered, ack_deadline_s=600)
    log.subscriptions.create_subscription("s", "t", settings)
    log.subscriptions.create_snapshot("begin", "s")
    keys = [f"k{n % 20}" if ordered else None for n in range(MESSAGES)]
    with Publisher(log, "t") as publisher:
        for first in range(0, MESSAGES, 100):
            publisher.publish_batch([b"1"] * 100, keys=keys[first : first + 100])
    command = [sys.executable, str(PROGRAM), str(tmp_path / "log"), str(notes)]
    processes = [subprocess.Popen([*command, seed, "3"]) for seed in ("1", "2")]
    try:
        assert [each.wait(100) for each in processes] == [0, 0]
    finally:
        for each in processes:
            each.kill()
    consumer = Consumer(log.subscriptions, "s")
    assert (consumer.backlog().events, consumer.pull(10).found) == (0, [])
    ends = {partition: log.end("t", partition) for partition in (0, 1)}
    log.close()
    check([line.split() for line in notes.read_text().splitlines()], ends)


def check(lines: list[list[str]], ends: dict[int, int]) -> None:
    granted: set[tuple[str, ...]] = set()
    acked: dict[tuple[str, str], set[str]] = {}
    for kind, partition, offset, epoch, attempt in lines:
        delivery = (partition, offset, epoch, attempt)
        if kind == "G":
            assert delivery not in granted, f"delivery {delivery} was granted to two"
            granted.add(delivery)
        else:
            epochs = acked.setdefault((partition, offset), set())
            assert epoch not in epochs, f"message {delivery} was acked twice between two seeks"
            epochs.add(epoch)
    every = {(str(partition), str(offset)) for partition, end in ends.items() for offset in range(end)}
    assert acked.keys() == every, "some were lost"
    newest = {partition: max(int(line[3]) for line in lines if line[1] == partition) for partition in ("0", "1")}
    assert min(newest.values()) > 1, "nobody went back"
    for (partition, offset), epochs in acked.items():
        assert str(newest[partition]) in epochs, (
            f"message {partition}-{offset} is acked, though nobody did after the seek"
        )
