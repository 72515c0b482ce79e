"""What of Optuna is used though it is private: in this module only, each with its reason and a contract test.

`tests/storage/test_optuna_private.py` says which of them a new version of Optuna has changed.
"""

from typing import Any

import optuna
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """Return the identifier of a trial in its storage, by which storages are asked; a trial tells its number only."""
    return trial._trial_id


def study_id(study: optuna.Study | FrozenStudy) -> int:
    """Return the identifier of a study in its storage, by which storages are asked; a study tells its name only."""
    return study._study_id


def running_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Return a running trial as `study.ask` gave it to the process that began it.

    Optuna has no public way to go on with a running trial: `ask` always begins one.
    """
    return optuna.Trial(study, trial._trial_id)


def enqueued_values(trial: FrozenTrial) -> dict[str, Any] | None:
    """Return the parameters that `study.enqueue_trial` gave a trial; None where it was sampled.

    Optuna keeps them in a system attribute that it does not document, and tells them nowhere else.
    """
    values: dict[str, Any] | None = trial.system_attrs.get("fixed_params")
    return values
