"""The part of the terminal that is drawn again and again, below the lines that stay."""

import sys
from collections.abc import Callable, Iterable
from typing import Final

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment

#: A second.
REDRAWS: Final = 2

_latest: list[tuple[object, Console]] = []  # a stream, and its console


def console() -> Console:
    """Return the console of standard error. Everything live must share it, to be drawn together."""
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # Rich takes the stream's place while it draws
    if not _latest or _latest[0][0] is not stream:
        colours_in_a_pipe = not stream.isatty()  # by FORCE_COLOR: no reason to draw again and again
        _latest[:] = [(stream, Console(stderr=True, force_interactive=False if colours_in_a_pipe else None))]
    return _latest[0][1]


class Region(Live):
    """A `rich.live.Live` that survives a resized terminal.

    A terminal that becomes narrower wraps the lines that are there, so that they take more rows than were drawn: these
    are erased too.

    Args:
        console: Where it is drawn.
        content: Returns what is drawn now; called by another thread.
    """

    def __init__(self, console: Console, content: Callable[[], RenderableType]) -> None:
        self._widths: list[int] = []  # of the lines drawn last
        self.content = content
        super().__init__(console=console, refresh_per_second=REDRAWS, redirect_stdout=sys.stdout.isatty())

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
