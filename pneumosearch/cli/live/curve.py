"""A series of numbers as a line of small bars."""

from itertools import pairwise
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"
_MOST: Final = 256  # numbers that are kept; then neighbours are averaged


class Curve:
    """A growing series, drawn from its beginning in any width."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._each = 1  # numbers that a value is the mean of
        self._rest: list[float] = []  # the latest, fewer than that

    def add(self, value: float) -> None:
        """Add a number at the end."""
        self._rest.append(value)
        if len(self._rest) < self._each:
            return
        values, self._rest = [*self._values, _mean(self._rest)], []
        if len(values) >= _MOST:
            values, self._each = [_mean(pair) for pair in zip(values[::2], values[1::2], strict=True)], 2 * self._each
        self._values = values  # at once, as another thread draws it

    def bars(self, width: int) -> str:
        """Return at most `width` bars, the mean of an equal share of the series each; the highest is its largest."""
        values = self._values
        n = min(width, len(values))
        if not n:
            return ""
        bounds = [position * len(values) // n for position in range(n + 1)]
        means = [_mean(values[start:end]) for start, end in pairwise(bounds)]
        low, high = min(means), max(means)
        steps = (len(_BARS) - 1) / ((high - low) or 1.0)
        return "".join(_BARS[round((mean - low) * steps)] for mean in means)


def _mean(values: "list[float] | tuple[float, ...]") -> float:
    return sum(values) / len(values)
