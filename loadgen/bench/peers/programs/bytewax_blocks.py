"""The source of both Bytewax programs: a file of lines in blocks."""

from itertools import chain

from blocks import blocks
from bytewax.inputs import DynamicSource, StatelessSourcePartition


class Blocks(DynamicSource):
    """The file in blocks of whole lines, dealt to the readers (workers) in turn. Items: (reader, block), at last
    (reader, None)."""

    def __init__(self, path: str) -> None:
        self._path = path

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Share":
        return _Share(self._path, worker_index, worker_count)


class _Share(StatelessSourcePartition):
    def __init__(self, path: str, reader: int, readers: int) -> None:
        self._items = ((reader, block) for block in chain(blocks(path, reader, readers), [None]))

    def next_batch(self) -> list[tuple[int, bytes | None]]:
        return [next(self._items)]
