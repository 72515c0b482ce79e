"""Overhead of a trial in addition to its epochs, and memory after many trials."""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from benchmarks.common import print_result
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search.events import TrialEnded, TrialEvent
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import checked_spec
from pneumosearch.workers.local import run_locally
from pneumosearch.workers.work import TRIALS_A_PROCESS, Limits, Search


def trial(
    data: Annotated[Path, typer.Option(help="Folder of X-rays or phantoms.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials of the default space, without pruning.")] = 12,
    epochs: Annotated[int, typer.Option(min=2, help="Epochs per trial.")] = 3,
    size: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 150,
    trials_a_process: Annotated[int, typer.Option(min=1, help="Trials that a process trains.")] = (TRIALS_A_PROCESS),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the overhead of each trial and the resident memory after it.

    The overhead is the time between the ends of two trials minus its epochs, each at the median duration of the later
    epochs: suggestion, building, tracing, storing, and sometimes a new process.

    Example: scripts/bench trial --data chest_xray --trials 12
    """
    spec = checked_spec({"pruner": "none", "sampler": "random", "fixed": {"image_size": size, "epochs": epochs}}, "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, source = Store(sqlite_url(folder / "trials.db"), folder), DataSource(read_manifest(data), folder)
        clock = _Clock()
        session = Session(store, source, clock, StopFlag())
        open_search(session, spec)  # decodes the images, once for all trials
        clock.start()
        run_locally(session, Search(spec, trials), Limits(trials_a_process=trials_a_process))
    shares = [overhead / wall for overhead, wall in clock.trials]
    memory = clock.memory
    result: dict[str, Any] = {
        "overhead_s": statistics.median(overhead for overhead, _ in clock.trials),
        "overhead_share": sum(o for o, _ in clock.trials) / sum(w for _, w in clock.trials),
        "resident_mib": memory,
        "memory_last_to_10th": memory[-1] / memory[9] if len(memory) > 9 else None,
        "trials": trials,
        "epochs": epochs,
        "size": size,
        "trials_a_process": trials_a_process,
    }
    rows = [(n, *clock.trials[n], shares[n], memory[n]) for n in range(len(memory))]
    print_result(result, rows, ("trial", "beside training, s", "in all, s", "share", "resident MiB"), as_json)


class _Clock:
    """Records when trials end, how long their epochs took, and the memory of the training process."""

    def __init__(self) -> None:
        self.trials: list[tuple[float, float]] = []  # (seconds of overhead, total seconds)
        self.memory: list[int] = []
        self._last = 0.0

    def start(self) -> None:
        self._last = time.perf_counter()

    def __call__(self, event: TrialEvent) -> None:
        if isinstance(event, TrialEnded):
            self._note(event.record)

    def _note(self, record: TrialRecord) -> None:
        now = time.perf_counter()
        wall, self._last = now - self._last, now
        steady = statistics.median(epoch.seconds for epoch in record.history[1:]) * len(record.history)
        self.trials.append((wall - steady, wall))
        children = psutil.Process().children()
        self.memory.append(max(child.memory_info().rss for child in children) >> 20)
        print(f"trial {record.number}: {wall:.1f} s, {wall - steady:.1f} beside training", file=sys.stderr)
