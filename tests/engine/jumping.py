"""An event loop whose clock jumps to its next timer when nothing else is to do, so that no test waits. No test of its
own lives here."""

import asyncio
import selectors
from typing import Any

from streamflow.engine.calls import Calls


class _JumpingSelector(selectors.DefaultSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0 if timeout is not None else None)
        if not events and timeout is not None:
            self.now_s += timeout
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now_s


def jumping_calls(jitter: float = 1.0) -> Calls:
    """Each pause between tries is that part of the longest one."""
    return Calls(JumpingLoop, lambda low, high: low + jitter * (high - low))
