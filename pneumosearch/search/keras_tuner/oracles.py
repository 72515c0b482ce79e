"""KerasTuner's view of the search space, its oracles on our terms, and a `HyperModel` for scripts of one's own.

Like `model`, this module imports Keras: import it inside functions only, after `backend.start()`.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

import keras
import keras_tuner
import numpy as np

from pneumosearch.config import TrialConfig, without_rounding_error
from pneumosearch.metrics import Metric, direction
from pneumosearch.network.compile_cache import compile_model
from pneumosearch.network.model import build_model, plain_model
from pneumosearch.search.samplers import derived_seed
from pneumosearch.space import Choice, Dimension, Range, Scalar, Space
from pneumosearch.studyfile import TunerName

#: The name of the score that oracles receive.
SCORE: Final = "score"


def declare(space: Space, hp: keras_tuner.HyperParameters) -> TrialConfig:
    """Register each dimension with `hp`, under its condition, and return the configuration of the values that `hp` has.

    The default of each is the baseline's value. KerasTuner switches a field off with the field that it depends on,
    where `Space` would look at that field's baseline: such a field stays at the baseline here.
    """
    values = {}
    for name, dimension in space.dimensions.items():
        with ExitStack() as scopes:
            if _open_scopes(space, dimension, hp, scopes):
                values[name] = _register(hp, name, dimension, getattr(space.centre, name))
    return space.config({name: value for name, value in values.items() if value is not None})


def _open_scopes(space: Space, dimension: Dimension, hp: Any, scopes: ExitStack) -> bool:
    """Open the scopes of the searched fields in the condition; False where a fixed field rules the dimension out."""
    for field, allowed in dimension.conditions().items():
        if field in space.dimensions:
            parent = space.dimensions[field]
            wanted = [parent.own(value) for value in allowed if parent.contains(value)]
            if not wanted:
                return False
            scopes.enter_context(hp.conditional_scope(field, wanted))
        elif getattr(space.centre, field) not in allowed:
            return False
    return True


def _register(hp: Any, name: str, dimension: Dimension, default: Scalar) -> Scalar | None:
    """Register one dimension and return its value; None where it is switched off."""
    if isinstance(dimension, Range) and (dimension.whole or dimension.step is None):
        kind = hp.Int if dimension.whole else hp.Float
        sampling = "log" if dimension.log else "linear"
        value = kind(name, dimension.low, dimension.high, dimension.step, sampling, default=default)
    else:
        # KerasTuner's own grids lose their upper end to rounding: (0.5 - 0.0) // 0.05 is 9.
        choices = dimension.choices if isinstance(dimension, Choice) else dimension.grid()
        kinds = {type(choice) for choice in choices}
        alike = [float(choice) for choice in choices] if kinds == {int, float} else list(choices)
        value = hp.Choice(name, alike, default=default)
    chosen: Scalar | None = value
    return chosen


class _OnOurTerms(keras_tuner.Oracle):
    """The baseline first, proposals by seed and number of the trial, and nothing written: the store has it all."""

    def _random_values(self) -> dict[str, Scalar] | None:
        if not self.trials:
            baseline: dict[str, Scalar] = dict(self.get_space().values)
            return baseline
        self._seed_state = derived_seed(self.seed, len(self.trials))
        values: dict[str, Scalar] | None = super()._random_values()
        return values

    def recall(self, values: Mapping[str, Scalar]) -> None:
        """Expect that the store has these values for the next trial; the oracle makes the same proposal again."""

    def save(self) -> None:
        """Write nothing."""

    def _save_trial(self, trial: keras_tuner.engine.trial.Trial) -> None:
        """Write nothing."""


class _Recalling(_OnOurTerms):
    """Takes proposals of earlier runs as they are stored, instead of making them again."""

    _recalled: tuple[int, Mapping[str, Scalar]] | None = None  # KerasTuner's number of a trial, and its values

    def recall(self, values: Mapping[str, Scalar]) -> None:
        """Take these values, which the store has, for the next trial."""
        self._recalled = (len(self.trials), values)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return status and values of a trial; values have as many digits as the store keeps."""
        if self._recalled is not None and self._recalled[0] == len(self.trials):
            return {"status": "RUNNING", "values": self._as_declared(self._recalled[1])}
        response: dict[str, Any] = super().populate_space(trial_id)
        if response["values"]:
            response["values"] = self._as_declared(response["values"])
        return response

    def _as_declared(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Bring values to the form that KerasTuner's ranges give them, so that stored and new ones are alike."""
        settled: dict[str, Scalar] = {}
        for hp in self.hyperparameters.space:
            if hp.name in values:
                settled[hp.name] = _settled(hp, values[hp.name])
        return settled


def _settled(hp: Any, value: Any) -> Scalar:
    if isinstance(hp, keras_tuner.engine.hyperparameters.Choice):
        choice: Scalar = hp.values[hp.values.index(value)]
        return choice
    # At its upper end KerasTuner's logarithmic range of whole numbers reaches one beyond.
    inside: int | float = min(max(value, hp.min_value), hp.max_value)
    return without_rounding_error(inside) if isinstance(inside, float) else inside


class _Random(_Recalling, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(_Recalling, keras_tuner.oracles.BayesianOptimizationOracle):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return status and values of a trial."""
        self._random_state = np.random.RandomState(derived_seed(self.seed, len(self.trials)))
        return super().populate_space(trial_id)


class _Hyperband(_OnOurTerms, keras_tuner.oracles.HyperbandOracle):
    pass


class _Grid(_OnOurTerms, keras_tuner.oracles.GridSearchOracle):
    pass


def make_oracle(tuner: TunerName, space: Space, metric: Metric, seed: int) -> keras_tuner.Oracle:
    """Return KerasTuner's oracle over `space`.

    Args:
        tuner: Which one. Hyperband's largest number of epochs is the space's.
        space: What it chooses from; for Hyperband without the field `epochs`.
        metric: What it receives under the name `SCORE`.
        seed: Of the study.
    """
    declared = keras_tuner.HyperParameters()
    declare(space, declared)
    arguments = {
        "objective": keras_tuner.Objective(SCORE, "max" if direction(metric) == "maximize" else "min"),
        "hyperparameters": declared,
        "seed": seed + 1,  # KerasTuner takes 0 for none
        "max_consecutive_failed_trials": sys.maxsize,  # `runner.check_failures` looks at the reasons, too
    }
    if tuner == "hyperband":
        oracle = _Hyperband(max_epochs=space.centre.epochs, hyperband_iterations=None, **arguments)
    else:
        oracle = {"random": _Random, "bayesian": _Bayesian, "grid": _Grid}[tuner](max_trials=None, **arguments)
    oracle.verbose = 0
    return oracle


class Network(keras_tuner.HyperModel):
    """The five-block network over a space, as KerasTuner builds it.

    Args:
        space: What is searched.
        plain: Whether of plain Keras layers, (size, size, 3) in [0, 1], or of those that train here, (size, size, 1)
            grey levels 0 to 255 as `uint8`.
    """

    def __init__(self, space: Space, *, plain: bool) -> None:
        super().__init__()
        self.space, self.plain = space, plain

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the compiled network of the values that `hp` has."""
        config = declare(self.space, hp)
        model = plain_model(config) if self.plain else build_model(config)
        compile_model(model, config)
        return model
