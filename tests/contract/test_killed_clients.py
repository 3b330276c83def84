"""Publishers and subscribers of a folder and of a Kafka that are killed at seeded random moments: nothing lost, nothing
twice, order kept. `STREAMFLOW_KILLS` says how many of each; 50 takes some minutes."""

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import streamflow as sf
from streamflow.base.clock import SystemClock
from streamflow.topics import topics_at

pytestmark = [pytest.mark.contract, pytest.mark.chaos]

KILLS = os.environ.get("STREAMFLOW_KILLS")
PROGRAM = Path(__file__).with_name("killed_client.py")


class Story:
    def __init__(self, folder: Path, url: str) -> None:
        self.url, self.clock, self.notes = url, folder / "clock", folder / "notes"
        self.clock.write_text("0")
        self.notes.touch()

    def start(self, role: str, last: object) -> subprocess.Popen:
        command = [sys.executable, str(PROGRAM), role, self.url, str(self.clock), str(last)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def publisher(self, until: int = 1 << 60) -> subprocess.Popen:
        return self.start("publish", until)

    def subscriber(self) -> subprocess.Popen:
        """Time has gone by since the last one died, so that its leases have ended."""
        ahead = self.clock.with_suffix(".new")
        ahead.write_text(str(int(self.clock.read_text()) + 11))
        ahead.rename(self.clock)
        return self.start("subscribe", self.notes)

    def lines(self) -> list[tuple[str, str, int, int]]:
        lines = (line.split() for line in self.notes.read_text().splitlines())
        return [(kind, id, int(n), int(attempt)) for kind, id, n, attempt in lines]


def kill(process: subprocess.Popen) -> None:
    assert process.poll() in (None, 0), "it has ended by itself"
    process.kill()
    process.communicate()


async def prepare(url: str) -> None:
    async with sf.connect(url, clock=SystemClock()) as client:
        await client.create_topic("t", partitions=3)
        await client.create_subscription("s", "t", sf.SubscriptionSettings(exactly_once=True, ordered=True))


@pytest.mark.timeout(1_200)
def test_killed_publishers_and_subscribers_lose_and_repeat_nothing(tmp_path: Path):
    run(
        Story(tmp_path, str(tmp_path / "log")),
        ["publisher", "subscriber"],
        pause_s=0.4,
        wanted={"publisher": 10, "subscriber": 10},
    )


@pytest.mark.kafka
@pytest.mark.timeout(3_000)
def test_killed_clients_of_kafka_lose_and_repeat_nothing_with_two_subscribers(tmp_path: Path, emptied_kafka_url: str):
    """Each death, and each start, moves partitions to and fro."""
    story = Story(tmp_path, f"{emptied_kafka_url}?session_timeout_ms=1000")
    run(story, ["publisher", "subscriber", "subscriber"], pause_s=3, wanted={"publisher": 2, "subscriber": 10})


def run(story: Story, roles: list[str], pause_s: float, wanted: dict[str, int]) -> None:
    if KILLS is not None:
        wanted = dict.fromkeys(wanted, int(KILLS))
    draw = random.Random(7)
    asyncio.run(prepare(story.url))
    kills = {"publisher": 0, "subscriber": 0}
    running = [(role, getattr(story, role)()) for role in roles]
    while kills != wanted:
        time.sleep(draw.uniform(0, pause_s))
        nth = draw.choice([nth for nth, role in enumerate(roles) if kills[role] < wanted[role]])
        role, process = running[nth]
        kill(process)
        kills[role] += 1
        running[nth] = role, getattr(story, role)()
    for role, process in running:
        if role == "publisher":
            kill(process)
    log = topics_at(story.url)
    total = log.last_sequence("t", "p") + 50
    log.close()
    assert story.publisher(total).communicate() == ("", None)
    for role, process in running:
        if role == "subscriber":
            kill(process)
    last = story.subscriber()
    last.communicate()
    assert last.returncode == 0
    check(story.lines(), total)


@pytest.mark.timeout(1_200)
def test_two_subscribers_of_which_one_or_both_are_killed_lose_and_repeat_nothing(tmp_path: Path):
    """Who is not killed goes on, and takes over what the other one had."""
    story, draw = Story(tmp_path, str(tmp_path / "log")), random.Random(11)
    asyncio.run(prepare(story.url))
    publisher = story.publisher()
    subscribers = [story.subscriber(), story.subscriber()]
    for _ in range(int(KILLS or "10")):
        time.sleep(draw.uniform(0, 0.4))
        for place in draw.choice([[0], [1], [0, 1]]):
            kill(subscribers[place])
            subscribers[place] = story.subscriber()
    kill(publisher)
    log = topics_at(story.url)
    total = log.last_sequence("t", "p") + 50
    log.close()
    assert story.publisher(total).communicate() == ("", None)
    # They may have ended for lack of messages before the last ones came.
    last = story.subscriber()
    for each in (*subscribers, last):
        each.communicate()
    assert [each.returncode for each in (*subscribers, last)] == [0, 0, 0]
    check(story.lines(), total)


def check(lines: list[tuple[str, str, int, int]], total: int) -> None:
    ids: dict[int, str] = {}
    holders: set[tuple[int, int]] = set()
    acked: dict[int, int] = {}
    newest = {key: key - 5 for key in range(5)}
    for kind, id, n, attempt in lines:
        assert ids.setdefault(n, id) == id, f"{n} was published twice"
        if kind == "A":
            assert n not in acked, f"two acks of {n} were confirmed"
            acked[n] = attempt
            continue
        assert (n, attempt) not in holders, f"delivery {attempt} of {n} was handed out twice"
        holders.add((n, attempt))
        # Who was handed it before may come late to noting it.
        assert attempt <= acked.get(n, attempt), f"{n} was delivered after its ack was confirmed"
        assert n <= newest[n % 5] + 5, f"{n} was delivered before an earlier one of its key"
        newest[n % 5] = max(newest[n % 5], n)
    assert sorted(ids) == list(range(total)), "some were lost"
    assert len(acked) > total / 2
