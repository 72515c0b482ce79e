"""What the package uses of Optuna though it is private: here, and its gRPC part in `optuna_private_grpc`.

`tests/storage/test_optuna_private.py` says what a new version of Optuna has changed of it.
"""

from typing import Any, Final

import optuna
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

#: {class: {method: arguments}} of what children of Optuna's classes call or override, and why there is no other way.
METHODS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    # Optuna's cache of a storage calls these: `retry` repeats them like the public calls, and reads by `queries`.
    "optuna.storages.RDBStorage": {
        "_create_new_trial": ("self", "study_id", "template_trial"),
        "_set_trial_param": (
            *("self", "trial_id", "param_name"),
            *("param_value_internal", "distribution", "previous_distribution"),
        ),
        "_get_trials": ("self", "study_id", "states", "included_trial_ids", "trial_id_greater_than"),
        "_get_best_trial_id": ("self", "study_id", "direction"),
        "_get_stale_trial_ids": ("self", "study_id"),
    },
    # Where a proxy connects: `grpc_client` adds a token.
    "optuna.storages.GrpcStorageProxy": {"_setup": ("self",)},
    # What TPE makes of trials: `samplers` keeps it from one proposal to the next.
    "optuna.samplers.TPESampler": {"_get_internal_repr": ("self", "trials", "search_space", "study")},
    # Where CMA-ES keeps its state: `samplers` writes JSON in place of a pickle.
    "optuna.samplers.CmaEsSampler": {
        "_init_optimizer": ("self", "trans", "direction"),
        "_split_optimizer_str": ("self", "optimizer_str"),
        "_restore_optimizer": ("self", "completed_trials"),
        "_concat_optimizer_attrs": ("self", "optimizer_attrs"),
    },
}


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """Return the identifier by which a storage knows a trial; in public a trial has its number only."""
    return trial._trial_id


def study_id(study: optuna.Study | FrozenStudy) -> int:
    """Return the identifier by which a storage knows a study; in public a study has its name only."""
    return study._study_id


def running_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Return a running trial as `study.ask` gave it to the process that began it.

    Optuna has no public way to go on with a running trial: `ask` always begins one.
    """
    return optuna.Trial(study, trial_id(trial))


def enqueued_values(trial: FrozenTrial) -> dict[str, Any] | None:
    """Return the parameters that `study.enqueue_trial` gave a trial; None where it was sampled.

    Optuna keeps them in a system attribute without documenting it, and nowhere else.
    """
    values: dict[str, Any] | None = trial.system_attrs.get("fixed_params")
    return values
