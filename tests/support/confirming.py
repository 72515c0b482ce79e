"""One run of confirm in this process, with fakes for training and network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.confirm.replicates import (
    ConfirmationPlan,
    as_begun,
    plan_confirmation,
)
from pneumosearch.confirm.run import confirm
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import TrainingError
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search import objective as objective_module
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.confirmations import confirmations
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.loop import TrainingResult
from pneumosearch.workers.work import Limits, Work
from tests.conftest import TINY
from tests.support.fakes import SilentListener, a_history

SPEC = checked_spec(
    {
        "name": "tiny",
        "pruner": "none",
        "fixed": {**TINY, "epochs": 1},
        "space": {"zoom": {"low": 0.0, "high": 0.5}},
    },
    "test",
)


def unrecorded(fingerprint: str) -> None:
    """Write no opening down: phantoms of a test."""


def kept(store: Store) -> list[Confirmation]:
    return [confirmation for _, confirmation in confirmations(store, "tiny")]


class FakeResult(TrainingResult):
    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.config.zoom))


def fake_train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Callable[[Any], None], *_: Any) -> TrainingResult:
    history = a_history(*[0.9 - run.config.zoom / 5] * run.config.epochs)
    folder.mkdir(parents=True, exist_ok=True)
    on_epoch(history)
    return FakeResult(run.config, history, None, 123)


class FakeNetwork:
    """Calls bright images ill."""

    model = None

    def __init__(self, content: bytes) -> None:
        self.zoom = json.loads(content)

    def predict_on_batch(self, pixels: Any) -> npt.NDArray[np.float64]:
        return np.asarray(pixels.mean(axis=(1, 2)) / 255)


def in_this_process(session: Session, work: Work) -> Outcome:
    return work.train(session, Limits(trials_a_process=100))


class Attempt:
    """One run of confirm, with what it said."""

    def __init__(self, store: Store, source: DataSource, top: int = 2, seeds: int = 2) -> None:
        self.plan: ConfirmationPlan = as_begun(store, plan_confirmation(store.record("tiny"), top, seeds))
        self.stop, self.said, self.warned = StopFlag(), list[str](), list[str]()
        self.session = Session(store, source, SilentListener(), self.stop)

    def config(self, trial: TrialRecord) -> TrialConfig:
        assert trial.run is not None
        return trial.run.config

    def run(self) -> Confirmation | None:
        return confirm(self.session, self.plan, in_this_process, say=self.said.append, warn=self.warned.append)

    def confirmation(self) -> Confirmation:
        confirmation = self.run()
        assert confirmation is not None
        return confirmation


def diverging(monkeypatch: pytest.MonkeyPatch, fails: Callable[[RunSpec], bool]) -> list[RunSpec]:
    """Let the loss of such runs be no number; returns the runs that are trained from now on."""
    runs: list[RunSpec] = []

    def train(run: RunSpec, *others: Any) -> TrainingResult:
        runs.append(run)
        if fails(run):
            raise TrainingError("epoch 1: loss is nan")
        return fake_train(run, *others)

    monkeypatch.setattr(objective_module, "train", train)
    return runs


def reversed_on_folds(
    run: RunSpec, dataset: Any, folder: Path, on_epoch: Callable[[Any], None], *_: Any
) -> TrainingResult:
    """On repetition the best of the search is the worst."""
    changed = run.config.model_copy(update={"zoom": 0.9 - run.config.zoom}) if run.fold is not None else run.config
    result = fake_train(run.model_copy(update={"config": changed}), dataset, folder, on_epoch)
    return FakeResult(run.config, result.history, None, 123)
