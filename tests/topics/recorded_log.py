"""A process that publishes and commits to a log, and says on descriptor 3 how far it is.

    recorded_log.py FOLDER

Run under strace by `power_cut.py`. After each change it writes `DONE`, and then a digest of what is to be seen now.
"""

import os
import random
import sys
from collections.abc import Iterator
from hashlib import blake2b

import topic_making as make

from streamflow.base.clock import ManualClock
from streamflow.topics.embedded import EmbeddedLog, task_rows
from streamflow.topics.protocol import Producer, StageInput, TopicConfig

SAYS_FD = 3
DONE = b"done"
ROLL_BYTES = 60_000
CHECKPOINT_PAGES = 30
"""So that a short run has checkpoints; by default they come after 1,000 pages."""
STEPS = 40


def seen(log: EmbeddedLog) -> str:
    """A digest of all that a user can read: records, sequences, tasks and their state. Not who owns a task, which a
    power cut may undo."""
    found: list[object] = [log.topics()]
    for info in log.topics():
        for partition in range(info.config.partitions):
            found += [log.end(info.name, partition), log.read(info.name, partition, 0)]
        found.append(log.last_sequence(info.name, "one"))
    for name, shape in log.pipelines().items():
        found += [name, shape]
        for task, state in sorted(log.snapshot(name).tasks.items()):
            with log._truth.view() as db:
                infos = task_rows.segments(db, task)
            owner = make.take(log, task).state
            payloads = log.read_state(task, owner.epoch, [info.sequence for info in infos])
            found += [state.offset, state.watermark_us, dict(state.counters), infos, payloads]
    shown = [
        (each.offset, each.count, each.time_min_us, each.time_max_us, each.published_us, bytes(each.payload))
        if hasattr(each, "payload")
        else each
        for item in found
        for each in (item if isinstance(item, list) else [item])
    ]
    return blake2b(repr(shown).encode(), digest_size=8).hexdigest()


def work(log: EmbeddedLog, clock: ManualClock) -> Iterator[None]:
    """Yields after each change that a power cut must not undo once it has returned."""
    chance = random.Random(1)
    log.create_topic("t", TopicConfig(partitions=2))
    yield
    log.create_topic("old", TopicConfig(partitions=1, retention_s=5))
    yield
    log.register_pipeline("p", "shape", [StageInput("s", "t")])
    yield
    epoch = make.take(log, make.task()).state.epoch
    yield
    for step in range(1, STEPS):
        clock.advance(1)
        payloads = [chance.randbytes(chance.choice([0, 30, 600, 9_000])) for _ in range(chance.randint(1, 3))]
        records = [make.record(partition=n % 2, count=n + 1, payload=each) for n, each in enumerate(payloads)]
        match chance.choice(["publish", "publish", "sequence", "commit", "commit", "reopened", "old", "prune"]):
            case "publish":
                log.publish(records)
            case "sequence":
                log.publish(records, Producer("one", step))
            case "old":
                log.publish([make.record("old", payload=each) for each in payloads])
            case "prune":
                log.prune()
            case "reopened":
                # Beside the first one: as when another process comes and goes.
                other = EmbeddedLog(log.url.removeprefix("file:"), clock=clock, roll_bytes=ROLL_BYTES)
                other.publish(records)
                other.close()
            case _:
                epoch = make.take(log, make.task()).state.epoch
                added = [make.segment(step, chance.randbytes(2_000))]
                drop = [info.sequence for info in make.take(log, make.task()).segments][:-2]
                epoch += 1
                log.commit(
                    [make.step(make.task(), epoch, step, outputs=records, add=added, drop=drop, counters={"n": step})]
                )
        yield


def main(folder: str) -> None:
    clock = ManualClock(make.NOW_US)
    log = EmbeddedLog(folder, clock=clock, roll_bytes=ROLL_BYTES)
    for connection in (log._truth._writer, log._truth._reader):
        assert connection is not None
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    for _ in work(log, clock):
        os.write(SAYS_FD, DONE)
        os.write(SAYS_FD, seen(log).encode())
    log.close()


if __name__ == "__main__":
    main(sys.argv[1])
