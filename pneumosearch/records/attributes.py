"""The user attributes of studies and trials: the only place where their keys stand, each with the type of its value.

`RUN.of(trial)` reads, `RUN.set(trial, run)` writes. Keys do not change: there are stores that have them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from pneumosearch.config import MAX_FOLDS, RunSpec
from pneumosearch.metrics import Metric
from pneumosearch.records.confirmation import Naming, WantedReplicates
from pneumosearch.records.dataset import DataDescription
from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import Purpose, Screening, TestOpening

T = TypeVar("T")


class HasAttributes(Protocol):
    """A study or a trial, in whatever form it is read: a mapping from keys to JSON values hangs on it."""

    @property
    def user_attrs(self) -> dict[str, Any]:
        """The attributes as they are stored."""


class TakesAttributes(HasAttributes, Protocol):
    """A study or a trial that can be written to."""

    def set_user_attr(self, key: str, value: Any) -> None:
        """Store one attribute."""


class TrialStorage(Protocol):
    """A storage that is given a trial by its identifier."""

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store one attribute of a trial."""


@dataclass(frozen=True)
class Attribute(Generic[T]):
    """One attribute, stored as JSON under `key`.

    Args:
        key: As it is in stores.
        type: Of the value as the program uses it; anything that pydantic can check.
        exclude_none: Store nothing for the fields of a value that are None.
        max_length: Characters of a text that are stored. What others wrote, such as the message of an error, may be
            of any length, and MySQL keeps at most 64 KB in one attribute.
    """

    key: str
    type: Any
    exclude_none: bool = field(default=False, kw_only=True)
    max_length: int | None = field(default=None, kw_only=True)

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.type)

    def on(self, owner: HasAttributes) -> bool:
        """Tell whether `owner` has the attribute, whatever it holds."""
        return self.key in owner.user_attrs

    def of(self, owner: HasAttributes) -> T | None:
        """Return the value; None where it is not there. Raises pydantic's `ValidationError` where it is none."""
        return self.among(owner.user_attrs)

    def among(self, attributes: Mapping[str, Any]) -> T | None:
        """Return the value among stored attributes, for a caller that reads several of them."""
        stored = attributes.get(self.key)
        return None if stored is None else self._adapter.validate_python(stored)

    def needed(self, attributes: Mapping[str, Any]) -> T:
        """Return the value among stored attributes. Raises `KeyError` where it is not there."""
        value = self.among(attributes)
        if value is None:
            raise KeyError(self.key)
        return value

    def stored(self, owner: HasAttributes) -> Any:
        """Return the value as it is stored, unchecked: for copies, and for comparisons over thousands of trials."""
        return owner.user_attrs.get(self.key)

    def set(self, owner: TakesAttributes, value: T) -> None:
        """Store the value."""
        owner.set_user_attr(self.key, self._as_stored(value))

    def clear(self, owner: TakesAttributes) -> None:
        """Store that there is no value any more."""
        owner.set_user_attr(self.key, None)

    def set_by_id(self, storage: TrialStorage, trial_id: int, value: T) -> None:
        """Store the value of the trial that `storage` knows by this identifier."""
        storage.set_trial_user_attr(trial_id, self.key, self._as_stored(value))

    def copy(self, source: HasAttributes, owner: TakesAttributes) -> None:
        """Store what `source` has, where it has any."""
        if self.on(source):
            owner.set_user_attr(self.key, self.stored(source))

    def entry(self, value: T) -> dict[str, Any]:
        """Return {key: stored value}, for trials that are enqueued with attributes."""
        return {self.key: self._as_stored(value)}

    def _as_stored(self, value: T) -> Any:
        stored = self._adapter.dump_python(value, mode="json", exclude_none=self.exclude_none)
        too_long = self.max_length is not None and len(stored) > self.max_length
        return stored[: self.max_length] + " ..." if too_long else stored


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


class Owner(BaseModel):
    """The process that trains a trial."""

    model_config = ConfigDict(frozen=True)

    host: str  # machine or container, where the number means something
    pid: int
    started: float  # s, since the machine's start where the system tells it


class TakenUp(BaseModel):
    """How often processes claimed a trial since its last epoch."""

    model_config = ConfigDict(frozen=True)

    epochs: int  # that it had
    times: int


class Origin(BaseModel):
    """A trial of another study."""

    model_config = ConfigDict(frozen=True)

    study: str
    trial: int


# Of studies.
PURPOSE: Final = Attribute[Purpose]("purpose", Purpose)
METRIC: Final = Attribute[Metric]("metric", Metric)
SPEC: Final = Attribute[dict[str, Any]]("spec", dict[str, Any])  # `StudySpec.identity()`, which checks it itself
DATA: Final = Attribute[DataDescription]("data", DataDescription)  # of trials too
ARTIFACTS: Final = Attribute[str]("artifacts", str)  # URL, which holds no secret, of those that all machines share
EXHAUSTED: Final = Attribute[str]("exhausted", str)  # why there is nothing more to propose
GOAL: Final = Attribute[int]("goal", int)  # trials that the study shall have
WANTED: Final = Attribute[WantedReplicates]("wanted", WantedReplicates)  # of a study of replicates


def naming_of(why: str) -> Attribute[Naming]:
    """Return the attribute, of a study of replicates, of what named the winner of the confirmation that `why` says."""
    return Attribute("naming:" + _digest(why), Naming)


# Of trials: what they are.
RUN: Final = Attribute[RunSpec]("run", RunSpec)
VERSIONS: Final = Attribute[dict[str, str]]("versions", dict[str, str])
REPLICATE_OF: Final = Attribute[Origin]("replicate_of", Origin)
REPLICATE: Final = Attribute[int]("replicate", int)  # position of its seed, from 0
RERUN_OF: Final = Attribute[Origin]("rerun_of", Origin)
ENGINE: Final = Attribute[str]("engine", str)  # whose proposal it is, where not Optuna's
BRACKET: Final = Attribute[int]("bracket", int)  # of KerasTuner's Hyperband
ROUND: Final = Attribute[int]("round", int)
STOPS_AFTER: Final = Attribute[int]("stops_after", int)  # epochs, where that is before the configuration's last
CONTINUES: Final = Attribute[int]("continues", int)  # number of the earlier trial that this one resumes
CONTINUES_AFTER: Final = Attribute[int]("continues_after", int)  # epochs of that one

# Of trials: how they went.
SCREENING: Final = Attribute[Screening]("screening", Screening, exclude_none=True)
N_PARAMETERS: Final = Attribute[int]("n_parameters", int)
FAILURE: Final = Attribute[str]("failure", str, max_length=2000)
DIVERGED: Final = Attribute[bool]("diverged", bool)  # failed as a loss was not finite: the same run would fail again
PASSED_OVER: Final = Attribute[str]("passed_over", str)  # why it was not trained
DUPLICATE_OF: Final = Attribute[int]("duplicate_of", int)  # number of the earlier trial of the same configuration

# Of trials: who trains them; of a study of replicates: who reads the test images.
OWNER: Final = Attribute[Owner]("owner", Owner)
BEAT: Final = Attribute[str]("beat", str)  # heartbeat: a text that changes
TAKEN_UP: Final = Attribute[TakenUp]("taken_up", TakenUp)
CHECKPOINTS: Final = Attribute[list[dict[str, Any]]]("checkpoints", list[dict[str, Any]])  # as `checkpoint_sync` says
FOLD_CHECKPOINTS: Final = Attribute[list[dict[str, Any]]]("fold_checkpoints", list[dict[str, Any]])  # after the first


@dataclass(frozen=True)
class Epochs:
    """The epochs of a training of a trial: each an attribute of its own, so that none grows with the training.

    MySQL keeps at most 64 KB in one attribute. Earlier versions kept one list of all epochs, which is still read.
    """

    list_key: str = "history"
    prefix: str = "epoch:"

    def count(self, owner: HasAttributes) -> int:
        """Return the number of epochs, without checking them."""
        attributes = owner.user_attrs
        return len(attributes.get(self.list_key, ())) + sum(key.startswith(self.prefix) for key in attributes)

    def of(self, owner: HasAttributes) -> History:
        """Return the epochs in order. Raises pydantic's `ValidationError` where one is none."""
        return self.among(owner.user_attrs)

    def among(self, attributes: Mapping[str, Any]) -> History:
        """Return the epochs among the stored attributes of a trial."""
        return _HISTORY.validate_python(tuple(self.stored(attributes)))

    def stored(self, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the epochs as they are stored, in order and unchecked."""
        entries = [*attributes.get(self.list_key, ())]
        entries += [value for key, value in attributes.items() if key.startswith(self.prefix)]
        return sorted(entries, key=lambda entry: entry["epoch"])

    def extend(self, trial: TakesAttributes, history: History) -> None:
        """Store the epochs of `history` that come after those which `trial` has."""
        for epoch in history[self.count(trial) :]:
            trial.set_user_attr(f"{self.prefix}{epoch.epoch}", epoch.model_dump(mode="json", exclude_none=True))


_HISTORY: Final = TypeAdapter(History)
HISTORY: Final = Epochs()  # of the only training of a trial, or of the first of its folds


def history_of(position: int) -> Epochs:
    """Return the epochs of a trial's training at `position`, from 0: trials have one for each fold."""
    return Epochs(f"fold-{position}:history", f"fold-{position}:epoch:") if position else HISTORY


def further_folds(attributes: Mapping[str, Any]) -> tuple[History, ...]:
    """Return the epochs of the folds after the first that a trial has begun, among its stored attributes."""
    run = attributes.get(RUN.key) or {}
    positions = range(1, run["n_folds"]) if run.get("protocol") == "folds" else ()  # most trials have no folds
    return tuple(history for n in positions if (history := history_of(n).among(attributes)))


def n_epochs(owner: HasAttributes) -> int:
    """Return the number of epochs of a trial, of all its folds."""
    return sum(history_of(position).count(owner) for position in range(MAX_FOLDS))


class Openings:
    """The openings of the test folder, of a study: each an attribute of its own, so that no writer loses another's.

    What is resumed has the key that it had, and so counts once: a trial by its number, a confirmation by its reason.
    Earlier versions kept one list of all, which is still read.
    """

    list_key: Final = "test_openings"
    prefix: Final = "test_opening:"

    def among(self, attributes: Mapping[str, Any]) -> list[TestOpening]:
        """Return the openings among the stored attributes of a study, oldest first."""
        entries = [*attributes.get(self.list_key, ())]
        entries += [value for key, value in attributes.items() if key.startswith(self.prefix)]
        found = [TestOpening.model_validate(entry) for entry in entries]
        return sorted({self._key(opening): opening for opening in found}.values(), key=lambda opening: opening.time)

    def add(self, study: TakesAttributes, opening: TestOpening) -> None:
        """Store an opening, unless it is there already: the first time counts."""
        if self._key(opening) not in map(self._key, self.among(study.user_attrs)):
            study.set_user_attr(self._key(opening), opening.model_dump(mode="json"))

    def _key(self, opening: TestOpening) -> str:
        name = f"trial-{opening.trial}" if opening.trial is not None else f"why-{_digest(opening.why)}"
        return self.prefix + name


TEST_OPENINGS: Final = Openings()


class Earlier:
    """What a study took over from earlier ones, written once, when it begins.

    MySQL keeps at most 64 KB in one attribute, so that trials lie in parts. The number of studies is written last: an
    interrupted writing counts as none.
    """

    key: Final = "earlier"
    _PART: Final = 30  # trials

    def of(self, owner: HasAttributes) -> tuple[EarlierStudy, ...] | None:
        """Return the earlier studies; None where none were written."""
        return self.among(owner.user_attrs)

    def among(self, attributes: Mapping[str, Any]) -> tuple[EarlierStudy, ...] | None:
        """Return the earlier studies among the stored attributes of a study; None where none were written."""
        n = attributes.get(self.key)
        return None if n is None else tuple(self._one(attributes, f"{self.key}:{i}") for i in range(n))

    def set(self, study: TakesAttributes, earlier: tuple[EarlierStudy, ...]) -> None:
        """Store the earlier studies."""
        for i, one in enumerate(earlier):
            parts = [one.trials[first : first + self._PART] for first in range(0, len(one.trials), self._PART)]
            for position, part in enumerate(parts):
                study.set_user_attr(f"{self.key}:{i}:{position}", _EARLIER_TRIALS.dump_python(part, mode="json"))
            about = one.model_dump(mode="json", exclude={"trials"})
            study.set_user_attr(f"{self.key}:{i}", {**about, "parts": len(parts)})
        study.set_user_attr(self.key, len(earlier))

    def _one(self, attributes: Mapping[str, Any], key: str) -> EarlierStudy:
        about = dict(attributes[key])
        trials = [trial for position in range(about.pop("parts")) for trial in attributes[f"{key}:{position}"]]
        return EarlierStudy.model_validate({**about, "trials": trials})


_EARLIER_TRIALS: Final = TypeAdapter(tuple[EarlierTrial, ...])
EARLIER: Final = Earlier()
