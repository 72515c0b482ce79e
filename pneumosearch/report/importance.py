"""Importance of the searched hyperparameters."""

import warnings
from typing import Any

from pneumosearch.config import TrialConfig
from pneumosearch.records.trial import StudyRecord


def importance(record: StudyRecord) -> dict[str, float]:
    """Return the importance of each searched hyperparameter by PED-ANOVA.

    The first call takes over a second: `optuna.importance` imports scikit-learn for another evaluator.

    Returns:
        {name: share}, largest share first. The shares sum to 1. The result is empty if fewer than four trials are
        complete or if all of them have the same value.

    Source:
        Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
        Subspaces", IJCAI 2023.
    """
    searched = record.spec.get("space")
    results = [(trial.run.config, trial.value) for trial in record.trials if trial.value is not None and trial.run]
    if not isinstance(searched, dict) or len(results) < 4 or len({value for _, value in results}) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():  # Optuna says that a field which few trials chose is estimated roughly
        warnings.filterwarnings("ignore", "Some regimes for parameter")
        shares = get_param_importances(_study_of(record, results), evaluator=PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in shares.items()}


def _study_of(record: StudyRecord, results: list[tuple[TrialConfig, float]]) -> Any:
    """Return an Optuna study of these results, as the evaluators expect it.

    Only the searched hyperparameters become parameters of its trials.
    """
    import optuna

    from pneumosearch.metrics import direction
    from pneumosearch.studyfile import checked_spec

    space = checked_spec(dict(record.spec), "stored study").search_space()
    ranges = {name: dimension.distribution() for name, dimension in space.dimensions.items()}
    complete, trials = optuna.trial.TrialState.COMPLETE, []
    empty: dict[str, Any] = {"user_attrs": {}, "system_attrs": {}, "intermediate_values": {}}
    for number, (config, value) in enumerate(results):
        params = space.chosen(config)
        drawn: dict[str, Any] = {"params": params, "distributions": {name: ranges[name] for name in params}}
        trials.append(optuna.trial.FrozenTrial(number, complete, value, None, None, **drawn, **empty, trial_id=number))

    class FixedTrials(optuna.storages.InMemoryStorage):
        """A storage that returns these trials; adding thousands to a study would deep-copy each of them."""

        def get_all_trials(
            self, study_id: int, deepcopy: bool = True, states: Any = None
        ) -> list[optuna.trial.FrozenTrial]:
            return [trial for trial in trials if states is None or trial.state in states]

    return optuna.create_study(storage=FixedTrials(), direction=direction(record.metric))
