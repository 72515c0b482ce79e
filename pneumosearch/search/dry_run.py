"""A study before its first training: its space, its first configurations, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import optuna

from pneumosearch.config import TrialConfig
from pneumosearch.records.attributes import EXHAUSTED
from pneumosearch.records.earlier import EarlierStudy
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search.cost import multiply_adds, n_parameters, seconds_an_epoch
from pneumosearch.search.keras_tuner.engine import proposals
from pneumosearch.search.samplers import study_sampler
from pneumosearch.space import Dimension
from pneumosearch.studyfile import StudySpec

_SHOWN: Final = ("metric", "protocol", "engine", "tuner", "sampler", "pruner", "prune_by", "precision")


@dataclass(frozen=True)
class PlannedTrial:
    """A configuration that the study would train, as far as its sampler knows without results."""

    config: TrialConfig
    n_parameters: int
    multiply_adds: int  # of one image, forwards
    seconds_an_epoch: float | None  # None where no trial of this store shows the speed of the machine


@dataclass(frozen=True)
class DryRun:
    """A study before its first training."""

    spec: StudySpec
    n_trials: int
    first: list[PlannedTrial]
    informed_by: tuple[EarlierStudy, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Time of all trials, on all folds, and repetitions if none were pruned and all were like the first ones."""
        times = [trial.seconds_an_epoch and trial.seconds_an_epoch * trial.config.epochs for trial in self.first]
        known = [time for time in times if time is not None]
        return sum(known) / len(known) * (self.n_trainings + self.n_repetitions) if known else None

    @property
    def n_trainings(self) -> int:
        """Trainings of all trials: one of each, or one of each on each fold."""
        return self.n_trials * self.spec.trainings_each

    @property
    def n_repetitions(self) -> int:
        """Trainings of the last rung, which repeats the finalists."""
        finalists = self.spec.finalists
        return min(finalists.top + self.spec.control, self.n_trials) * finalists.repeats if finalists else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the dry run for JSON."""
        space = self.spec.search_space()
        return {
            "study": self.spec.name,
            "n_trials": self.n_trials,
            "n_trainings": self.n_trainings,
            "n_repetitions": self.n_repetitions,
            **{name: getattr(self.spec, name) for name in _SHOWN},
            "informed_by": [study.summary() for study in self.informed_by],
            **space.describe(),
            "first": [
                {
                    "changes": trial.config.changes(),
                    "n_parameters": trial.n_parameters,
                    "multiply_adds": trial.multiply_adds,
                    "seconds_an_epoch": trial.seconds_an_epoch,
                    "epochs": trial.config.epochs,
                }
                for trial in self.first
            ],
            "seconds": self.seconds,
        }


def dry_run(
    spec: StudySpec,
    n_trials: int,
    earlier: StudyRecord | None,
    n_shown: int = 5,
    informed_by: tuple[EarlierStudy, ...] = (),
) -> DryRun:
    """Return the baseline and the next proposals of the study's sampler, without results, and their cost.

    Args:
        spec: The study.
        n_trials: How many trials it would train.
        earlier: A study of the same images; its trials show the speed of this machine.
        n_shown: How many configurations.
        informed_by: The earlier studies that inform the sampler.
    """
    n = min(n_shown, n_trials)
    configs = proposals(spec, n) if spec.engine == "keras-tuner" else _optuna_proposals(spec, n, informed_by)
    trained = earlier.trials if earlier else ()
    first = [PlannedTrial(c, n_parameters(c), multiply_adds(c), seconds_an_epoch(c, trained)) for c in configs]
    return DryRun(spec, n_trials, first, informed_by)


def _optuna_proposals(spec: StudySpec, n: int, informed_by: Sequence[EarlierStudy]) -> list[TrialConfig]:
    space = spec.search_space()
    study, configs = optuna.create_study(sampler=study_sampler(spec, space, informed_by)), []
    for _ in range(1 + spec.control):
        study.enqueue_trial(space.baseline())
    for _ in range(n):
        trial = study.ask()
        configs.append(space.suggest(trial))
        study.tell(trial, 0.0)
        if EXHAUSTED.on(study):
            break
    return configs


def dimension_text(dimension: Dimension) -> str:
    """Say a range in words."""
    values = dimension.model_dump(exclude_defaults=True)
    if "choices" in values:
        text = ", ".join(str(choice) for choice in values["choices"])
    else:
        text = f"{values['low']} to {values['high']}"
        text += f" by {values['step']}" if "step" in values else ""
        text += ", logarithmic" if values.get("log") else ""
    conditions = [f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in dimension.conditions().items()]
    return text + (f" (when {' and '.join(conditions)})" if conditions else "")
