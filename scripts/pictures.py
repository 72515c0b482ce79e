"""The pictures of the README and docs/, each from a run that really happened.

`winners` reads the committed results; `battery` draws a phantom;
`terminal` and `page` take pictures of what a command prints and writes,
`recording` films a command that runs.
"""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import matplotlib as mpl
import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from recording import film, moving_svg

ROOT: Final = Path(__file__).parent.parent
PICTURES: Final = ROOT / "docs" / "pictures"
#: Okabe and Ito's vermilion and blue: told apart by colour-blind readers, and on light and dark ground.
WINNER, BASELINE, GREY = "#D55E00", "#0072B2", "#777777"

app = typer.Typer(help="Draw the pictures of the documents.", no_args_is_help=True, pretty_exceptions_enable=False)
Output = Annotated[Path, typer.Option(help="SVG file to write.")]


@dataclass(frozen=True)
class Outcome:
    """One side of a confirmed search; all values in percent."""

    validation: float  # of the one training that the search made
    test: float  # mean over fresh seeds
    low: float
    high: float


def outcomes(study: str, results: Path = ROOT / "results") -> tuple[Outcome, Outcome]:
    """Return what a search's winner and the baseline reached, from the committed results.

    Raises:
        KeyError: The results hold no such trial.
    """
    confirmation = json.loads((results / f"{study}-confirmation.json").read_text())
    with (results / f"{study}.csv").open() as file:
        trials = {int(row["number"]): row for row in csv.DictReader(file)}
    candidates = confirmation["candidates"]
    winner, baseline = candidates[confirmation["verdict"]["winner"]], candidates[0]
    return _outcome(winner, trials), _outcome(baseline, trials)


def _outcome(candidate: dict[str, Any], trials: dict[int, dict[str, str]]) -> Outcome:
    accuracy = candidate["at_half"]["accuracy"]
    validation = float(trials[candidate["trial"]]["validation_accuracy"])
    return Outcome(*(100 * value for value in (validation, accuracy["mean"], accuracy["low"], accuracy["high"])))


@app.command()
def winners(output: Output = PICTURES / "winners.svg") -> None:
    """Draw what six searches promised on validation, and what their winners reached on the test images."""
    labels = {
        "hour": "default\nspace",
        "wide": "wide\nspace",
        "copies": "changed\ncopies",
        "robust": "robust\nstudy",
        "default-first": "default\nstudy, first",
        "default": "default\nstudy",
    }
    with mpl.rc_context({"svg.fonttype": "path", "font.size": 10, "svg.hashsalt": "pneumosearch"}):
        figure = Figure(figsize=(10.2, 3.4), layout="constrained", facecolor="white")
        before, after = figure.subplots(1, 2, sharey=True)
        for position, study in enumerate(labels):
            for colour, side, shift in zip((WINNER, BASELINE), outcomes(study), (-0.1, 0.1), strict=True):
                _draw(before, after, position + shift, side, colour)
        for axes, title in (
            (before, "what the search says: validation, one seed"),
            (after, "what holds: test images, five fresh seeds"),
        ):
            axes.set_title(title, fontsize=10.5, loc="left")
            axes.set_xticks(range(len(labels)), list(labels.values()))
            axes.set_xlim(-0.75, len(labels) - 0.4)
            axes.grid(axis="y", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        before.set_ylabel("accuracy, %")
        before.plot([], [], "o", color=WINNER, label="winner of the search")
        before.plot([], [], "s", color=BASELINE, label="published network")
        before.legend(frameon=False, loc="lower left")
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, format="svg", metadata={"Date": None})


def _draw(before: Axes, after: Axes, x: float, side: Outcome, colour: str) -> None:
    marker = "o" if colour == WINNER else "s"
    before.plot(x, side.validation, marker, color=colour, markersize=7)
    after.errorbar(x, side.test, [[side.test - side.low], [side.high - side.test]], fmt=marker, color=colour, capsize=3)
    for axes, value in ((before, side.validation), (after, side.test)):
        left = colour == WINNER
        axes.annotate(
            f"{value:.1f}", (x, value), (-6 if left else 6, 0), textcoords="offset points", fontsize=7.5, color=colour,
            ha="right" if left else "left", va="center",
        )  # fmt: skip


@app.command()
def battery(output: Annotated[Path, typer.Option(help="PNG file to write.")] = PICTURES / "battery.png") -> None:
    """Draw a phantom under each change of the battery of crafted shifts."""
    from pneumosearch.data.cache import shrink
    from pneumosearch.data.phantom_drawing import draw_phantom
    from pneumosearch.illustrations import images

    phantom = draw_phantom(np.random.default_rng(3), 0.5)
    output.parent.mkdir(parents=True, exist_ok=True)
    images.battery(shrink(phantom, 150, "area")).savefig(output, dpi=90, metadata={"Software": None})


@app.command()
def terminal(
    command: Annotated[str, typer.Argument(help="What is run, such as 'pneumosearch report --name first'.")],
    output: Output = PICTURES / "report.svg",
    width: Annotated[int, typer.Option(min=40, help="Of the terminal, in characters.")] = 100,
) -> None:
    """Run a command of pneumosearch in this folder and draw what it prints."""
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = {**os.environ, "COLUMNS": str(width), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    _write_screen([f"\x1b[1m$ {command}\x1b[0m", *done.stdout.rstrip().split("\n")], width, output)


def _write_screen(lines: Sequence[str], width: int, output: Path) -> None:
    """Draw lines with the escape sequences of colours."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line))
    picture = console.export_svg(title="pneumosearch", theme=MONOKAI, unique_id="terminal")
    output.parent.mkdir(parents=True, exist_ok=True)
    # The reader's own monospaced letters do: a picture fetches nothing from elsewhere.
    output.write_text(re.sub(r"@font-face {.*?}\n", "", picture, flags=re.DOTALL))


@app.command()
def recording(
    command: Annotated[str, typer.Argument(help="What is run, such as 'pneumosearch study --trials 50'.")],
    output: Output = PICTURES / "first-minutes.svg",
    still: Annotated[Path, typer.Option(help="SVG file to write with one moment.")] = PICTURES / "study.svg",
    still_at: Annotated[float, typer.Option(min=0, help="That moment, in seconds.")] = 150,
    seconds: Annotated[float, typer.Option(min=1, help="How long it is filmed.")] = 180,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two pictures.")] = 2,
    speed: Annotated[float, typer.Option(min=1, help="How much faster it is shown.")] = 6,
    width: Annotated[int, typer.Option(min=40, help="Of the terminal, in characters.")] = 100,
    height: Annotated[int, typer.Option(min=10, help="Of the terminal, in lines.")] = 28,
) -> None:
    """Film a terminal (of tmux) in which a command of pneumosearch runs in this folder."""
    words = [sys.executable, "-m", *shlex.split(command)]
    kept = ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL", "PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    frames = film(words, command, environment, width=width, height=height, seconds=seconds, every=every)
    title = f"{command}: the first {frames[-1].seconds:.0f} seconds, {speed:g} times faster"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(moving_svg(frames, width=width, height=height, speed=speed, title=title))
    moment = min(frames, key=lambda frame: abs(frame.seconds - still_at))
    _write_screen(moment.lines, width, still)


@app.command()
def page(
    html: Annotated[Path, typer.Argument(help="Page that `report --html` wrote.")],
    output: Annotated[Path, typer.Option(help="PNG file to write.")] = PICTURES / "page.png",
    height: Annotated[int, typer.Option(min=100, help="Of the picture, in pixels; its width is 1000.")] = 960,
) -> None:
    """Draw the head of a page, as Chromium shows it."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("error: no chromium on the PATH")
    options = ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size=1000,{height}")
    output.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([browser, *options, f"--screenshot={output}", html.resolve().as_uri()], check=True)


if __name__ == "__main__":
    app()
