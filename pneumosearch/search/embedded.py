"""An Optuna objective for a loop of your own, without this package's store and commands."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.default_study import default_study
from pneumosearch.errors import ConfigError
from pneumosearch.metrics import Metric, direction
from pneumosearch.search.events import Listener
from pneumosearch.search.objective import Objective
from pneumosearch.search.session import StopFlag
from pneumosearch.storage.trial_files import TrialFiles
from pneumosearch.studyfile import StudySpec, read_study_file


def objective_for(
    data: str | Path, spec: StudySpec | str | Path | None = None, results: str | Path = "results"
) -> Callable[[optuna.Trial], float]:
    """Return an objective for `optuna.Study.optimize` that trains as a study of `spec` does.

    A trial chooses from the space and is trained with the study's seed + its number. It reports each epoch to the
    study's own pruner, keeps its history as user attributes and its pictures as artifacts, and returns the metric at
    its kept epoch. Sampler, pruner and storage are yours; create the study with `metrics.direction(spec.metric)`, and
    begin with the published network by `study.enqueue_trial(spec.search_space().baseline())`. Threads of `n_jobs` wait
    for each other. The test folder stays sealed.

    Args:
        data: Folder with train, val, test, each with NORMAL and PNEUMONIA, or the classes of `spec`.
        spec: A study, or the path of a study file; without it the default study. Its sampler, pruner, engine and
            `learn_from` are not used.
        results: Folder of decoded images, artifacts, and the states of trainings while they go on.

    Raises:
        ConfigError: The study file cannot be used.
        DataError: The data folder cannot be used.

    The objective raises `ConfigError` in a study that optimizes in the other direction.
    """
    study = read_study_file(Path(spec)) if isinstance(spec, str | Path) else spec or default_study()
    folder = Path(results)
    source = DataSource(read_manifest(Path(data), study.patient_pattern, study.classes), folder / "cache")
    study = study.model_copy(update={"screening": None})  # only for the pruner "promote" of our own loop
    objective = Objective(_OwnLoop(TrialFiles(folder), source, lambda event: None, StopFlag()), study)

    one_at_a_time = threading.Lock()  # a process has one session of Keras, which `n_jobs` would share

    def train_and_forget(trial: optuna.Trial) -> float:
        _check_direction(trial.study, study.metric)
        with one_at_a_time:
            try:
                return objective(trial)
            finally:
                objective.clean_up(trial.study, trial.number)

    return train_and_forget


def _check_direction(study: optuna.Study, metric: Metric) -> None:
    wanted = direction(metric)
    if [each.name.lower() for each in study.directions] != [wanted]:
        raise ConfigError(f"study '{study.study_name}': {metric} wants optuna.create_study(direction={wanted!r})")


@dataclass(frozen=True)
class _OwnLoop:
    """What a trial needs in a loop whose storage is the user's; a `TrialSession`."""

    store: TrialFiles
    source: DataSource
    listener: Listener
    stop: StopFlag
    steps_every: None = None
