"""Publishers and subscribers of a folder that are killed at seeded random moments: nothing lost, nothing twice, order
kept. `STREAMFLOW_KILLS` says how many of each; 50 takes some minutes."""

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

pytestmark = [pytest.mark.contract, pytest.mark.chaos]

KILLS = int(os.environ.get("STREAMFLOW_KILLS", "10"))
PROGRAM = Path(__file__).with_name("killed_client.py")


class Story:
    def __init__(self, folder: Path) -> None:
        self.log, self.clock, self.notes = folder / "log", folder / "clock", folder / "notes"
        self.clock.write_text("0")
        self.notes.touch()

    def start(self, role: str, last: object) -> subprocess.Popen:
        command = [sys.executable, str(PROGRAM), role, str(self.log), str(self.clock), str(last)]
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
    process.kill()
    process.communicate()


async def prepare(log: Path) -> None:
    async with sf.connect(log, clock=SystemClock()) as client:
        await client.create_topic("t", partitions=3)
        await client.create_subscription("s", "t", sf.SubscriptionSettings(exactly_once=True, ordered=True))


@pytest.mark.timeout(1_200)
def test_killed_publishers_and_subscribers_lose_and_repeat_nothing(tmp_path: Path):
    story, draw = Story(tmp_path), random.Random(7)
    asyncio.run(prepare(story.log))
    kills = {"publisher": 0, "subscriber": 0}
    running = {"publisher": story.publisher(), "subscriber": story.subscriber()}
    while min(kills.values()) < KILLS:
        time.sleep(draw.uniform(0, 0.4))
        role = draw.choice([role for role, count in kills.items() if count < KILLS])
        kill(running[role])
        kills[role] += 1
        running[role] = getattr(story, role)()
    kill(running["publisher"])
    log = sf.open_log(story.log)
    total = log.last_sequence("t", "p") + 50
    log.close()
    assert story.publisher(total).communicate() == ("", None)
    kill(running["subscriber"])
    last = story.subscriber()
    last.communicate()
    assert last.returncode == 0
    check(story.lines(), total)


@pytest.mark.timeout(1_200)
def test_two_subscribers_of_which_one_or_both_are_killed_lose_and_repeat_nothing(tmp_path: Path):
    """Who is not killed goes on, and takes over what the other one had."""
    story, draw = Story(tmp_path), random.Random(11)
    asyncio.run(prepare(story.log))
    publisher = story.publisher()
    subscribers = [story.subscriber(), story.subscriber()]
    for _ in range(KILLS):
        time.sleep(draw.uniform(0, 0.4))
        for place in draw.choice([[0], [1], [0, 1]]):
            kill(subscribers[place])
            subscribers[place] = story.subscriber()
    kill(publisher)
    log = sf.open_log(story.log)
    total = log.last_sequence("t", "p") + 50
    log.close()
    assert story.publisher(total).communicate() == ("", None)
    for each in subscribers:
        each.communicate()
    assert [each.returncode for each in subscribers] == [0, 0]
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
