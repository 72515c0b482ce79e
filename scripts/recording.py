"""A terminal, filmed while a command really runs in it, as an SVG that moves."""

import io
import re
import shlex
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

_ROW: Final = 24.4  # pixels between two lines of Rich's SVG
_CELL: Final = 12.2  # and between two characters


@dataclass(frozen=True)
class Frame:
    """What a terminal showed at a moment."""

    seconds: float  # since the command began
    lines: tuple[str, ...]  # with the escape sequences of colours


def film(
    command: Sequence[str], shown: str, environment: Mapping[str, str], *, width: int, height: int, seconds: float,
    every: float,
) -> list[Frame]:  # fmt: skip
    """Run a command in a terminal of tmux and look at it now and then, until it ends or the time is up.

    Args:
        command: What is run.
        shown: What the first line says that was typed.
        environment: Variables in addition to those of this process.
        width: Of the terminal, in characters.
        height: Of the terminal, in lines.
        seconds: At most so long.
        every: Seconds between two looks.
    """
    if shutil.which("tmux") is None:
        raise SystemExit("error: no tmux on the PATH")
    frames: list[Frame] = []
    with _terminal(command, shown, environment, width, height) as tmux:
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            lines = tmux("capture-pane", "-e", "-p").rstrip("\n").split("\n")
            frames.append(Frame(time.monotonic() - start, tuple(line.rstrip() for line in lines)))
            if tmux("display-message", "-p", "#{pane_dead}").strip() == "1":
                break
            time.sleep(max(0.0, start + len(frames) * every - time.monotonic()))
    return frames


@contextmanager
def _terminal(
    command: Sequence[str], shown: str, environment: Mapping[str, str], width: int, height: int
) -> Iterator["_Tmux"]:
    tmux = _Tmux(f"pictures-{uuid4().hex[:8]}")
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    line = f"echo {shlex.quote('$ ' + shown)}; exec env {settings} {shlex.join(command)}"
    size = ("-x", str(width), "-y", str(height))
    try:
        tmux("-f", "/dev/null", "new-session", "-d", *size, line, ";", "set", "remain-on-exit", "on")
        yield tmux
    finally:
        tmux("kill-server")


class _Tmux:
    """A server of its own, which no other session of the user's sees."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def moving_svg(frames: Sequence[Frame], *, width: int, height: int, speed: float, title: str) -> str:
    """Return the frames as an SVG that plays them again and again; without animation, the last one.

    Args:
        frames: At least one.
        width: Of the terminal, in characters.
        height: Of the terminal, in lines.
        speed: Seconds of the terminal in one second of the picture.
        title: What it shows, in words.
    """
    times = [frame.seconds / speed for frame in frames]
    duration = times[-1] + 2.0  # the last one stays a while
    drawn, styles = _drawn_lines(frames, width)
    uses = [
        f'<use href="#l{drawn[line][0]}" y="{row * _ROW:.1f}" visibility="{_shown(len(frames) - 1 in at)}">'
        f"{_animation(at, times, duration)}</use>"
        for (row, line), at in _places(frames, height).items()
    ]
    definitions = "".join(f'<g id="l{number}">{elements}</g>' for number, elements in drawn.values())
    size = f"{width * _CELL + 20:.0f} {height * _ROW + 24:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"><title>{title}</title>'
        f"<style>text{{font-family:monospace;font-size:20px;white-space:pre}}{styles}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{MONOKAI.background_color.hex}"/>'
        f'<rect y="{height * _ROW + 20:.0f}" height="4" fill="#888"><animate attributeName="width" from="0" '
        f'to="{width * _CELL + 20:.0f}" dur="{duration:.1f}s" repeatCount="indefinite"/></rect>'
        f'<defs>{definitions}</defs><g transform="translate(10,8)">{"".join(uses)}</g></svg>\n'
    )


def _drawn_lines(frames: Sequence[Frame], width: int) -> tuple[dict[str, tuple[int, str]], str]:
    """Return {line: (number, its SVG elements in the first row)} and the styles, as Rich draws them."""
    lines = list(dict.fromkeys(line for frame in frames for line in frame.lines if line))
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    styles, matrix = console.export_svg(code_format="{styles}\0{matrix}", theme=MONOKAI, unique_id="t").split("\0")
    rows: dict[int, str] = defaultdict(str)
    for element in re.findall(r"<text[^>]*>[^<]*\S[^<]*</text>", matrix):  # without the ends of lines
        element = re.sub(r' clip-path="[^"]*"', "", element)  # noqa: PLW2901  shorter
        y = float(re.search(r' y="([0-9.]+)"', element)[1])  # type: ignore[index]  # Rich writes it
        row = round((y - 20) / _ROW)
        rows[row] += re.sub(r' y="[0-9.]+"', ' y="20"', element).replace("&#160;", "\xa0")
    return {line: (number, rows[number]) for number, line in enumerate(lines)}, styles


def _places(frames: Sequence[Frame], height: int) -> dict[tuple[int, str], set[int]]:
    """Return the numbers of the frames in which each (row, line) is seen."""
    places: dict[tuple[int, str], set[int]] = defaultdict(set)
    for number, frame in enumerate(frames):
        for row, line in enumerate(frame.lines[:height]):
            if line:
                places[row, line].add(number)
    return places


def _animation(at: set[int], times: Sequence[float], duration: float) -> str:
    """Return when something is seen, as values at moments of the whole."""
    if len(at) == len(times):
        return ""
    changes = [n for n in range(len(times)) if n == 0 or (n in at) != (n - 1 in at)]
    values = ";".join(_shown(number in at) for number in changes)
    moments = ";".join("0" if number == 0 else f"{times[number] / duration:.4f}" for number in changes)
    return (
        f'<animate attributeName="visibility" values="{values}" keyTimes="{moments}" dur="{duration:.1f}s" '
        'calcMode="discrete" repeatCount="indefinite"/>'
    )


def _shown(visible: bool) -> str:
    return "visible" if visible else "hidden"
