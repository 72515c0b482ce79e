"""Small stand-ins for what is slow: epochs, records and listeners."""

import optuna

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.records.dataset import DataDescription
from pneumosearch.records.epoch import EpochMetrics, History
from pneumosearch.records.trial import State, StudyRecord, TestOpening, TrialRecord
from pneumosearch.search.events import EpochEnded, Repeating, TrialDeferred, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.studyfile import StudySpec

SPEC = StudySpec().model_dump(mode="json", exclude={"name"})


def an_epoch(epoch: int, accuracy: float = 0.9, loss: float = 0.3, evaluated: str = "validation") -> EpochMetrics:
    names = ("sensitivity", "specificity", "balanced_accuracy", "auc")
    scores = {f"{evaluated}_{name}": accuracy for name in names}
    scores |= {f"{evaluated}_accuracy": accuracy, f"{evaluated}_loss": loss}
    if evaluated == "validation":  # what the default pruner sees
        scores["validation_precise_auc"] = accuracy
    fixed = {"train_accuracy": 0.8, "train_loss": 0.5, "learning_rate": 0.001, "seconds": 1.0}
    return EpochMetrics.model_validate({"epoch": epoch, **fixed, **scores})


def a_history(*accuracies: float, evaluated: str = "validation") -> History:
    """Epochs whose loss falls as their accuracy rises."""
    return tuple(an_epoch(i, a, 1 - a, evaluated) for i, a in enumerate(accuracies, start=1))


def a_trial(number: int, *accuracies: float, state: State = "complete", **config: object) -> TrialRecord:
    run = RunSpec(config=TrialConfig.checked(config, "test"), seed=number)
    value = max(accuracies) if state == "complete" else None
    return TrialRecord(number=number, state=state, run=run, value=value, history=a_history(*accuracies))


def a_description(kind: str = "images", fingerprint: str = "0123456789abcdef") -> DataDescription:
    values = {
        "kind": kind,
        "folder": "chest_xray",
        "fingerprint": fingerprint,
        "test_fingerprint": None,
        "counts": {"train": (1341, 3875), "val": (8, 8), "test": (234, 390)},
        "n_train": 4700,
        "n_evaluation": 532,
        "interpolation": "area",
        "split_seed": 232,
        "skipped": (),
    }
    return DataDescription.model_validate(values)


def a_study(*trials: TrialRecord, kind: str = "images", openings: tuple[TestOpening, ...] = ()) -> StudyRecord:
    return StudyRecord(
        name="default",
        purpose="search",
        metric="accuracy",
        spec=SPEC,
        data=a_description(kind),
        trials=trials,
        test_openings=openings,
    )


def trial_id(study: optuna.Study, storage: optuna.storages.BaseStorage, number: int) -> int:
    """The number by which `storage` knows a trial; it is not the trial's own."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study.study_name), number)


class SilentListener:
    """Hears everything; remembers the epochs, and the deferred and the ended trials."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, int]] = []
        self.deferred: list[int] = []
        self.ended: list[int] = []

    def __call__(self, event: TrialEvent) -> None:
        match event:
            case TrialStarted(number, run):
                self.trial_started(number, run)
            case EpochEnded(number, history):
                self.epoch_ended(number, history)
            case TrialDeferred(number):
                self.trial_deferred(number)
            case TrialEnded(record):
                self.trial_ended(record)
            case Repeating(event=of_repetition):
                self(of_repetition)

    def trial_started(self, number: int, run: RunSpec) -> None:
        pass

    def epoch_ended(self, number: int, history: History) -> None:
        self.epochs.append((number, len(history)))

    def trial_deferred(self, number: int) -> None:
        self.deferred.append(number)

    def trial_ended(self, record: TrialRecord) -> None:
        self.ended.append(record.number)
