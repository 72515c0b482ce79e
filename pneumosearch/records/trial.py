"""What the store knows, as plain values: a trial and a study as every reader (report, rerun, dashboard) sees them."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, field_validator

from pneumosearch.config import RunSpec
from pneumosearch.errors import StoreError
from pneumosearch.metrics import Floor, Metric, direction, reaches
from pneumosearch.records.dataset import DataDescription
from pneumosearch.records.earlier import EarlierStudy
from pneumosearch.records.epoch import EpochMetrics, History, kept_epoch, mean_epoch

#: At the end of the name of the study that holds a study's replicates, or its reruns.
REPLICATES: Final = "-confirm"
RERUNS: Final = "-reruns"

State = Literal["complete", "pruned", "failed", "running", "waiting", "passed over"]
Purpose = Literal["search", "baseline", "rerun", "confirm"]


#: Of a study that only its metric ranks.
NO_FLOOR: Final[Floor] = {}

#: Number of the trial of the unchanged network, with which every search begins.
BASELINE: Final = 0


class Numbered(Protocol):
    """A trial, in whatever form it is read."""

    @property
    def number(self) -> int:
        """Its number in its study, from 0."""


def is_baseline(trial: Numbered) -> bool:
    """Tell whether a trial of a search is that of the unchanged network."""
    return trial.number == BASELINE


class Screening(BaseModel):
    """The epoch on small images by which a trial went on to its training, or not."""

    model_config = ConfigDict(frozen=True)

    image_size: int  # pixels
    epoch: EpochMetrics


class TrialRecord(BaseModel):
    """One training in the store."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    number: int
    state: State
    run: RunSpec | None  # None while it waits for its turn
    value: float | None  # the study's metric at the kept epoch, over folds their mean; only of complete trials
    history: History = ()  # with folds, of the first
    folds: tuple[History, ...] = ()  # of the folds after the first, as far as they have begun
    screening: Screening | None = None
    n_parameters: int | None = None
    failure: str | None = None
    diverged: bool = False  # the failure is a loss that was not finite: the same run would fail again
    passed_over: str | None = None  # why a configuration was not trained: what it would have cost
    duplicate_of: int | None = None  # the earlier trial of the same configuration whose result this one has
    continues: int | None = None  # the earlier trial, stopped at a rung, that this one resumes
    earlier: tuple[int, ...] = ()  # that one and those that it resumed, the first one first
    versions: dict[str, str] = {}
    data: DataDescription | None = None
    repeated: tuple[float, ...] = ()  # the study's metric on other seeds and folds, where it was a finalist

    @property
    def kept(self) -> EpochMetrics | None:
        """The epoch whose weights are kept, with folds those of the first; None before the first epoch."""
        return kept_epoch(self.history, self.run.config.keep) if self.history and self.run else None

    @property
    def histories(self) -> tuple[History, ...]:
        """The epochs of each training that has begun: of one, or of one for each fold."""
        return (self.history, *self.folds) if self.history else ()

    @property
    def kept_of_folds(self) -> tuple[EpochMetrics, ...]:
        """The kept epoch of each fold of a complete trial; empty where it has no folds."""
        if self.state != "complete" or self.run is None or not self.folds:
            return ()
        return tuple(kept_epoch(history, self.run.config.keep) for history in self.histories)

    @property
    def judged(self) -> EpochMetrics | None:
        """The figures that a trial is judged by: those of its kept epoch, or their means over its folds."""
        return mean_epoch(self.kept_of_folds) if self.kept_of_folds else self.kept

    @property
    def n_epochs(self) -> int:
        """The number of its epochs, of all folds together."""
        return sum(map(len, self.histories))

    def below(self, floor: Floor) -> bool:
        """Tell whether a figure that the trial is judged by is worse than `floor`."""
        if not floor:  # as mostly, and reports of thousands of trials ask
            return False
        judged = self.judged
        return not all(judged and reaches(judged.figure(metric), metric, bound) for metric, bound in floor.items())

    @property
    def seconds(self) -> float:
        """Time in epochs, of all sessions together, its screening included."""
        screening = self.screening.epoch.seconds if self.screening else 0.0
        return screening + sum(epoch.seconds for history in self.histories for epoch in history)


class TestOpening(BaseModel):
    """One run that read the test folder."""

    __test__ = False  # not a test class

    model_config = ConfigDict(frozen=True)

    study: str
    trial: int | None  # None where a confirmation read it for several
    time: str  # ISO 8601, UTC
    why: str
    test_fingerprint: str


class StudyRecord(BaseModel):
    """A study with its trials."""

    model_config = ConfigDict(frozen=True)

    name: str
    purpose: Purpose
    metric: Metric
    spec: dict[str, object]
    data: DataDescription
    trials: tuple[TrialRecord, ...]  # by number; a stopped trial is part of the one that resumed it
    test_openings: tuple[TestOpening, ...]  # of this data's test folder, in the whole store
    informed_by: tuple[EarlierStudy, ...] = ()  # what the sampler knew from earlier studies; no results

    @field_validator("spec")
    @classmethod
    def _is_json(cls, value: dict[str, object]) -> dict[str, object]:
        """As reports print it; NaN is no JSON."""
        json.dumps(value, allow_nan=False)
        return value

    def count(self, state: State) -> int:
        """Count the trials in `state`."""
        return sum(trial.state == state for trial in self.trials)

    def trial(self, number: int) -> TrialRecord:
        """Return the trial of this number, or the one that went on with it. Raises `StoreError` where there is none."""
        found = next((trial for trial in self.trials if number in (trial.number, *trial.earlier)), None)
        if found is None:
            raise StoreError(f"study '{self.name}' has no trial {number}; it has {len(self.trials)}, counted from 0")
        return found

    @property
    def baseline(self) -> TrialRecord | None:
        """The trial of the unchanged network: the first of every search; None among reruns and replicates."""
        if self.purpose not in ("search", "baseline"):
            return None
        return next(filter(is_baseline, self.trials), None)

    @property
    def others(self) -> Mapping[str, object]:
        """The hyperparameters that all trials but the baseline have at another value than it."""
        others = self.spec.get("others")
        return others if isinstance(others, Mapping) else {}

    @property
    def control(self) -> TrialRecord | None:
        """The trial of the baseline's values that was trained like the others; None where the study has none."""
        baseline = self.baseline
        if not self.spec.get("control") or baseline is None or baseline.run is None:
            return None
        wanted = baseline.run.config.model_copy(update=dict(self.others))
        return next((trial for trial in self.trials if trial.run is not None and trial.run.config == wanted), None)

    @property
    def n_folds(self) -> int | None:
        """The folds on which each configuration trains; None where a trial is one training."""
        return int(str(self.spec["folds"])) if self.spec.get("protocol") == "folds" and "folds" in self.spec else None

    @property
    def n_judging(self) -> int:
        """The number of images that judge a configuration: with folds, all that train or judge."""
        return self.data.n_evaluation + (self.data.n_train if self.n_folds else 0)

    @property
    def floor(self) -> Floor:
        """The figures below which a trial ranks last; empty where the study has none."""
        floor = self.spec.get("floor")
        return {name: float(bound) for name, bound in floor.items()} if isinstance(floor, Mapping) else {}

    def below_floor(self, trial: TrialRecord) -> bool:
        """Tell whether a trial is complete and below the floor."""
        return trial.state == "complete" and trial.below(self.floor)

    def ranking(self) -> list[TrialRecord]:
        """Complete trials, best first: finalists by their repetitions, then the others.

        Those below the floor come behind all others; of equal ones the earlier first.
        """
        return ranked(self.trials, self.metric, self.floor)

    def leaders(self, top: int) -> list[TrialRecord]:
        """Return the baseline, where there is one, and the `top` best other trials in order."""
        baseline = self.baseline
        best = [trial for trial in self.ranking() if baseline is None or trial.number != baseline.number]
        return [*([baseline] if baseline else []), *best[:top]]


def ranked(trials: Sequence[TrialRecord], metric: Metric, floor: Floor = NO_FLOOR) -> list[TrialRecord]:
    """Sort the complete trials, best first: finalists by the mean of their repetitions, then the others by value.

    A finalist that failed on more seeds than another comes after it. A duplicate counts as the trial that it repeats.
    """
    sign = -1.0 if direction(metric) == "maximize" else 1.0

    def place(trial: TrialRecord) -> tuple[bool, int, float, float, int]:
        below, by_value = standing(trial, metric, floor)
        by_repetition = sign * statistics.fmean(trial.repeated) if trial.repeated else by_value
        return below, -len(trial.repeated), by_repetition, by_value, trial.number

    return sorted(_candidates(trials), key=place)


def ranked_by_value(trials: Sequence[TrialRecord], metric: Metric, floor: Floor = NO_FLOOR) -> list[TrialRecord]:
    """Sort the complete trials by what the search found, best first; a duplicate counts as the trial it repeats."""
    return sorted(_candidates(trials), key=lambda trial: (standing(trial, metric, floor), trial.number))


def _candidates(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [t for t in trials if t.state == "complete" and t.value is not None and t.duplicate_of is None]


def standing(trial: TrialRecord, metric: Metric, floor: Floor) -> tuple[bool, float]:
    """Return the place of a complete trial among others: the smaller, the better."""
    sign = -1.0 if direction(metric) == "maximize" else 1.0
    return trial.below(floor), sign * (trial.value or 0.0)
