"""Start-up times: import, help, and a report on a large store."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import print_result
from benchmarks.stores import write_store


def startup(
    trials: Annotated[int, typer.Option(min=1, help="Trials in the store of the report.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of each timing, after one warm-up.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print median times of `import pneumosearch`, `--help` and `report`, each in a new process.

    Example: scripts/bench startup --trials 1000
    """
    with tempfile.TemporaryDirectory() as name:
        url = write_store(Path(name), trials)
        program = [sys.executable, "-m", "pneumosearch"]
        report = [*program, "report", "--storage", url, "--results", name]
        commands = {
            "import": [sys.executable, "-c", "import pneumosearch"],
            "help": [*program, "--help"],
            "report": report,
            "report_json": [*report, "--json"],
        }
        seconds = {what: _median_seconds(command, repeats) for what, command in commands.items()}
    result = {f"{what}_s": value for what, value in seconds.items()} | {"trials": trials, "repeats": repeats}
    print_result(result, list(seconds.items()), ("what", "seconds"), as_json)


def _median_seconds(command: list[str], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
