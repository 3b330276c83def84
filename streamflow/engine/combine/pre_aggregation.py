"""What is learnt of grouping before the shuffle. Pure."""

GAIN_MIN = 1.25
"""To merge what leaves more than four fifths of its rows costs more than to carry them on."""
_GAIN_ROWS_MIN = 10_000
"""Of fewer rows there is nothing to learn, nor to save."""
_SINGLE_BATCHES = 15
"""Batches that are not grouped before the shuffle after one that was in vain."""


class PreAggregation:
    """Whether to group a batch before the shuffle: not where nearly every event is a group of its own."""

    def __init__(self) -> None:
        self._singles = 0

    @property
    def worthwhile(self) -> bool:
        return not self._singles

    def seen(self, events: int, rows: int) -> None:
        """So many events of a batch became so many rows, by grouping or one by one."""
        if self._singles:
            self._singles -= 1
        elif rows >= _GAIN_ROWS_MIN and events < GAIN_MIN * rows:
            self._singles = _SINGLE_BATCHES
