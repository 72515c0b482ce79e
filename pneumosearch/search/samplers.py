"""The samplers of a study: Optuna's, one that looks around the baseline first, and any other by its import path."""

import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.records.attributes import EXHAUSTED
from pneumosearch.records.earlier import EarlierStudy
from pneumosearch.search.informed import InformedSampler
from pneumosearch.search.unit_cube import around, to_unit
from pneumosearch.space import Space
from pneumosearch.studyfile import SAMPLER_NAMES, StudySpec

#: Trials that TPE draws at random before it models; the baseline is one of them.
_STARTUP_TRIALS: Final = 10

_HUB: Final = "optunahub:"

_NEEDED_PACKAGE: Final = {"cmaes": "cmaes", "gp": "torch"}


Floats = NDArray[np.float64]


class PerTrialSampler(BaseSampler):
    """Makes a new sampler for each trial, so that a resumed study proposes what an uninterrupted one would.

    A sampler that has nothing more to propose calls `Study.stop`, which Optuna allows in `Study.optimize` alone. Here
    the study keeps that as an attribute, for all its processes.

    Args:
        make: From a trial's number to its sampler. That of the first trial is made at once, to show mistakes early.
        name: Of the sampler, in the attribute.
    """

    def __init__(self, make: Callable[[int], BaseSampler], name: str = "of this study") -> None:
        self._make, self._name = make, name
        self._made = (0, make(0))  # the latest: the number of its trial, and the sampler

    def _sampler_of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._made[0]:
            self._made = (trial.number, self._make(trial.number))
        return self._made[1]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Ask the trial's own sampler."""
        return self._sampler_of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the trial's own sampler."""
        return self._sampler_of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Ask the trial's own sampler."""
        return self._sampler_of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Let the trial's own sampler prepare."""
        self._sampler_of(trial).before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the trial's own sampler learn, or find that it has nothing more to propose."""
        stoppable = _Stoppable(study)
        self._sampler_of(trial).after_trial(cast(optuna.Study, stoppable), trial, state, values)
        if stoppable.stopped:
            EXHAUSTED.set(study, f"sampler {self._name} has nothing more to propose")


class _Stoppable:
    """A study whose `stop` is only noted."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self.stopped = study, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def stop(self) -> None:
        self.stopped = True


def study_sampler(spec: StudySpec, space: Space, earlier: Sequence[EarlierStudy] = ()) -> BaseSampler:
    """Return the sampler of a study.

    Args:
        spec: The study.
        space: Its space.
        earlier: What it took over from earlier studies.

    Raises:
        ConfigError: It cannot be made.
    """
    seen = _Seen()

    def of_trial(number: int) -> BaseSampler:
        seed = derived_seed(spec.seed, number)
        sampler = make_sampler(spec.sampler, space, study_seed=spec.seed, trial_seed=seed)
        if isinstance(sampler, SharingTPESampler):
            sampler.seen = seen
        return InformedSampler(sampler, space, earlier, seed) if earlier else sampler

    return PerTrialSampler(of_trial, spec.sampler)


def derived_seed(seed: int, number: int) -> int:
    """Return a seed for trial `number` that does not depend on which process asks: a resumed study repeats."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def make_sampler(name: str, space: Space, *, study_seed: int, trial_seed: int) -> BaseSampler:
    """Return the sampler that proposes one trial.

    Args:
        name: One of `studyfile.SAMPLER_NAMES`, or `package.module:Class` of an Optuna sampler that takes a `seed`,
            or `optunahub:samplers/PACKAGE:Class` of one that OptunaHub publishes.
        space: What is searched.
        study_seed: The same for all trials, for samplers whose proposals are one sequence.
        trial_seed: Of this trial alone, so that a resumed study proposes what an uninterrupted one would.

    Raises:
        ConfigError: Unknown, or its package is not installed.
    """
    makers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": partial(_tpe, space, trial_seed),
        "random": partial(optuna.samplers.RandomSampler, seed=trial_seed),
        "prior": partial(PriorSampler, space.centre.model_dump(), seed=trial_seed),
        "qmc": partial(optuna.samplers.QMCSampler, scramble=True, seed=study_seed),
        "cmaes": partial(LegibleCmaEsSampler, seed=trial_seed, warn_independent_sampling=False),
        "gp": partial(optuna.samplers.GPSampler, seed=trial_seed),
    }
    package = _NEEDED_PACKAGE.get(name)
    if package and find_spec(package) is None:  # Optuna would find that in the middle of the first trial
        raise ConfigError(f"sampler '{name}' needs the package {package}, which is not installed")
    maker = makers.get(name) or partial(_sampler_class(name), seed=trial_seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return maker()
    except TypeError as error:
        raise ConfigError(f"sampler '{name}' cannot be made with a seed alone ({error})") from error


class _Seen:
    """What the samplers of a study have looked at: an ended trial does not change, so each is looked at once."""

    def __init__(self) -> None:
        self.fields = IntersectionSearchSpace(include_pruned=True)
        self._ranges: dict[str, BaseDistribution] = {}
        self._numbers: dict[int, list[float] | None] = {}  # by trial; None where it has not all fields

    def numbers(self, trials: Sequence[FrozenTrial], ranges: dict[str, BaseDistribution]) -> dict[str, Floats]:
        """Return the values of ended trials by field as numbers, without the trials that have not all fields."""
        if ranges != self._ranges:
            self._ranges, self._numbers = ranges, {}
        for trial in trials:
            if trial.number not in self._numbers:
                self._numbers[trial.number] = _as_numbers(trial.params, ranges)
        rows = [row for trial in trials if (row := self._numbers[trial.number]) is not None]
        columns = np.ascontiguousarray(np.array(rows, dtype=float).reshape(len(rows), len(ranges)).T)
        return dict(zip(ranges, columns, strict=True))


def _as_numbers(params: dict[str, Any], ranges: dict[str, BaseDistribution]) -> list[float] | None:
    if not ranges.keys() <= params.keys():
        return None
    return [distribution.to_internal_repr(params[name]) for name, distribution in ranges.items()]


class SharingTPESampler(optuna.samplers.TPESampler):
    """TPE that remembers what it has seen of the trials, though each trial has a new sampler.

    Proposals are the same: Optuna's own compares and converts the values of all trials anew for each sampler.
    """

    seen: _Seen | None = None  # shared by the samplers of a study

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the fields that all trials have, without those of a single value."""
        if self.seen is None:
            return super().infer_relative_search_space(study, trial)
        fields = self.seen.fields.calculate(study)
        return {name: distribution for name, distribution in fields.items() if not distribution.single()}

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> dict[str, Floats]:
        """Return the values of trials by field as numbers. A running trial, which TPE does not ask for, may change."""
        if self.seen is None or not all(trial.state.is_finished() for trial in trials):
            return super()._get_internal_repr(trials, search_space, study)
        return self.seen.numbers(trials, search_space)


def _tpe(space: Space, seed: int) -> BaseSampler:
    if space.conditional:
        return optuna.samplers.TPESampler(n_startup_trials=_STARTUP_TRIALS, group=True, seed=seed)
    return SharingTPESampler(n_startup_trials=_STARTUP_TRIALS, seed=seed)


def _sampler_class(path: str) -> Callable[..., BaseSampler]:
    module, colon, name = path.rpartition(":")
    if not colon:
        raise ConfigError(f"no sampler '{path}'; there are {', '.join(SAMPLER_NAMES)}, or package.module:Class")
    try:
        found = getattr(_from_hub(module) if module.startswith(_HUB) else import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"sampler '{path}' cannot be imported ({error})") from error
    if not (isinstance(found, type) and issubclass(found, BaseSampler)):
        raise ConfigError(f"'{path}' is not a class of Optuna samplers")
    return found


def _from_hub(path: str) -> Any:
    """Return a package of OptunaHub, which fetches it once and keeps it. Its code runs here: take what you trust."""
    try:
        import optunahub
    except ModuleNotFoundError as error:
        raise ConfigError(f"sampler '{path}' needs the package optunahub, which is not installed") from error
    try:
        return optunahub.load_module(path.removeprefix(_HUB))
    except Exception as error:  # the network or the foreign package may raise anything
        raise ConfigError(f"'{path}' cannot be fetched from OptunaHub ({error})") from error


class LegibleCmaEsSampler(optuna.samplers.CmaEsSampler):
    """Optuna's CMA-ES with its state in the store as JSON; Optuna's own pickle there would run as code.

    It serves the plain algorithm, Optuna's default. Proposals are the same to the last digit.
    """

    _optimizer: Any = None  # of the present proposal

    def _init_optimizer(self, *arguments: Any, **named: Any) -> Any:
        self._optimizer = super()._init_optimizer(*arguments, **named)
        return self._optimizer

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        """Return the attributes that keep the state, in place of those of its pickle."""
        state = self._optimizer.__getstate__()
        arrays = {name: value.tolist() for name, value in state.items() if isinstance(value, np.ndarray)}
        numbers = {
            name: getattr(value, "item", lambda value=value: value)()
            for name, value in state.items()
            if name not in arrays
        }
        written = super()._split_optimizer_str(json.dumps({"arrays": arrays, "numbers": numbers}))
        return {name.replace(":", ":json:"): part for name, part in written.items()}

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        """Return the optimizer of the last trial that keeps one. Raises `StoreError` where it is not legible."""
        for trial in reversed(completed_trials):
            parts = {k.replace(":json:", ":"): v for k, v in trial.system_attrs.items() if ":json:" in k}
            if parts:
                self._optimizer = _optimizer(self._concat_optimizer_attrs(parts), trial.number)
                return self._optimizer
        return None


def _optimizer(text: str, number: int) -> Any:
    import cmaes

    try:
        state = json.loads(text)
        values = {name: np.asarray(value, dtype=float) for name, value in state["arrays"].items()} | state["numbers"]
        optimizer = cmaes.CMA(mean=np.zeros(int(values["_n_dim"])), sigma=1.0)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise StoreError(f"trial {number}: what it keeps is not the state of a CMA-ES ({error})") from error
    if values.keys() != optimizer.__getstate__().keys():
        raise StoreError(f"trial {number}: the state of its CMA-ES is of another version of cmaes; use another --name")
    optimizer.__setstate__(values)
    return optimizer


class PriorSampler(BaseSampler):
    """Looks around the baseline first, and widens: a mixture of baseline, best trial so far, and the whole space.

    Args:
        prior: Values of the baseline by field.
        seed: Of one trial; each trial has a new sampler.

    A third of the trials come from the whole space. The others come from around the baseline, or from around the best
    complete trial in proportion to how well each of the two explains the best third of all trials, as PriorBand
    weighs them. Source: Mallik et al., "PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning",
    NeurIPS 2023.
    """

    _UNIFORM_SHARE: Final = 1 / 3
    _WIDTH: Final = 0.25  # deviation around a centre, in shares of a range
    _KEEP: Final = 0.5  # probability to keep a categorical value, and any value of the best trial
    _ENOUGH: Final = 6  # complete trials before the best one is looked at

    def __init__(self, prior: dict[str, Any], seed: int) -> None:
        self._prior = prior
        self._rng = np.random.default_rng(seed)
        self._uniform = optuna.samplers.RandomSampler(seed=int(self._rng.integers(2**31)))
        self._chosen: tuple[str, dict[str, Any]] | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Each field is drawn for itself."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Each field is drawn for itself."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a field from the component that this trial comes from."""
        if self._chosen is None:
            self._chosen = self._choose(study)
        component, centre = self._chosen
        if component == "uniform" or param_name not in centre:
            return self._uniform.sample_independent(study, trial, param_name, param_distribution)
        if component == "best" and self._rng.random() < self._KEEP:
            return centre[param_name]
        return around(centre[param_name], param_distribution, self._rng, width=self._WIDTH, keep=self._KEEP)

    def _choose(self, study: optuna.Study) -> tuple[str, dict[str, Any]]:
        if self._rng.random() < self._UNIFORM_SHARE:
            return "uniform", {}
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(complete) < self._ENOUGH:
            return "prior", self._prior
        maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
        ranked = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=maximize)
        good, best = ranked[: max(2, len(ranked) // 3)], ranked[0].params
        odds = self._log_likelihood(good, best) - self._log_likelihood(good, self._prior)
        share_of_best = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        return ("best", best) if self._rng.random() < share_of_best else ("prior", self._prior)

    def _log_likelihood(self, trials: Sequence[FrozenTrial], centre: dict[str, Any]) -> float:
        """Return the mean log-density of the trials around `centre`, the best weighing most."""
        densities = [
            sum(
                self._log_density(trial.params[name], centre[name], distribution)
                for name, distribution in trial.distributions.items()
                if name in centre
            )
            for trial in trials
        ]
        return float(np.average(densities, weights=np.arange(len(trials), 0, -1)))

    def _log_density(self, value: Any, centre: Any, distribution: BaseDistribution) -> float:
        if isinstance(distribution, CategoricalDistribution):
            other = (1 - self._KEEP) / len(distribution.choices)
            return float(np.log(self._KEEP + other if value == centre else other))
        return float(-0.5 * ((to_unit(value, distribution) - to_unit(centre, distribution)) / self._WIDTH) ** 2)
