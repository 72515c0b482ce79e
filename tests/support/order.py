"""The order of the tests where several processes share them."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Each = tuple[Item, Hashable, bool]  # a test, its module, whether it is slow


def slow_first(items: Sequence[Each[Item]], n: int) -> list[Item]:
    """Order tests so that each of `n` processes, which get equal parts of them in a row, begins with slow ones.

    A slow test that begins last keeps one process busy while the others have ended. Tests of a module stay together,
    as they share what is expensive to make.
    """
    modules: dict[Hashable, list[Item]] = defaultdict(list)
    n_slow: dict[Hashable, int] = defaultdict(int)
    for item, module, slow in items:
        modules[module].append(item)
        n_slow[module] += slow
    parts: list[list[Item]] = [[] for _ in range(n)]
    burden = [0] * n
    for module in sorted(modules, key=lambda module: -n_slow[module]):  # stable: else as they came
        weights = burden if n_slow[module] else [len(part) for part in parts]
        fewest = weights.index(min(weights))
        parts[fewest] += modules[module]
        burden[fewest] += n_slow[module]
    return [item for part in parts for item in part]
