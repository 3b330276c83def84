"""Files written exactly once: each holds the rows of one range of input offsets, and its name says which.

The protocol of a write: drop the rows that are stored already; write and fsync a hidden file; then, holding the sink's
lock, see that nobody else went on, rename it to its name, and fsync the folder. What is not renamed was never there;
what is, covers its offsets for good. The lock ends with its process, however that ends.
"""

import fcntl
import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import polars as pl

from streamflow.base.errors import FencedError
from streamflow.model.batch import OFFSET
from streamflow.stores._common import make_folder, sync_path
from streamflow.stores.files.access import local
from streamflow.stores.files.encoding import FileSpec, check, encoded


class FileWriter:
    """Writes the output of one `app` (a pipeline's sink) to files `<prefix>-<app>-<first offset>-<end offset><suffix>`.

    One process at a time should hold an app; a former holder that wakes up does no harm."""

    def __init__(self, spec: FileSpec, app: str) -> None:
        full = Path(local(spec.prefix))
        self.spec, self._folder, self._stem = spec, full.parent, f"{full.name}-{app}-"
        self._name = re.compile(re.escape(self._stem) + r"\d{12,}-(\d{12,})" + re.escape(spec.suffix))
        make_folder(self._folder)
        with self._locked():
            for draft in self._folder.glob(f".{glob.escape(self._stem)}*.draft"):
                draft.unlink(missing_ok=True)
        self._end = self._scan()

    def committed(self) -> int:
        """The end of the input that the files cover: the offset to go on from; 0 if there is none."""
        self._end = max(self._end, self._scan())
        return self._end

    def check(self, frame: pl.DataFrame) -> None:
        """DataError if files of this format can't hold rows of such columns."""
        check(frame, self.spec.format)

    def write(self, frame: pl.DataFrame, end: int) -> int:
        """Store the rows of `frame` not stored yet; durable on return. `frame` has `_offset` (below `end`); how many
        rows were stored. FencedError if another holder of the app went on meanwhile: nothing was stored."""
        begin = self._end
        fresh = frame.filter(pl.col(OFFSET) >= begin)
        if begin >= end or fresh.is_empty():
            return 0
        name = f"{self._stem}{begin:012d}-{end:012d}{self.spec.suffix}"
        draft = self._folder / f".{name}.{uuid4().hex}.draft"
        with draft.open("xb") as file:
            file.write(encoded(fresh.drop(OFFSET), self.spec))
            file.flush()
            os.fsync(file.fileno())
        with self._locked():
            # A new holder has removed the draft, or has written what it was to hold.
            if not draft.exists() or self._scan() > begin:
                draft.unlink(missing_ok=True)
                raise FencedError(
                    f"the files '{self.spec.prefix}…' were continued by another writer. Drop this work, it is done "
                    "there"
                )
            os.rename(draft, self._folder / name)
            sync_path(self._folder)
        self._end = end
        return fresh.height

    def _scan(self) -> int:
        ends = (int(match[1]) for entry in os.scandir(self._folder) if (match := self._name.fullmatch(entry.name)))
        return max(ends, default=0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / f".{self._stem}lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
