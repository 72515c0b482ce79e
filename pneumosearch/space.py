"""The search space: named ranges over the fields of `TrialConfig`, each of which contains the baseline."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, model_validator

from pneumosearch.config import TrialConfig, without_rounding_error
from pneumosearch.errors import ConfigError

if TYPE_CHECKING:
    import optuna

Scalar = bool | int | float | str

_STRICT: Final = ConfigDict(frozen=True, extra="forbid")
_TOLERANCE: Final = 1e-9  # of a step, when a value is looked up on a grid


class _Dimension(BaseModel):
    """The common part of all ranges."""

    model_config = _STRICT

    # The field is chosen only if these earlier fields have one of these values; otherwise it keeps the baseline's.
    when: dict[str, Scalar | tuple[Scalar, ...]] = {}

    def conditions(self) -> dict[str, tuple[Scalar, ...]]:
        """Return {field: the values that it may have}."""
        return {name: values if isinstance(values, tuple) else (values,) for name, values in self.when.items()}

    def active(self, values: Mapping[str, object]) -> bool:
        """Return whether the field is chosen, given the values of all fields before it."""
        return not self.when or all(values[name] in allowed for name, allowed in self.conditions().items())


class Choice(_Dimension):
    """One of a few values."""

    choices: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` is one of the choices."""
        return any(type(choice) is type(value) and choice == value for choice in self.choices)

    def corners(self) -> tuple[Scalar, ...]:
        """Return the values that a test should try: all of them."""
        return self.choices

    def own(self, value: Any) -> Scalar:
        """Return the choice that equals `value`. Other libraries turn True into 1, or numbers into NumPy numbers.

        Raises:
            ValueError: No choice equals `value`.
        """
        return self.choices[self.choices.index(value)]

    def distribution(self) -> "optuna.distributions.BaseDistribution":
        """Return the range as a distribution of Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    def ray_domain(self, tune: Any) -> Any:
        """Return the range as a domain of Ray; `tune` is the module `ray.tune`."""
        return tune.choice(list(self.choices))

    def suggest(self, trial: "optuna.trial.BaseTrial", name: str) -> Scalar:
        """Let `trial` choose."""
        value: Any = trial.suggest_categorical(name, self.choices)
        chosen: Scalar = value
        return chosen


class Range(_Dimension):
    """Numbers from `low` to `high`, both included; whole numbers where both bounds and the step are whole."""

    low: StrictInt | StrictFloat
    high: StrictInt | StrictFloat
    step: Annotated[StrictInt | StrictFloat, Field(gt=0)] | None = None
    log: StrictBool = False

    @model_validator(mode="after")
    def _sensible(self) -> "Range":
        if self.high < self.low:
            raise ValueError(f"high must be at least low ({self.low})")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a log range needs low > 0 and no step")
        return self

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(bound, int) for bound in (self.low, self.high, self.step or 1))

    def contains(self, value: Scalar) -> bool:
        """Tell whether `value` lies in the range and on its grid."""
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            return False
        if self.whole and not isinstance(value, int):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < _TOLERANCE

    def corners(self) -> tuple[Scalar, ...]:
        """Return the values that a test should try: both ends."""
        return (self.low, self.high)

    def own(self, value: Any) -> Scalar:
        """Return `value` as a plain number of the range's type, without the rounding error of another library's grid.

        Raises:
            ValueError: `value` is no number of that type, or is outside the range.
        """
        number = int(value) if self.whole else without_rounding_error(float(value))
        if (self.whole and number != value) or not self.low <= number <= self.high:
            raise ValueError(f"{value} is outside {self.low} to {self.high}")
        return number

    def grid(self) -> tuple[int | float, ...]:
        """Return all values of a range with a step, in rising order.

        Raises:
            ValueError: The range has no step.
        """
        if self.step is None:
            raise ValueError("a range without a step has no grid")
        n = int((self.high - self.low) / self.step + _TOLERANCE) + 1
        values = [self.low + i * self.step for i in range(n)]
        return tuple(int(value) if self.whole else without_rounding_error(value) for value in values)

    def distribution(self) -> "optuna.distributions.BaseDistribution":
        """Return the range as a distribution of Optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return FloatDistribution(self.low, self.high, step=self.step, log=self.log)

    def ray_domain(self, tune: Any) -> Any:
        """Return the range as a domain of Ray; `tune` is the module `ray.tune`.

        Ray excludes the upper end of whole numbers. Its grids lie on multiples of the step, so a grid that begins
        elsewhere becomes a choice.
        """
        if self.step is not None:
            steps = self.low / self.step
            if abs(steps - round(steps)) > _TOLERANCE:
                return tune.choice(list(self.grid()))
            quantised = tune.qrandint if self.whole else tune.quniform
            return quantised(self.low, self.grid()[-1], self.step)
        if self.whole:
            return (tune.lograndint if self.log else tune.randint)(self.low, int(self.high) + 1)
        return (tune.loguniform if self.log else tune.uniform)(self.low, self.high)

    def suggest(self, trial: "optuna.trial.BaseTrial", name: str) -> Scalar:
        """Let `trial` choose."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


Dimension = Choice | Range

#: The design card's space: of a study file without a space (`docs/study-files.md` gives a reason for each range), and,
#: but for zoom and schedule, of the default study.
DEFAULT_DIMENSIONS: Final[Mapping[str, Dimension]] = {
    "width": Choice(choices=(0.5, 0.75, 1.0, 1.25)),
    "filters_1": Choice(choices=(8, 16, 24)),
    "filters_2": Choice(choices=(16, 32, 48)),
    "filters_3": Choice(choices=(32, 64, 96)),
    "filters_4": Choice(choices=(64, 128, 192)),
    "filters_5": Choice(choices=(128, 256, 384)),
    "dropout_conv": Range(low=0.0, high=0.5, step=0.05),
    "dropout_1": Range(low=0.0, high=0.8, step=0.05),
    "dropout_2": Range(low=0.0, high=0.8, step=0.05),
    "dropout_3": Range(low=0.0, high=0.8, step=0.05),
    "zoom": Range(low=0.0, high=0.5, step=0.05),
    "lr_reduce_factor": Range(low=0.1, high=0.9, step=0.1),
    "lr_reduce_mode": Choice(choices=("max", "min")),
    "batch_size": Choice(choices=(16, 32, 64)),
    "epochs": Range(low=5, high=10),
}

#: Values that all trials but the baseline have instead of the published ones, where the space is the default.
DEFAULT_OTHERS: Final[Mapping[str, Scalar]] = {"batch_norm_statistics": "precise"}


class Space:
    """Ranges by field name, around a centre: the baseline with the fixed fields changed.

    Args:
        dimensions: The searched fields.
        fixed: Fields held at another value than the baseline's.
        source: Begins the messages of errors; the study file's name.
        others: Fields held at another value in all configurations but the centre.

    Raises:
        ConfigError: A name is no field of `TrialConfig`, is in two of the three, a range does not contain the
            baseline, or one of its ends is not allowed for the field.
    """

    def __init__(
        self,
        dimensions: Mapping[str, Dimension] = DEFAULT_DIMENSIONS,
        fixed: Mapping[str, object] | None = None,
        source: str = "space",
        others: Mapping[str, object] | None = None,
    ) -> None:
        self.dimensions = dict(dimensions)
        self.fixed, self.others = dict(fixed or {}), dict(others or {})
        self._check_apart(source)
        self.centre = TrialConfig.checked(dict(self.fixed), f"{source}: fixed")
        TrialConfig.checked({**self.fixed, **self.others}, f"{source}: others")
        for position, (name, dimension) in enumerate(self.dimensions.items()):
            self._check(name, dimension, source)
            self._check_condition(name, dimension, list(self.dimensions)[:position], source)

    def _check_apart(self, source: str) -> None:
        kinds: dict[str, Mapping[str, object]] = {
            "searched": self.dimensions,
            "fixed": self.fixed,
            "set for the others": self.others,
        }
        for (kind, names), (other_kind, other_names) in itertools.combinations(kinds.items(), 2):
            for name in sorted(names.keys() & other_names.keys()):
                raise ConfigError(f"{source}: '{name}' is both {other_kind} and {kind}; keep it in one of the two")

    def _check(self, name: str, dimension: Dimension, source: str) -> None:
        known = TrialConfig.model_fields
        if name not in known:
            raise ConfigError(f"{source}: space.{name}: unknown key; known are {', '.join(known)}")
        baseline = getattr(self.centre, name)
        if not dimension.contains(baseline):
            raise ConfigError(f"{source}: space.{name}: the range does not contain the baseline's {baseline!r}")
        for value in dimension.corners():
            TrialConfig.checked({**self.fixed, name: value}, f"{source}: space")
            kept = getattr(TrialConfig.checked({**self.fixed, name: value}, source), name)
            if type(kept) is not type(value) and not isinstance(kept, float):
                raise ConfigError(f"{source}: space.{name}: {value!r} should be a {type(kept).__name__}")

    def _check_condition(self, name: str, dimension: Dimension, earlier: list[str], source: str) -> None:
        for field, allowed in dimension.conditions().items():
            if field in self.others:
                raise ConfigError(f"{source}: space.{name}: when: '{field}' is set for the others alike")
            if field in self.dimensions and field not in earlier:
                raise ConfigError(f"{source}: space.{name}: when: '{field}' must come before '{name}'")
            for value in allowed:
                TrialConfig.checked({**self.fixed, field: value}, f"{source}: space.{name}: when")

    @property
    def conditional(self) -> bool:
        """Whether some fields are chosen only at certain values of others."""
        return any(dimension.when for dimension in self.dimensions.values())

    def suggest(self, trial: "optuna.trial.BaseTrial") -> TrialConfig:
        """Let an Optuna trial choose a value of each dimension whose condition holds.

        The centre's values are the centre in trial 0, which is the baseline, and the control in any other trial.
        """
        values: dict[str, object] = self.centre.model_dump()
        for name, dimension in self.dimensions.items():
            if dimension.active(values):
                values[name] = dimension.suggest(trial, name)
        return self._configuration(values, "space", may_be_centre=trial.number == 0)

    def _configuration(self, values: Mapping[str, object], source: str, *, may_be_centre: bool = True) -> TrialConfig:
        """Return the configuration of these values, with those of `others` unless it is the centre."""
        config = TrialConfig.checked(dict(values), source)
        if may_be_centre and config == self.centre:
            return config
        return TrialConfig.checked({**values, **self.others}, source)

    @property
    def control(self) -> TrialConfig | None:
        """The centre with `others`: the baseline, trained like all other configurations; None without `others`."""
        values = {**self.centre.model_dump(), **self.others}
        return TrialConfig.checked(values, "others") if self.others else None

    def chosen(self, config: TrialConfig) -> dict[str, Scalar]:
        """Return the values of the dimensions that are chosen in `config`: those whose condition holds."""
        values = vars(config)  # faster than `model_dump`, and pages ask for thousands
        return {name: values[name] for name, dimension in self.dimensions.items() if dimension.active(values)}

    def config(self, values: Mapping[str, Any]) -> TrialConfig:
        """Return the configuration of another library's `values` by field name.

        A field whose condition does not hold, or that has no value, stays at the baseline's.

        Raises:
            ConfigError: A name is not searched, or a value is outside its range.
        """
        all_values: dict[str, object] = self.centre.model_dump()
        for name in values:
            if name not in self.dimensions:
                raise ConfigError(f"values: '{name}' is not searched; the space has {', '.join(self.dimensions)}")
        for name, dimension in self.dimensions.items():
            if name in values and dimension.active(all_values):
                try:
                    all_values[name] = dimension.own(values[name])
                except (TypeError, ValueError) as error:
                    raise ConfigError(f"values: {name}: {values[name]!r} is not in its range") from error
        return self._configuration(all_values, "values")

    def to_ray(self) -> dict[str, Any]:
        """Return the space as domains of Ray Tune, for `tune.Tuner(trainable, param_space=space.to_ray())`.

        Ray has no conditional fields: it chooses all of them, and `config` turns its choice into a configuration.

        Raises:
            ConfigError: Ray Tune is not installed.
        """
        try:
            from ray import tune
        except ImportError as error:
            raise ConfigError("to_ray needs Ray Tune: pip install 'pneumosearch[ray]'") from error
        return {name: dimension.ray_domain(tune) for name, dimension in self.dimensions.items()}

    def baseline(self) -> dict[str, Scalar]:
        """Return the baseline's value of each dimension that is chosen there: the first trial of every study."""
        return self.chosen(self.centre)

    def describe(self) -> dict[str, Any]:
        """Return the space as plain values, for the store."""
        dimensions = {name: dimension.model_dump(exclude_defaults=True) for name, dimension in self.dimensions.items()}
        return {"space": dimensions, "fixed": self.fixed, "others": self.others}
