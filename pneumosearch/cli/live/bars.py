"""Bars of what is counted, such as images that are decoded; they vanish when it is done."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pneumosearch.cli.leaving import leaving
from pneumosearch.cli.live.region import Region, console
from pneumosearch.cli.live.times import clock_text

if TYPE_CHECKING:
    from pneumosearch.data.cache import Progress as Report

_SECONDS_BETWEEN_LINES: Final = 10.0


def decoding_progress() -> "Report":
    """Return a callback for the decoding of images: a bar on a terminal, elsewhere a line every ten seconds."""
    if not console().is_interactive:
        return _lines()
    bar = _Decoding()
    leaving.callback(bar.stop)  # whatever stops the command, the terminal is as it was
    return bar


def _lines() -> "Report":
    last = time.monotonic()

    def show(done: int, n: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES or done == n:
            last = time.monotonic()
            print(f"decoded {done} of {n} images", file=sys.stderr)

    return show


class _Decoding:
    """A bar for each set of images that is decoded."""

    def __init__(self) -> None:
        self._shown: tuple[Progress, Region] | None = None

    def __call__(self, done: int, n: int) -> None:
        if self._shown is None:
            bar = _bar("decoding images", n)
            self._shown = bar, _region(bar)
            self._shown[1].start()
        bar, _ = self._shown
        bar.update(bar.task_ids[0], completed=done, total=n)
        if done == n:
            self.stop()

    def stop(self) -> None:
        if self._shown is not None:
            self._shown[1].stop()
            self._shown = None


@contextmanager
def counting(what: str, n: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, and nothing elsewhere, while the block runs; yield what counts one more done."""
    if not console().is_interactive:
        yield lambda: None
        return
    bar = _bar(what, n)
    with _region(bar):
        yield lambda: bar.advance(bar.task_ids[0])


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal what is done while the block runs, and for how long; bars of its parts appear below."""
    if not console().is_interactive:
        yield
        return
    start = time.monotonic()
    with Region(console(), lambda: f"{what}, {clock_text(time.monotonic() - start)}", transient=True):
        yield


def _region(bar: Progress) -> Region:
    return Region(console(), bar.get_renderable, transient=True)


def _bar(what: str, n: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console(), auto_refresh=False, expand=True)
    bar.add_task(what, total=n)
    return bar
