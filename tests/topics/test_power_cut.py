"""What a power cut leaves of a log's folder is whole: what was confirmed is there, what was not is there or not."""

import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import topic_making as make
from power_cut import Disk, Op, record
from recorded_log import DONE, seen

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, CorruptionError
from streamflow.topics.embedded import EmbeddedLog

IMAGES = int(os.environ.get("STREAMFLOW_POWER_CUTS", "200"))

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and shutil.which("strace") is None, reason="strace is not installed"
)


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> list[Op]:
    folder = tmp_path_factory.mktemp("recorded")
    return record(folder / "log", folder / "trace")


def images(ops: list[Op], folder: Path) -> Iterator[tuple[int, Path, int]]:
    """(seed, image, confirmed changes), as many as there shall be, over the whole run."""
    moments = random.Random(7)
    cuts = sorted(moments.randint(1, len(ops)) for _ in range(IMAGES))
    disk, at = Disk(), 0
    for seed, cut in enumerate(cuts):
        for op in ops[at:cut]:
            disk.apply(op)
        at = cut
        image = folder / str(seed)
        image.mkdir()
        disk.cut(random.Random(seed), image)
        yield seed, image, disk.confirmed
        shutil.rmtree(image)


def goes_on(log: EmbeddedLog) -> None:
    if "t" not in [info.name for info in log.topics()]:
        log.create_topic("t")
    end = log.end("t", 0)
    assert log.publish([make.record(payload=b"after the cut" * 200)]) == [end]
    assert bytes(log.read("t", 0, end)[0].payload) == b"after the cut" * 200
    log.prune()


def test_confirmed_changes_survive_a_power_cut_and_others_are_whole_or_absent(ops: list[Op], tmp_path: Path) -> None:
    said = [op.data for op in ops if op.kind == "says"]
    with closing(EmbeddedLog(tmp_path / "empty")) as empty:
        expected = [seen(empty), *(each.decode() for each in said if each != DONE)]
    clock = ManualClock(make.NOW_US)
    undecided = set()
    for seed, image, confirmed in images(ops, tmp_path):
        with closing(EmbeddedLog(image, clock=clock)) as log:
            found = seen(log)
            assert found in expected[confirmed : confirmed + 2], f"image {seed}, after {confirmed} changes"
            undecided.add(found == expected[confirmed])
            goes_on(log)
            last = seen(log)
        with closing(EmbeddedLog(image, clock=clock)) as again:
            assert seen(again) == last
    assert undecided == {True, False}, "no cut fell between a change's being durable and its being confirmed"


@pytest.fixture(scope="module")
def whole(ops: list[Op], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder as it was when most of the database stood in SQLite's log; and all digests up to then."""
    at = max(range(len(ops)), key=lambda nth: (ops[nth].kind == "says" and ops[nth].data != DONE, nth))
    disk, folder = Disk(), tmp_path_factory.mktemp("whole") / "log"
    for op in ops[: at + 1]:
        disk.apply(op)
    for name, file in disk.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file.now)
    (folder / "streamflow.db-shm").unlink()
    return folder, [op.data.decode() for op in ops[: at + 1] if op.kind == "says" and op.data != DONE]


def damage(chance: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    match chance.choice(["flipped", "noughts", "cut"]):
        case "flipped":
            content[at] ^= 1 << chance.randrange(8)
        case "noughts":
            content[at : at + 512] = bytes(len(content[at : at + 512]))
        case _:
            del content[at:]
    path.write_bytes(content)


def seen_or_said(folder: Path) -> tuple[str, str]:
    """What is to be seen, or what the error says."""
    try:
        with closing(EmbeddedLog(folder)) as log:
            return seen(log), ""
    except (CorruptionError, ConflictError) as error:
        # ConflictError: a changed number of the database says that it is of another format.
        return "", str(error)


@pytest.mark.parametrize("suffix", [".seg", ".db-wal", ".db"])
def test_damage_to_what_is_committed_is_detected(whole: tuple[Path, list[str]], tmp_path: Path, suffix: str) -> None:
    """Of segments always. Damage to SQLite's log leaves what was committed before it; if segments of that were pruned
    since, this is told. Its database has no checksums: damage to it may go unseen, but gives no other error."""
    folder, digests = whole
    refused = 0
    for seed in range(IMAGES // 4):
        chance, image = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(folder, image)
        path = chance.choice(sorted(path for path in image.rglob(f"*{suffix}") if path.stat().st_size))
        damage(chance, path)
        found, said = seen_or_said(image)
        if said:
            refused += 1
            told = r"\.seg' is missing but still needed. Restore" if suffix == ".db-wal" else f"{path.name}.* Restore"
            assert suffix == ".db" or re.search(told, said), seed
        else:
            assert suffix == ".db" or found in digests[0 if suffix == ".db-wal" else -1 :], seed
        shutil.rmtree(image)
    assert refused > 0 or suffix == ".db-wal"
