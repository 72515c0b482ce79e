"""Cost of report, suggestion and storage against the number of stored trials."""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import optuna
import typer

from benchmarks.common import print_result
from benchmarks.stores import write_store
from pneumosearch.report.summary import study_summary
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec


def scale(
    sizes: Annotated[str, typer.Option(help="Numbers of stored trials.")] = "100,1000,10000",
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of each timing.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print median times of a report, a suggestion and the end of a trial for stores of different sizes.

    Example: scripts/bench scale --sizes 100,1000
    """
    rows = []
    for n in (int(size) for size in sizes.split(",")):
        with tempfile.TemporaryDirectory() as name:
            start = time.perf_counter()
            url = write_store(Path(name), n)
            writing = (time.perf_counter() - start) / n
            bytes_per_trial = sum(path.stat().st_size for path in Path(name).glob("*.db")) / n
            report, suggest, tell = _times(url, Path(name), repeats)
        rows.append((n, report, suggest, tell, 1000 * writing, bytes_per_trial / 1024))
        print(f"{n} trials: report {report:.2f} s, suggestion {suggest:.3f} s", file=sys.stderr)
    headings = ("trials", "report_s", "suggest_s", "tell_s", "write_ms_per_trial", "kib_per_trial")
    result = {"rows": [dict(zip(headings, row, strict=True)) for row in rows], "repeats": repeats}
    print_result(result, rows, headings, as_json)


def _times(url: str, results: Path, repeats: int) -> tuple[float, float, float]:
    """Return median seconds of a report, a suggestion by the default sampler, and `study.tell`."""
    spec = StudySpec()
    space, times = spec.search_space(), []
    for repeat in range(repeats):
        store = Store(url, results)
        start = time.perf_counter()
        study_summary(store.record(spec.name))
        reported = time.perf_counter()
        study = store.load_study(spec.name)
        study.sampler = optuna.samplers.TPESampler(seed=repeat)
        study.get_trials(deepcopy=False)  # a running study has its trials in memory
        ready = time.perf_counter()
        trial = study.ask()
        space.suggest(trial)
        suggested = time.perf_counter()
        study.tell(trial, 0.9)
        times.append((reported - start, suggested - ready, time.perf_counter() - suggested))
    report, suggest, tell = (statistics.median(column) for column in zip(*times, strict=True))
    return report, suggest, tell
