"""Following a study with `--log tensorboard:DIR` and `--log mlflow:URI`: from its events to the runs of each tool."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pneumosearch.errors import ConfigError
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search.events import EpochEnded, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec
from pneumosearch.tracking.figures import ENDED
from pneumosearch.tracking.logged_study import LoggedStudy
from pneumosearch.tracking.mirror import Mirror, Runs

#: Seconds that the end of a study waits for what is not written yet.
PATIENCE: Final = 10.0

_TOLD_AFTER: Final = 1.0  # seconds of that, before the user is told
#: By the tool: a module of its library, and what installs that.
_LIBRARIES: Final = {"tensorboard": "tensorboard", "mlflow": "mlflow"}


class Follower:
    """A `Listener` that tells each mirror of every trial as it is now; events that it does not know are nothing to it.

    Args:
        mirrors: Of this study.
    """

    def __init__(self, mirrors: Iterable[Mirror] = ()) -> None:
        self._mirrors = list(mirrors)
        self._running: dict[int, TrialRecord] = {}

    def __call__(self, event: TrialEvent) -> None:
        """Take note of an event; returns at once."""
        match event:
            case TrialStarted():
                begun = TrialRecord(number=event.number, state="running", run=event.run, value=None)
                self._running.setdefault(event.number, begun)
                self._put(self._running[event.number])
            case EpochEnded(fold=0):  # of the other folds the end tells
                if event.number in self._running:
                    known = self._running[event.number].model_copy(update={"history": event.history})
                    self._running[event.number] = known
                    self._put(known)
            case TrialEnded():
                self._running.pop(event.record.number, None)
                self._put(event.record)
            case _:
                pass

    def catch_up(self, trials: Iterable[TrialRecord]) -> None:
        """Tell the mirrors of the trials that ended earlier."""
        for trial in trials:
            if trial.state in ENDED:
                self._put(trial)

    def _put(self, trial: TrialRecord) -> None:
        for mirror in self._mirrors:
            mirror.put(trial)


@contextmanager
def followed(
    store: Store, spec: StudySpec, say: Callable[[str], None], *, patience: float = PATIENCE
) -> Iterator[Follower]:
    """Yield the listener of a study that writes to each destination of `spec.log`; at the end wait for them a while.

    Args:
        store: That holds the study.
        spec: The study.
        say: Takes a line for the user, from any thread.
        patience: Seconds to wait at the end for what is not written yet.

    Raises:
        ConfigError: A destination cannot be understood, or its library is not installed.
    """
    study = LoggedStudy(store, spec)
    wanted = {text: destination(text, study) for text in spec.log}  # all of them are checked first
    mirrors = [Mirror(text, connect, say) for text, connect in wanted.items()]
    try:
        yield Follower(mirrors)
    except KeyboardInterrupt:
        patience = 0.0  # at once, as the user wants
        raise
    finally:
        _end(mirrors, say, patience)


def destination(text: str, study: LoggedStudy) -> Callable[[], Runs]:
    """Return what opens a destination.

    Args:
        text: Such as `tensorboard:runs` or `mlflow:http://localhost:5000`.
        study: Whose trials are written there.

    Raises:
        ConfigError: It cannot be understood, or its library is not installed.
    """
    tool, _, place = text.partition(":")
    if tool not in _LIBRARIES or not place:
        raise ConfigError(f"--log {text}: wanted tensorboard:DIR or mlflow:URI")
    if find_spec(_LIBRARIES[tool]) is None:
        raise ConfigError(f"--log {text}: needs {tool}: pip install 'pneumosearch[{tool}]'")
    if tool == "tensorboard":
        from pneumosearch.tracking.tensorboard_runs import TensorBoardRuns

        return partial(TensorBoardRuns, Path(place), study)
    from pneumosearch.tracking.mlflow_runs import MlflowRuns

    return partial(MlflowRuns, place, study)


def _end(mirrors: list[Mirror], say: Callable[[str], None], patience: float) -> None:
    for mirror in mirrors:
        mirror.end()
    deadline = time.monotonic() + patience
    for mirror in mirrors:
        if not mirror.wait(min(_TOLD_AFTER, patience)):
            say(f"waiting up to {patience:.0f} s for --log {mirror.label}")
            mirror.wait(max(0.0, deadline - time.monotonic()))
        if n := mirror.n_waiting():
            remedy = "the same command again writes them"
            say(f"warning: --log {mirror.label}: {n} {'trial is' if n == 1 else 'trials are'} not written; {remedy}")
