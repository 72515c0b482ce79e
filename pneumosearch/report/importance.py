"""How much each searched hyperparameter mattered."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pneumosearch.config import TrialConfig
from pneumosearch.records.trial import StudyRecord


def importance(record: StudyRecord) -> dict[str, float]:
    """Return each searched hyperparameter's share of importance (PED-ANOVA), largest first.

    Empty with fewer than four complete trials, or where all have one value. Source: Watanabe, Bansal, Hutter,
    "PED-ANOVA", IJCAI 2023.
    """
    searched = record.spec.get("space")
    results = [(trial.run.config, trial.value) for trial in record.trials if trial.value is not None and trial.run]
    if not isinstance(searched, dict) or len(results) < 4 or len({value for _, value in results}) < 2:
        return {}
    with _without_random_forests():
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        shares = get_param_importances(_study_of(record, results), evaluator=PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in shares.items()}


@contextmanager
def _without_random_forests() -> Iterator[None]:
    """Keep scikit-learn, which `optuna.importance` imports for another evaluator, from costing more than a second."""
    if "optuna.importance._fanova" in sys.modules or "sklearn" in sys.modules:
        yield
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # Optuna takes it as not installed
    try:
        yield
    finally:
        del sys.modules["sklearn"]


def _study_of(record: StudyRecord, results: list[tuple[TrialConfig, float]]) -> Any:
    """Build the study that Optuna's evaluators want from what the store told."""
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

    class Given(optuna.storages.InMemoryStorage):
        """Trials as they are: adding thousands would copy each of them deeply."""

        def get_all_trials(
            self, study_id: int, deepcopy: bool = True, states: Any = None
        ) -> list[optuna.trial.FrozenTrial]:
            return [trial for trial in trials if states is None or trial.state in states]

    return optuna.create_study(storage=Given(), direction=direction(record.metric))
