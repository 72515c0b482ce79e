"""Study files: what is searched and how, in TOML, checked strictly."""

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from pneumosearch._utils.patterns import one_group
from pneumosearch.config import MAX_FOLDS, N_BLOCKS, PrecisionChoice, Protocol, TrialConfig, first_problem
from pneumosearch.errors import ConfigError
from pneumosearch.metrics import METRICS, AnyMetric, Metric, PruneMetric, direction, of_battery, under_stress
from pneumosearch.published import PUBLISHED_SEED
from pneumosearch.records.classes import checked_classes, own_classes
from pneumosearch.space import DEFAULT_DIMENSIONS, DEFAULT_OTHERS, Dimension, Scalar, Space

SamplerName = Literal["tpe", "random", "prior", "qmc", "cmaes", "gp"]
SAMPLER_NAMES: Final[tuple[str, ...]] = get_args(SamplerName)
_CLASS: Final = "[A-Za-z_][A-Za-z0-9_]*"
#: A sampler's name, or where its class is: package.module:Class, or optunahub:samplers/PACKAGE:Class
_SAMPLER_PATTERN: Final = (
    rf"^({'|'.join(SAMPLER_NAMES)}|[A-Za-z_][A-Za-z0-9_.]*:{_CLASS}|optunahub:samplers/[A-Za-z0-9_-]+:{_CLASS})$"
)
PrunerName = Literal["none", "median", "halving", "hyperband", "promote"]
EngineName = Literal["optuna", "keras-tuner"]
TunerName = Literal["random", "bayesian", "hyperband", "grid"]

DEFAULT_SAMPLER: Final = "tpe"
DEFAULT_PRUNER: Final[PrunerName] = "promote"

#: A duration such as 90, 45s, 30m, 2h or 1h30m.
DURATION_PATTERN: Final = r"^(\d+(\.\d+)?[smhd]?)+$"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

#: Pruner "promote": a trial pauses after these epochs; the best of so many trials resumes.
DEFAULT_RUNGS: Final = (1,)
DEFAULT_REDUCTION_FACTOR: Final = 4


def _default_prune_by(values: dict[str, Any]) -> PruneMetric:
    seen = METRICS[values.get("metric", "accuracy")].prune_by  # pydantic leaves an invalid metric out
    # Precise batch normalisation takes time and is of no use without a pruner.
    return "auc" if seen == "precise_auc" and values.get("pruner") == "none" else seen


#: Protocol "folds": as many as `confirm` has.
DEFAULT_FOLDS: Final = 5

#: A tool that shows the trials as its own runs, and where: tensorboard:DIR or mlflow:URI.
LOG_PATTERN: Final = r"^(tensorboard|mlflow):.+$"

#: A study's name is part of file names: letters, digits, and . _ - inside.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def _listed(value: object) -> object:
    """Return one name or path as a list, and paths as text, for callers in Python."""
    if isinstance(value, str | Path):
        return [str(value)]
    return (
        [str(each) if isinstance(each, Path) else each for each in value] if isinstance(value, list | tuple) else value
    )


LearnFrom = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed)]

Bound = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Finalists(BaseModel):
    """What a study repeats when its search is over."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    top: Annotated[int, Field(ge=1, le=100, strict=True)] = 5
    """So many of the best configurations."""
    repeats: Annotated[int, Field(ge=1, le=100, strict=True)] = 3
    """Trainings of each, on fresh seeds."""


class StudySpec(BaseModel):
    """A study as its file describes it. Without a file it is `default_study`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = "default"
    """Name of the study in the store: up to 100 letters, digits and `.`, `_`, `-` inside."""
    metric: Metric = "accuracy"
    """What the search improves, on the validation images, at the epoch whose weights are kept."""
    floor: Annotated[dict[AnyMetric, Bound], Field(min_length=1)] | None = None
    """Figures by metric, such as `{ auc = 0.98 }`. Trials that are worse at their kept epoch rank behind all others."""
    engine: EngineName = "optuna"
    """Library that proposes configurations: Optuna by `sampler` and `pruner`, or KerasTuner by `tuner`."""
    tuner: TunerName | None = Field(default_factory=lambda v: "random" if v.get("engine") == "keras-tuner" else None)
    """KerasTuner's search. Default: `random` with engine `keras-tuner`, else none."""
    sampler: Annotated[str, Field(pattern=_SAMPLER_PATTERN)] = DEFAULT_SAMPLER
    """Optuna's sampler: a name, `package.module:Class`, or `optunahub:samplers/PACKAGE:Class`."""
    pruner: PrunerName = Field(default_factory=lambda v: "none" if v.get("engine") == "keras-tuner" else DEFAULT_PRUNER)
    """When trials stop early. `promote` is asynchronous successive halving (ASHA) whose stopped trials can resume.
    Default: `promote`; `none` with engine `keras-tuner`."""
    # Precise batch normalisation tells trials apart from the first epoch on; the moving averages lag (results/LOG.md).
    prune_by: PruneMetric = Field(default_factory=_default_prune_by)
    """What the pruner sees after an epoch. Default: by the metric, mostly `precise_auc`, which needs no threshold."""
    rungs: tuple[Annotated[int, Field(ge=1, strict=True)], ...] = DEFAULT_RUNGS
    """Pruner `promote`: epochs after which a trial pauses."""
    reduction_factor: Annotated[int, Field(ge=2, le=100, strict=True)] = DEFAULT_REDUCTION_FACTOR
    """Pruner `promote`: of this many trials at a rung, one resumes."""
    screening: Annotated[int, Field(ge=2**N_BLOCKS, le=1024, strict=True)] | None = None
    """Pruner `promote`: side in pixels of a low-resolution rung, an epoch before all others, or none."""
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = PUBLISHED_SEED
    """Seed of the search; trial n trains with seed + n."""
    learn_from: LearnFrom = ()
    """Earlier studies that inform the sampler: names of studies in the same store, or files that `report --format csv`
    writes, such as `["first", "wide.csv"]`. Only ranks within each study count, and nothing becomes a result."""
    repeat_duplicates: StrictBool = False
    """Train a configuration again when it is proposed again."""
    protocol: Protocol = "holdout"
    """Images that train and images that judge. `folds` is a cross-validation: a trial trains on each fold, and their
    mean judges it. A search cannot use `original`, which judges by the test folder."""
    folds: Annotated[int, Field(ge=2, le=MAX_FOLDS, strict=True)] = DEFAULT_FOLDS
    """Protocol `folds`: parts of the images, by patient. Each judges a training on the others."""
    battery: StrictBool = False
    """Judge each epoch by the battery of crafted shifts too, and record it, whatever the metric. Metrics of the battery
    need no such key."""
    patient_pattern: str | None = None
    """Regular expression, searched in each image's path below the data folder; its one group is the patient."""
    classes: tuple[str, str] | None = None
    """Names of the two class folders, the second the positive class. Default: `NORMAL` and `PNEUMONIA`; with any
    others, published figures are not shown."""
    precision: PrecisionChoice = "auto"
    """Precision of the computation; `auto`: bfloat16 where the processor is faster with it."""
    deterministic: StrictBool = False
    """Run only operations that give the same digits each time. All do on a processor; on a GPU some do not."""
    max_parameters: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Largest number of parameters. Configurations over budget are neither trained nor counted, except the baseline."""
    max_seconds_an_epoch: Annotated[float, Field(gt=0)] | None = None
    """Like `max_parameters`: longest estimated time of an epoch, in seconds. The estimate needs a first epoch."""
    finalists: Finalists | None = None
    """A last rung, such as `{ top = 5, repeats = 3 }`: the best `top` configurations are trained again on `repeats`
    fresh seeds, each judged by another of five folds of the patients, and their means rank them."""
    trials: Annotated[int, Field(ge=1, strict=True)] = 50
    """Total number of trials; `--trials` overrides it."""
    timeout: Annotated[str, Field(pattern=DURATION_PATTERN)] | None = None
    """Time after which the search stops, such as `30m` or `2h`; `--timeout` overrides it."""
    log: tuple[Annotated[str, Field(pattern=LOG_PATTERN)], ...] = ()
    """Other tools that the trials are written to, such as `tensorboard:runs` or `mlflow:http://localhost:5000`; `--log`
    overrides it."""
    fixed: dict[str, Scalar] = {}
    """Hyperparameters fixed at a value other than the published one, also in the baseline."""
    others: dict[str, Scalar] = dict(DEFAULT_OTHERS)
    """Hyperparameters fixed at another value in all trials but the baseline. Default: only with the default space."""
    control: StrictBool = False
    """Train the baseline's values of the searched fields with `others` too, as trial 1, and never stop it. Only
    what the best trial is ahead of this control can have come from the search; the rest came from `others`."""
    space: dict[str, Dimension] = dict(DEFAULT_DIMENSIONS)
    """Searched ranges by hyperparameter. Default: the design card's space, less `fixed` and `others`."""

    @property
    def trainings_each(self) -> int:
        """Trainings of a configuration that is not pruned: one, or one for each fold."""
        return self.folds if self.protocol == "folds" else 1

    @property
    def stress(self) -> bool:
        """Whether changed copies of the validation images also judge each epoch."""
        return any(map(under_stress, self._measured))

    @property
    def judged_by_battery(self) -> bool:
        """Whether copies under the battery of crafted shifts also judge each epoch."""
        return self.battery or any(map(of_battery, self._measured))

    @property
    def precise(self) -> bool:
        """Whether each epoch is also judged with precise batch normalisation."""
        return any(METRICS[metric].judge == "precise" for metric in self._measured)

    @property
    def _measured(self) -> tuple[AnyMetric, ...]:
        return self.metric, self.prune_by, *(self.floor or ())

    def identity(self) -> dict[str, Any]:
        """Return the settings that must not change when the study resumes, for the store."""
        return self.model_dump(mode="json", exclude={"name", "trials", "timeout", "log"})

    def search_space(self, source: str = "study") -> Space:
        """Return the checked space; `source` begins its error messages."""
        return Space(self.space, self.fixed, source, self.others)


def read_study_file(path: Path) -> StudySpec:
    """Read and check a study file.

    Raises:
        ConfigError: The file does not exist or is not TOML, a key is unknown, a type is wrong, or a range lacks the
            baseline. The message is one line with the file and the key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such study file") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from error
    return checked_spec(values, str(path))


def checked_spec(values: dict[str, object], source: str) -> StudySpec:
    """Build a study from untrusted values; `source` begins the message of a `ConfigError`.

    Without a space in `values`, the space is the default one less the fields that `values` fix.
    """
    values = _with_default_space(values)
    try:
        spec = StudySpec.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_problem(error)}") from error
    if spec.protocol == "original":
        raise ConfigError(
            f"{source}: protocol: a search must not use the test folder; choose 'holdout', 'folds' "
            "or 'brightness' ('original' is for the command baseline)"
        )
    if direction(spec.prune_by) != direction(spec.metric):
        raise ConfigError(
            f"{source}: prune_by: {spec.prune_by!r} and the metric {spec.metric!r} improve in opposite directions; use "
            + f"{METRICS[spec.metric].prune_by!r}"
            + " or another" * (direction(spec.metric) == "maximize")
        )
    if spec.patient_pattern is not None:
        one_group(spec.patient_pattern, f"{source}: patient_pattern")
    if spec.classes is not None:
        classes = checked_classes(spec.classes, f"{source}: classes")
        spec = spec.model_copy(update={"classes": own_classes(classes)})
    _check_folds(spec, source)
    _check_floor(spec, source)
    _check_learn_from(spec, source)
    _check_rungs(spec, source)
    _check_engine(spec, source)
    _check_control(spec, source)
    spec.search_space(source)
    return spec


def _with_default_space(values: dict[str, object]) -> dict[str, object]:
    """Add the default space and its `others` to values without a space; with a space, `others` is empty by default."""
    if "space" in values:
        return {"others": {}, **values}
    fixed, others = values.get("fixed", {}), values.get("others", {})
    if not isinstance(fixed, dict) or not isinstance(others, dict):  # pydantic reports it
        return values
    free = {name: dimension for name, dimension in DEFAULT_DIMENSIONS.items() if name not in {*fixed, *others}}
    set_for_others = {name: value for name, value in DEFAULT_OTHERS.items() if name not in fixed}
    return {"others": set_for_others, **values, "space": free}


def _check_engine(spec: StudySpec, source: str) -> None:
    if spec.engine == "optuna":
        if spec.tuner is not None:
            raise ConfigError(f"{source}: tuner: needs engine = 'keras-tuner', not 'optuna'")
        return
    for key, given, only in (("sampler", spec.sampler, DEFAULT_SAMPLER), ("pruner", spec.pruner, "none")):
        if given != only:
            raise ConfigError(f"{source}: {key}: {given!r} is for engine = 'optuna'; 'keras-tuner' has a tuner instead")


def _check_control(spec: StudySpec, source: str) -> None:
    if spec.control and spec.engine != "optuna":
        raise ConfigError(f"{source}: control: needs engine = 'optuna', not {spec.engine!r}")
    if spec.control and not spec.others:
        raise ConfigError(f"{source}: control: needs [others], without which the baseline is trained like all trials")


def _check_learn_from(spec: StudySpec, source: str) -> None:
    if spec.learn_from and spec.engine != "optuna":
        raise ConfigError(f"{source}: learn_from: needs engine = 'optuna', not {spec.engine!r}")
    for name in spec.learn_from:
        if spec.learn_from.count(name) > 1:
            raise ConfigError(f"{source}: learn_from: {name!r} is there twice; once is enough")
        if name == spec.name:
            raise ConfigError(f"{source}: learn_from: {name!r} is this study itself; name an earlier one")


def _check_folds(spec: StudySpec, source: str) -> None:
    if spec.protocol != "folds" and spec.folds != DEFAULT_FOLDS:
        raise ConfigError(f"{source}: folds: needs protocol = 'folds', not {spec.protocol!r}")
    if spec.protocol == "folds" and spec.finalists is not None:
        raise ConfigError(
            f"{source}: finalists: protocol 'folds' trains each configuration {spec.folds} times already; leave out "
            "finalists, or choose protocol 'holdout'"
        )


def _check_floor(spec: StudySpec, source: str) -> None:
    for metric, bound in (spec.floor or {}).items():
        fraction = METRICS[metric].direction == "maximize"
        if bound < 0 or (fraction and bound > 1):
            wanted = "a fraction from 0 to 1" if fraction else "0 or more"
            raise ConfigError(f"{source}: floor.{metric}: {bound:g}: wanted {wanted}")


def _check_rungs(spec: StudySpec, source: str) -> None:
    for key in ("rungs", "reduction_factor", "screening"):
        if spec.pruner != "promote" and getattr(spec, key) != StudySpec.model_fields[key].default:
            raise ConfigError(f"{source}: {key}: needs pruner = 'promote', not {spec.pruner!r}")
    if not spec.rungs or list(spec.rungs) != sorted(set(spec.rungs)):
        raise ConfigError(f"{source}: rungs: must be rising numbers of epochs such as [1, 3], not {list(spec.rungs)}")


def seconds_of(duration: str | None, option: str = "--timeout") -> float:
    """Read a duration such as 90, 45s, 30m, 2h or 1h30m, in seconds; None is infinite.

    Raises:
        ConfigError: Anything else, or zero.
    """
    if duration is None:
        return float("inf")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", duration)
    seconds = sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
    if not re.fullmatch(DURATION_PATTERN, duration) or seconds <= 0:
        raise ConfigError(f"{option} '{duration}': wanted a duration such as 90s, 30m, 2h or 1h30m")
    return seconds


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of study files, for editors that complete and check them."""
    schema = StudySpec.model_json_schema()
    schema["title"] = "A study of pneumosearch"
    fields = TrialConfig.model_json_schema()["properties"]
    ranges = schema["properties"]["space"].pop("additionalProperties")
    for name, values in (("fixed", fields), ("others", fields), ("space", dict.fromkeys(fields, ranges))):
        schema["properties"][name] |= {"properties": values, "additionalProperties": False}
    return schema


def _problem(error: ValidationError) -> str:
    """Describe the first problem in one line. Pydantic tries a range as choices and as bounds; the line names both."""
    location = error.errors()[0]["loc"]
    if location[0] != "space" or len(location) < 2:
        return first_problem(error)
    reasons = [e["msg"].removeprefix("Value error, ") for e in error.errors() if e["type"] == "value_error"]
    return f"space.{location[1]}: " + (
        reasons[0] if reasons else "needs choices = [...], or low and high, with or without step and log"
    )


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
