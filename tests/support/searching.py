"""Small searches in this process, with a fake training."""

from pathlib import Path
from typing import Any

from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search.runner import StudyRun, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec
from pneumosearch.training.checkpoint import Checkpoint, saved_epochs, write_checkpoint
from pneumosearch.training.loop import OnStep, Step, TrainingResult, train
from tests.conftest import TINY
from tests.support.fakes import SilentListener, a_history

SPEC = checked_spec(
    {
        "name": "tiny",
        "pruner": "none",
        "fixed": {**TINY, "epochs": 2},
        "space": {"zoom": {"low": 0.0, "high": 0.5}, "batch_size": {"choices": [16, 32]}},
    },
    "test",
)

PROMOTING = checked_spec(
    {
        "name": "tiny",
        "pruner": "promote",
        "sampler": "random",
        "rungs": [1, 2],
        "reduction_factor": 3,
        "fixed": {**TINY, "epochs": 4},
        "space": {"zoom": {"low": 0.0, "high": 0.5}},
    },
    "test",
)


class FakeResult(TrainingResult):
    def save(self, path: Path) -> None:
        path.write_bytes(b"network")


def fake_train(
    run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, on_step: OnStep | None = None
) -> TrainingResult:
    """Epochs of one step whose accuracy depends on zoom alone; no network."""
    folder.mkdir(parents=True, exist_ok=True)
    history = a_history(*[0.9 - run.config.zoom + 0.01 * epoch for epoch in range(run.config.epochs)])
    for epoch in range(1, len(history) + 1):
        if on_step:
            on_step(Step(epoch, 1, 1, 32, 0.5))
        on_epoch(history[:epoch])
    return FakeResult(run.config, history, None, 123)


def train_resumably(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *_: Any) -> TrainingResult:
    """Epochs that depend on zoom alone, saved as a training saves them; no network."""
    fingerprint = dataset.description.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    begin = saved_epochs(folder, run, fingerprint)
    history = a_history(*[0.9 - run.config.zoom + 0.01 * epoch for epoch in range(run.config.epochs)])
    if begin:
        on_epoch(history[:begin])
    for epoch in range(begin + 1, len(history) + 1):
        write_checkpoint(folder, Checkpoint(run, fingerprint, history[:epoch], [], [], False))
        on_epoch(history[:epoch])
    return FakeResult(run.config, history, None, 123)


def train_the_second(run: RunSpec, *others: Any) -> TrainingResult:
    """Train the configuration after the baseline in earnest, and no other."""
    return (train if run.seed == SPEC.seed + 1 else train_resumably)(run, *others)


def a_session(store: Store, source: DataSource, stop: StopFlag | None = None) -> Session:
    return Session(store, source, SilentListener(), stop or StopFlag())


def search(store: Store, source: DataSource, spec: StudySpec = SPEC, stop: StopFlag | None = None) -> StudyRun:
    return open_search(a_session(store, source, stop), spec)


def outcome(record: StudyRecord) -> list[Any]:
    return [(t.number, t.state, t.value, t.run, t.failure, [e.numbers() for e in t.history]) for t in record.trials]
