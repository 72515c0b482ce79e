"""Cost of report, page, suggestion and memory against the number of stored trials."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, NamedTuple

import psutil
import typer

from benchmarks.common import print_result
from benchmarks.stores import write_store
from pneumosearch.search.claims import Claims
from pneumosearch.search.leases import Leases
from pneumosearch.search.proposers import SamplerProposer
from pneumosearch.search.pruners import make_pruner
from pneumosearch.search.samplers import study_sampler
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec


class _Suggestions(NamedTuple):
    """What a process pays that suggests trials of a stored study."""

    load: float  # CPU seconds until it has the trials
    suggest: float  # wall seconds from asking whether there is work to the configuration, median
    suggest_cpu: float  # CPU seconds of the same
    resident: int  # MiB at last


def scale(
    sizes: Annotated[str, typer.Option(help="Numbers of stored trials.")] = "100,1000,10000",
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of each timing.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a report, its page and a suggestion cost on stores of different sizes, by wall and by CPU time.

    Report and page are commands, so that their start counts. A suggestion is what a worker does before it trains:
    the claims, the study's sampler, the parameters written. Memory is that of the process that suggests.

    Example: scripts/bench scale --sizes 100,1000
    """
    headings = (
        "trials", "report_s", "report_cpu_s", "page_s", "page_cpu_s", "page_mib",
        "load_cpu_s", "suggest_s", "suggest_cpu_s", "resident_mib",
    )  # fmt: skip
    rows = [_row(int(size), repeats) for size in sizes.split(",")]
    result = {"rows": [dict(zip(headings, row, strict=True)) for row in rows], "repeats": repeats}
    print_result(result, rows, headings, as_json)


def _row(n: int, repeats: int) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name), Path(name) / "page.html"
        url = write_store(folder, n)
        report = [sys.executable, "-m", "pneumosearch", "report", "--storage", url, "--results", name]
        table = _median_times(report, repeats)
        html = _median_times([*report, "--html", str(page)], repeats)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            suggestions = process.submit(_suggestions, url, folder, repeats).result()
        print(f"{n} trials: report {table[0]:.2f} s, suggestion {suggestions.suggest:.3f} s", file=sys.stderr)
        return n, *table, *html, page.stat().st_size / 2**20, *suggestions


def _median_times(command: Sequence[str], repeats: int) -> tuple[float, float]:
    """Return median wall and CPU seconds of a command."""
    times = []
    for _ in range(repeats):
        before, start = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        times.append((time.perf_counter() - start, cpu))
    wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    return wall, cpu


def _suggestions(url: str, results: Path, repeats: int) -> _Suggestions:
    """Suggest as a worker of the default study does, in a process of its own."""
    spec = StudySpec()
    study, space = Store(url, results).load_study(spec.name), spec.search_space()
    study.sampler, study.pruner = study_sampler(spec, space), make_pruner(spec)
    start = time.process_time()
    goal = len(study.get_trials(deepcopy=False)) + repeats + 2
    loaded, times = time.process_time() - start, []
    claims = Claims(study, SamplerProposer(study), Leases(), goal)
    for _ in range(repeats + 1):
        begin, cpu = time.perf_counter(), time.process_time()
        if claims.done() or not claims.any_left():
            raise RuntimeError(f"the store of {goal} trials has no work left")
        trial = claims.next()
        space.suggest(trial)
        times.append((time.perf_counter() - begin, time.process_time() - cpu))
        study.tell(trial, 0.9)
    wall, cpu = (statistics.median(column) for column in zip(*times[1:], strict=True))  # the first one imports
    return _Suggestions(loaded, wall, cpu, psutil.Process().memory_info().rss >> 20)
