"""How long a job of several parts has taken, and how long it may still take."""

import time
from collections.abc import Callable


class TimeLeft:
    """Estimates from the parts that ended here, and counts down between them.

    Args:
        clock: Seconds that pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = self._at = clock()
        self._first: tuple[int, float] | None = None  # parts that were done before, and when that was known
        self._done = 0  # and at `_at` the last of them ended

    def reached(self, done: int) -> None:
        """Note that so many parts are done; the first call says how many were before."""
        if self._first is None:
            self._first = done, self._clock()
        if done > self._done:
            self._at = self._clock()
        self._done = done

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._start

    def seconds(self, n: int) -> float | None:
        """Return the seconds until `n` parts are done; None before one has ended here."""
        before, since = self._first or (0, self._start)
        ended = self._done - before
        if ended <= 0:
            return None
        each = (self._at - since) / ended
        left = max(0, n - self._done)
        # A part that takes longer than the others ends soon, as far as one knows.
        return max(left * each - (self._clock() - self._at), (left - 1) * each, 0.0)

    def text(self, n: int) -> str:
        """Say how long it has taken and may still take until `n` parts are done."""
        left = self.seconds(n)
        return clock_text(self.elapsed) + ("" if left is None else f", about {words(left)} left")


def clock_text(seconds: float) -> str:
    """Return a time as 3:05 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def words(seconds: float) -> str:
    """Return a time in seconds, minutes or hours, as exactly as an estimate is."""
    if seconds < 90:
        return f"{10 * max(1, round(seconds / 10))} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
