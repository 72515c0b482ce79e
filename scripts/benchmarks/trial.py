"""Where a study's time goes: overhead of a trial beside its epochs, by phase, and memory after many trials."""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import psutil
import typer

from benchmarks.common import print_result, print_table
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search.events import EpochEnded, StepsDone, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import checked_spec
from pneumosearch.workers.local import run_locally
from pneumosearch.workers.work import TRIALS_A_PROCESS, Limits, Search

_BETWEEN: Final = "until a trial begins: process, claims, suggestion"
_BUILDING: Final = "images opened, network built, first step traced"
_STEPS: Final = "training steps"
_JUDGING: Final = "judging, checkpoint, store"
_ENDING: Final = "end of a trial: kept network, pictures"
_FIRST_AND_LAST: Final = 1e9  # seconds between two events of a step: only the first and the last of an epoch


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
    epochs: suggestion, building, tracing, storing, and sometimes a new process. A second table has the seconds between
    the events of the trials by phase; a process reports them as they happen.

    Example: scripts/bench trial --data chest_xray --trials 12
    """
    spec = checked_spec({"pruner": "none", "sampler": "random", "fixed": {"image_size": size, "epochs": epochs}}, "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, source = Store(sqlite_url(folder / "trials.db"), folder), DataSource(read_manifest(data), folder)
        clock = Clock()
        session = Session(store, source, clock, StopFlag(), _FIRST_AND_LAST)
        open_search(session, spec)  # decodes the images, once for all trials
        clock.start()
        run_locally(session, Search(spec, trials), Limits(trials_a_process=trials_a_process))
    shares = [overhead / wall for overhead, wall in clock.trials]
    memory = clock.memory
    result: dict[str, Any] = {
        "overhead_s": statistics.median(overhead for overhead, _ in clock.trials),
        "overhead_share": sum(o for o, _ in clock.trials) / sum(w for _, w in clock.trials),
        "phases_s": dict(clock.phases),
        "outside_share": clock.outside_share,
        "resident_mib": memory,
        "memory_last_to_10th": memory[-1] / memory[9] if len(memory) > 9 else None,
        "trials": trials,
        "epochs": epochs,
        "size": size,
        "trials_a_process": trials_a_process,
    }
    rows = [(n, *clock.trials[n], shares[n], memory[n]) for n in range(len(memory))]
    print_result(result, rows, ("trial", "beside training, s", "in all, s", "share", "resident MiB"), as_json)
    if not as_json:
        total = sum(clock.phases.values())
        print_table([(name, s, s / total) for name, s in clock.phases.items()], ("phase", "s", "share"))
        print(f"outside of training steps and judging: {clock.outside_share:.1%}")


class Clock:
    """Records when trials end, how long their epochs and phases took, and the memory of the training process."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.trials: list[tuple[float, float]] = []  # (seconds of overhead, total seconds)
        self.phases: defaultdict[str, float] = defaultdict(float)  # seconds
        self.memory: list[int] = []
        self._last = self._last_event = 0.0
        self._begins = False  # the trial has not done a step

    @property
    def outside_share(self) -> float:
        """Share of the time that passes outside of training steps and judging."""
        return 1 - (self.phases[_STEPS] + self.phases[_JUDGING]) / sum(self.phases.values())

    def start(self) -> None:
        """Begin to measure."""
        self._last = self._last_event = self._now()

    def __call__(self, event: TrialEvent) -> None:
        """Take an event of the study."""
        phase = self._phase(event)
        if phase is not None:
            now = self._now()
            self.phases[phase] += now - self._last_event
            self._last_event = now
        if isinstance(event, TrialEnded):
            self._note(event.record)

    def _phase(self, event: TrialEvent) -> str | None:
        """Return what has passed since the event before; None where this event ends nothing."""
        match event:
            case TrialStarted():
                self._begins = True
                return _BETWEEN
            case StepsDone() if self._begins:
                self._begins = False
                return _BUILDING
            case StepsDone():
                return _STEPS
            case EpochEnded():
                return _JUDGING
            case TrialEnded():
                return _ENDING
        return None

    def _note(self, record: TrialRecord) -> None:
        now = self._now()
        wall, self._last = now - self._last, now
        steady = statistics.median(epoch.seconds for epoch in record.history[1:]) * len(record.history)
        self.trials.append((wall - steady, wall))
        children = psutil.Process().children()
        self.memory.append(max((child.memory_info().rss for child in children), default=0) >> 20)
        print(f"trial {record.number}: {wall:.1f} s, {wall - steady:.1f} beside training", file=sys.stderr)
