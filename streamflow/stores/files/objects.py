"""Files in an object store, through fsspec. It has no locks and can't rename, but an object is there as a whole or not
at all, and writing one again is harmless if it is the same one.

So whoever writes must have settled before which offsets an object is to hold, and never settle it otherwise: the name
follows from the offsets, the content from the name. What was settled and is perhaps not written is written anew.
"""

import re

import polars as pl

from streamflow.model.batch import OFFSET
from streamflow.stores.files.access import remote
from streamflow.stores.files.encoding import FileSpec, check, encoded


class ObjectWriter:
    """Writes the output of one `app` (a pipeline's sink) to objects `<prefix>-<app>-<first offset>-<end
    offset><suffix>`."""

    def __init__(self, spec: FileSpec, app: str) -> None:
        self.spec = spec
        self._system, inner = remote(spec.prefix)
        self._folder, _, name = inner.rpartition("/")
        self._stem = f"{name}-{app}-"
        self._name = re.compile(re.escape(self._stem) + r"\d{12,}-(\d{12,})" + re.escape(spec.suffix))

    def committed(self) -> int:
        """The end of the input that the objects cover; 0 if there is none."""
        # Listings are kept by fsspec, which would hide what others have written.
        self._system.invalidate_cache()
        try:
            paths: list[str] = self._system.ls(self._folder, detail=False)
        except FileNotFoundError:
            return 0
        matches = (self._name.fullmatch(path.rsplit("/", 1)[-1]) for path in paths)
        return max((int(match[1]) for match in matches if match), default=0)

    def check(self, frame: pl.DataFrame) -> None:
        """DataError if files of this format can't hold rows of such columns."""
        check(frame, self.spec.format)

    def write(self, frame: pl.DataFrame, begin: int, end: int) -> int:
        """Store the rows of `frame`, which are those of the offsets `[begin, end)`; durable on return. How many they
        are."""
        path = f"{self._folder}/{self._stem}{begin:012d}-{end:012d}{self.spec.suffix}"
        self._system.pipe_file(path, encoded(frame.drop(OFFSET), self.spec))
        return frame.height
