"""A task's keyed state, and what is durable of it, without a log. No test of its own lives here."""

from dataclasses import dataclass, field

from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Delta, Ledger
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics.protocol import SegmentInfo

LATENESS_US = 5


def gone_at(end_us: int) -> int:
    return min(end_us + LATENESS_US, MAX_US)


@dataclass
class Durable:
    """The segments of a task as a log keeps them."""

    infos: dict[int, SegmentInfo] = field(default_factory=dict)
    payloads: dict[int, bytes] = field(default_factory=dict)
    watermark_us: int = MIN_US

    def commit(self, delta: Delta, watermark_us: int) -> None:
        for sequence in delta.drop:
            del self.infos[sequence], self.payloads[sequence]
        for segment in delta.add:
            self.infos[segment.info.sequence] = segment.info
            self.payloads[segment.info.sequence] = segment.payload
        self.watermark_us = watermark_us

    def claimed(self, segments_max: int = 1) -> KeyedState:
        infos = [self.infos[sequence] for sequence in sorted(self.infos)]
        return KeyedState(Ledger(infos, self.payloads.__getitem__), gone_at, self.watermark_us, segments_max)
