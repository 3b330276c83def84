"""How many requests an endpoint gets at once: pure; moments are not its business."""

FIRST = 4
"""Requests of the first round; twice as many in the next one if all goes well, as in TCP's slow start."""
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 60.0
"""Google's push back-off, while nothing but failures comes back."""


class Window:
    """Doubles from round to round until something fails; then additive increase, multiplicative decrease (RFC 5681):
    one more per round, half after a round with failures."""

    def __init__(self, most: int) -> None:
        self.running = 0
        self._most = float(most)
        self._limit = float(min(FIRST, most))
        self._slow_start = True
        self._begun = 0
        self._cut_at = 0
        self._failed_rounds = 0

    @property
    def room(self) -> int:
        """So many more may begin."""
        return max(0, int(self._limit) - self.running)

    @property
    def pause_s(self) -> float:
        """How long to wait before the next one, where failed messages don't rest by a policy of their own."""
        if not self._failed_rounds:
            return 0.0
        return min(PAUSE_MIN_S * 2.0 ** min(self._failed_rounds - 1, 20), PAUSE_MAX_S)

    def begin(self) -> int:
        """The number of the request, for `end`."""
        self.running += 1
        self._begun += 1
        return self._begun

    def end(self, number: int, succeeded: bool | None) -> None:
        """None: it was not sent after all."""
        self.running -= 1
        if succeeded:
            self._failed_rounds = 0
            self._limit = min(self._most, self._limit + (1.0 if self._slow_start else 1.0 / self._limit))
        elif succeeded is False and number > self._cut_at:
            # Those that were out together fail together: one failure.
            self._cut_at = self._begun
            self._failed_rounds += 1
            self._slow_start = False
            self._limit = max(1.0, self._limit / 2)
