"""Logs that die with their process at a commit of choice, before or after it is applied.

    log = dying(streamflow.connect("memory://"), at=3, applied=True)

What dies is the handle, with all that would follow; what stands behind it is as the death has left it. Between two
commits nothing durable happens, so these two moments of each commit are all there are.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from streamflow.topics.protocol import Log, StepCommit

__all__ = ["Died", "WrappedLog", "dying"]


class Died(BaseException):
    """The process is gone: no handler of the library may catch this."""


class WrappedLog:
    """A log that hands everything on, but for the commits, which `on_commit` may do something about: it is given the
    number of the commit, from 0 on, and what applies it. `commits`: how many there have been; `dead`: let every further
    call raise `Died`."""

    def __init__(self, log: Log, on_commit: Callable[[int, Callable[[], list[bool]]], list[bool]]) -> None:
        self._log, self._on_commit = log, on_commit
        self.commits = 0
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            if name == "heartbeat":
                # Its thread is gone with the process, without a word.
                return lambda *_, **__: False
            raise Died
        return getattr(self._log, name)

    def commit(self, commits: Sequence[StepCommit]) -> list[bool]:
        self.commits += 1
        return self._on_commit(self.commits - 1, lambda: self._log.commit(commits))


def dying(log: Log, at: int, *, applied: bool) -> Log:
    """Dies at its commit number `at`, with all that would follow."""

    def on_commit(n: int, commit: Callable[[], list[bool]]) -> list[bool]:
        if n < at:
            return commit()
        if applied:
            commit()
        wrapped.dead = True
        raise Died

    wrapped = WrappedLog(log, on_commit)
    return cast(Log, wrapped)
