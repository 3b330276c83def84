"""The log of the autoscaler's decisions: what was seen, what was decided, and what else was priced.

A file of JSON lines in the data folder, written by the pipeline's supervisor alone. It is for people and for replays:
nothing depends on it, and so it is neither synced nor part of a commit. Each line begins with the line break, which
ends a torn one before it. Bounded: a full file becomes the older one, and the one before that goes.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamflow.runtime.autoscaler import Decision, Observation, Policy

FILE_BYTES_MAX = 8_000_000
"""Of each of the two: some hours of a decision each second."""
_SUFFIX = ".autoscale.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """`at_us`: wall time."""

    at_us: int
    seen: Observation
    policy: Policy
    decision: Decision

    @property
    def changes(self) -> bool:
        return self.decision.workers != self.seen.wanted


def decisions_file(data: Path, pipeline: str) -> Path:
    return data / "logs" / f"{pipeline}{_SUFFIX}"


def append(data: Path, pipeline: str, entry: Entry) -> None:
    """What a full disk does not take is left out."""
    path = decisions_file(data, pipeline)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            log.write(b"\n" + msgspec.json.encode(entry))
            full = log.tell() >= FILE_BYTES_MAX
        if full:
            os.replace(path, _older(path))


def read(data: Path, pipeline: str) -> list[Entry]:
    """All that is kept, in order; what was torn by a crash is left out."""
    path = decisions_file(data, pipeline)
    lines = [line for each in (_older(path), path) if each.exists() for line in each.read_bytes().splitlines()]
    decoder = msgspec.json.Decoder(Entry)
    entries = []
    for line in filter(None, lines):
        try:
            entries.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return entries


def recorded(data: Path) -> list[str]:
    """Pipelines with such a log."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in (data / "logs").glob(f"*{_SUFFIX}"))


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
