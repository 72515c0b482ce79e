"""The part of the terminal that is drawn again and again, below the lines that stay."""

import sys
import time
from collections.abc import Callable, Iterable
from threading import Event, RLock, Thread
from typing import Any, Final

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment

#: Seconds between two drawings: as many as make drawing take this share of a core, within these limits.
_SHARE: Final = 0.005
_SHORTEST, _LONGEST = 0.1, 1.0


class SharedConsole(Console):
    """A console that several threads print on, one after the other.

    Rich places the cursor by the region that was drawn last. Two threads at once would place it by one that the other
    has not written yet.
    """

    drawing = RLock()

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `Console.print` does, when no other thread draws."""
        with self.drawing:
            super().print(*objects, **options)


_latest: list[tuple[object, SharedConsole]] = []  # a stream, and its console


def console() -> SharedConsole:
    """Return the console of standard error. Everything live must share it, to be drawn together."""
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # Rich takes the stream's place while it draws
    if not _latest or _latest[0][0] is not stream:
        coloured_pipe = not stream.isatty()  # by FORCE_COLOR: no reason to draw again and again
        _latest[:] = [(stream, SharedConsole(stderr=True, force_interactive=False if coloured_pipe else None))]
    return _latest[0][1]


class Region(Live):
    """A `rich.live.Live` that takes little time, and survives a resized terminal.

    A terminal that becomes narrower wraps the lines that are there, so that they take more rows than were drawn: these
    are erased too.

    Args:
        console: Where it is drawn.
        content: Returns what is drawn now; called by another thread.
        transient: Whether nothing of it stays at the end.
    """

    def __init__(self, console: SharedConsole, content: Callable[[], RenderableType], *, transient: bool) -> None:
        self.content = content
        self._widths: list[int] = []  # of the lines drawn last
        self._drawing, self._over = console.drawing, Event()
        self._thread = Thread(target=self._draw_again_and_again, daemon=True)
        to_terminal = sys.stdout.isatty()
        super().__init__(console=console, auto_refresh=False, transient=transient, redirect_stdout=to_terminal)

    def start(self, refresh: bool = False) -> None:
        """Begin to draw, for the first time at once: imports that follow may keep the thread waiting for seconds."""
        super().start(refresh=True)
        self._thread.start()

    def stop(self) -> None:
        """Draw for the last time."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        super().stop()

    def _draw_again_and_again(self) -> None:
        pause = _SHORTEST
        while not self._over.wait(pause):
            start = time.thread_time()
            with self._drawing:
                self.refresh()
            pause = min(max((time.thread_time() - start) / _SHARE, _SHORTEST), _LONGEST)

    def get_renderable(self) -> RenderableType:
        """Return what is drawn now; called by Rich."""
        return self.content()

    @property
    def renderable(self) -> RenderableType:
        """What is drawn, which notes how wide its lines are."""
        return _Measured(super().renderable, self._widths)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Erase what was drawn before; called by Rich."""
        width = self.console.width
        wrapped = sum(max(0, -(-line // width) - 1) for line in self._widths)
        above = Control(*[(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * wrapped)
        return [above, *super().process_renderables(renderables)]


class _Measured:
    def __init__(self, content: RenderableType, widths: list[int]) -> None:
        self._content, self._widths = content, widths

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._content, options, pad=False)
        self._widths[:] = map(Segment.get_line_length, lines)
        yield from _joined(lines)


def _joined(lines: Iterable[list[Segment]]) -> Iterable[Segment]:
    for line in lines:
        yield from line
        yield Segment.line()
