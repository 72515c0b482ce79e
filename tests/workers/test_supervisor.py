"""The supervisor of training processes, with processes that are made of their events."""

from collections.abc import Callable
from multiprocessing import Pipe
from typing import cast

from pneumosearch._utils.processes import Helper
from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.attributes import RUN
from pneumosearch.search.events import EpochEnded, FoldStarted, Repeating, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.workers.supervisor import ProcessEvent, TrainingProcess, supervise
from tests.support.fakes import SPEC, a_description, a_history


class ScriptedHelper:
    """A process that sent these events; None stands for its death."""

    exit_code = -9

    def __init__(self, script: list[ProcessEvent | None]) -> None:
        self.events, sent = Pipe(duplex=False)
        with sent:
            for event in filter(None, script):
                sent.send(event)

    def send(self, order: object) -> None:
        pass

    def end(self) -> None:
        self.events.close()


def scripts(*each: list[ProcessEvent | None]) -> Callable[[int], TrainingProcess]:
    """Return what starts a process for each script."""
    left = list(each)
    return lambda number: TrainingProcess(cast(Helper, ScriptedHelper(left.pop(0))), lambda events, orders: None)


def test_repetition_at_which_two_processes_died_fails_and_the_trial_of_that_number_does_not(
    store: Store, source: DataSource
) -> None:
    run = RunSpec(seed=7, fold=0, n_folds=5)
    for name in ("tiny", "tiny-confirm"):
        study = store.open_study(name, "search" if name == "tiny" else "confirm", "accuracy", SPEC, a_description())
        RUN.set(study.ask(), run)
    heard: list[TrialEvent] = []
    begun = Repeating("tiny-confirm", 0, TrialStarted(0, run))
    start = scripts([begun, None], [begun, None], [Outcome(1, "", True)])
    outcome = supervise(Session(store, source, heard.append, StopFlag()), "tiny", start, 1, max_failures=1)
    assert outcome.done
    assert [trial.state for trial in store.record("tiny").trials] == ["running"]
    (repetition,) = store.record("tiny-confirm").trials
    assert (repetition.state, repetition.failure) == (
        "failed",
        "its process died twice after epoch 0: killed by SIGKILL, perhaps out of memory",
    )
    assert isinstance(heard[-1], Repeating)
    assert isinstance(heard[-1].event, TrialEnded)


def test_progress_of_a_trial_counts_from_fold_to_fold(store: Store, source: DataSource) -> None:
    run = RunSpec(protocol="folds", n_folds=3)
    study = store.open_study("tiny", "search", "accuracy", SPEC, a_description())
    RUN.set(study.ask(), run)
    first, second = a_history(0.9), a_history(0.9, 0.9)
    on_first: list[ProcessEvent | None] = [TrialStarted(0, run), EpochEnded(0, first)]
    on_second: list[ProcessEvent | None] = [*on_first, FoldStarted(0, run.trainings[1]), EpochEnded(0, first, 1)]
    on_third: list[ProcessEvent | None] = [
        TrialStarted(0, run),
        FoldStarted(0, run.trainings[2]),
        EpochEnded(0, second, 2),
    ]
    start = scripts([*on_first, None], [*on_second, None], [*on_third, None], [*on_third, None], [Outcome(1, "", True)])
    supervise(Session(store, source, lambda event: None, StopFlag()), "tiny", start, 1, max_failures=2)
    (trial,) = store.record("tiny").trials
    assert trial.failure is not None
    assert trial.failure.startswith("its process died twice after epoch 2 of fold 3: killed by SIGKILL")
