"""Study files: what is searched and how, in TOML, checked strictly."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from pneumosearch.config import N_BLOCKS, PrecisionChoice, Protocol, TrialConfig, first_problem
from pneumosearch.errors import ConfigError
from pneumosearch.metrics import Metric, PruneMetric, direction, under_stress
from pneumosearch.published import PUBLISHED_SEED
from pneumosearch.space import DEFAULT_DIMENSIONS, DEFAULT_OTHERS, Choice, Dimension, Scalar, Space

SAMPLER_NAMES: Final = ("tpe", "random", "prior", "qmc", "cmaes", "gp")
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

#: A time such as 90, 45s, 30m, 2h or 1h30m.
DURATION_PATTERN: Final = r"^(\d+(\.\d+)?[smhd]?)+$"

#: After these epochs a trial waits under the pruner "promote", and of those that came there one in so many goes on.
DEFAULT_RUNGS: Final = (1,)
DEFAULT_REDUCTION_FACTOR: Final = 4

_PRUNE_BY: Final[dict[str, PruneMetric]] = {
    "loss": "loss",
    **dict.fromkeys(("stress_accuracy", "stress_auc", "stress_balanced_accuracy", "stress_worst"), "stress_auc"),
}


def _default_prune_by(values: dict[str, Any]) -> PruneMetric:
    seen = _PRUNE_BY.get(values.get("metric", ""), "precise_auc")
    # Judging with precise statistics costs some time, and nothing looks where nothing prunes.
    return "auc" if seen == "precise_auc" and values.get("pruner") == "none" else seen


#: A study's name is part of file names: letters, digits, and . _ - inside.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class StudySpec(BaseModel):
    """A study as its file describes it; without a file, the design card's study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = "default"
    metric: Metric = "accuracy"
    # Which library proposes configurations: Optuna by `sampler` and `pruner`, or KerasTuner by `tuner`.
    engine: EngineName = "optuna"
    tuner: TunerName | None = Field(default_factory=lambda v: "random" if v.get("engine") == "keras-tuner" else None)
    sampler: Annotated[str, Field(pattern=_SAMPLER_PATTERN)] = DEFAULT_SAMPLER
    pruner: PrunerName = Field(default_factory=lambda v: "none" if v.get("engine") == "keras-tuner" else DEFAULT_PRUNER)
    # What the pruner sees after an epoch. The area under the ROC curve needs no threshold, and precise batch
    # normalisation tells trials apart from the first epoch on, while the moving averages lag (results/LOG.md).
    prune_by: PruneMetric = Field(default_factory=_default_prune_by)
    rungs: tuple[Annotated[int, Field(ge=1, strict=True)], ...] = DEFAULT_RUNGS  # of "promote": epochs
    reduction_factor: Annotated[int, Field(ge=2, le=100, strict=True)] = DEFAULT_REDUCTION_FACTOR  # of "promote"
    # Of "promote": each configuration first trains an epoch on images of this side, and the best go on in full.
    screening: Annotated[int, Field(ge=2**N_BLOCKS, le=1024, strict=True)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = PUBLISHED_SEED
    repeat_duplicates: StrictBool = False  # whether a configuration is trained again when it is proposed again
    protocol: Protocol = "holdout"
    precision: PrecisionChoice = "auto"
    # Configurations beyond these, but the baseline, are passed over: neither trained nor counted. By
    # `cost.n_parameters` and `cost.seconds_an_epoch`, which knows nothing before the study's first epoch.
    max_parameters: Annotated[int, Field(ge=1, strict=True)] | None = None
    max_seconds_an_epoch: Annotated[float, Field(gt=0)] | None = None
    # How long it goes on, where the command does not say: neither changes what a trial is.
    trials: Annotated[int, Field(ge=1, strict=True)] = 50
    timeout: Annotated[str, Field(pattern=DURATION_PATTERN)] | None = None
    fixed: dict[str, Scalar] = {}
    others: dict[str, Scalar] = dict(DEFAULT_OTHERS)  # fixed in all trials but the baseline
    space: dict[str, Dimension] = dict(DEFAULT_DIMENSIONS)

    @property
    def stress(self) -> bool:
        """Whether changed copies of the validation images judge each epoch too."""
        return under_stress(self.metric) or under_stress(self.prune_by)

    @property
    def precise(self) -> bool:
        """Whether each epoch is judged with precise batch normalisation too."""
        return self.prune_by == "precise_auc"

    def identity(self) -> dict[str, Any]:
        """Return what must stay the same when the study goes on, for the store."""
        return self.model_dump(mode="json", exclude={"name", "trials", "timeout"})

    def search_space(self, source: str = "study") -> Space:
        """Return the checked space; `source` begins its error messages."""
        return Space(self.space, self.fixed, source, self.others)


def for_phantoms(spec: StudySpec) -> StudySpec:
    """Return `spec` over the space that a first try on phantoms searches, so that 50 trials take minutes.

    At 64 pixels, and with smaller batches: phantoms are few, and batch normalisation needs steps to settle.
    """
    space = {**DEFAULT_DIMENSIONS, "batch_size": Choice(choices=(8, 16, 32))}
    return spec.model_copy(update={"fixed": {"image_size": 64}, "space": space})


def read_study_file(path: Path) -> StudySpec:
    """Read and check a study file.

    Raises:
        ConfigError: No such file, not TOML, an unknown key, a wrong type, or a range without the baseline; one line
            that names the file and the key.
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

    Where `values` give no space, it is the default one without the fields that they fix.
    """
    values = _with_default_space(values)
    try:
        spec = StudySpec.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_problem(error)}") from error
    if spec.protocol == "original":
        raise ConfigError(
            f"{source}: protocol: a search must not look at the test folder; use 'holdout' "
            "or 'brightness' ('original' is for the baseline command)"
        )
    if direction(spec.prune_by) != direction(spec.metric):
        raise ConfigError(
            f"{source}: prune_by: {spec.prune_by!r} and the metric {spec.metric!r} improve in opposite ways; use "
            + ("'loss'" if spec.metric == "loss" else "'auc', 'accuracy' or another")
        )
    _check_rungs(spec, source)
    _check_engine(spec, source)
    spec.search_space(source)
    return spec


def _with_default_space(values: dict[str, object]) -> dict[str, object]:
    """Add the default space and what it sets for the others where `values` give no space; else nothing is set."""
    if "space" in values:
        return {"others": {}, **values}
    fixed, others = values.get("fixed", {}), values.get("others", {})
    if not isinstance(fixed, dict) or not isinstance(others, dict):  # as pydantic will tell
        return values
    free = {name: dimension for name, dimension in DEFAULT_DIMENSIONS.items() if name not in {*fixed, *others}}
    set_for_others = {name: value for name, value in DEFAULT_OTHERS.items() if name not in fixed}
    return {"others": set_for_others, **values, "space": free}


def _check_engine(spec: StudySpec, source: str) -> None:
    if spec.engine == "optuna":
        if spec.tuner is not None:
            raise ConfigError(f"{source}: tuner: only engine = 'keras-tuner' has one, not 'optuna'")
        return
    for key, given, only in (("sampler", spec.sampler, DEFAULT_SAMPLER), ("pruner", spec.pruner, "none")):
        if given != only:
            raise ConfigError(
                f"{source}: {key}: {given!r} is Optuna's; with engine = 'keras-tuner' leave it out, and choose a tuner"
            )


def _check_rungs(spec: StudySpec, source: str) -> None:
    for key in ("rungs", "reduction_factor", "screening"):
        if spec.pruner != "promote" and getattr(spec, key) != StudySpec.model_fields[key].default:
            raise ConfigError(f"{source}: {key}: only for pruner = 'promote', not {spec.pruner!r}")
    if not spec.rungs or list(spec.rungs) != sorted(set(spec.rungs)):
        raise ConfigError(f"{source}: rungs: wanted rising numbers of epochs such as [1, 3], not {list(spec.rungs)}")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of study files, by which an editor completes and checks them."""
    schema = StudySpec.model_json_schema()
    schema["title"] = "A study of pneumosearch"
    fields = TrialConfig.model_json_schema()["properties"]
    ranges = schema["properties"]["space"].pop("additionalProperties")
    for name, values in (("fixed", fields), ("others", fields), ("space", dict.fromkeys(fields, ranges))):
        schema["properties"][name] |= {"properties": values, "additionalProperties": False}
    return schema


def _problem(error: ValidationError) -> str:
    """Say one problem; for a range, which pydantic tries as choices and as bounds, in words of the file."""
    location = error.errors()[0]["loc"]
    if location[0] != "space" or len(location) < 2:
        return first_problem(error)
    reasons = [e["msg"].removeprefix("Value error, ") for e in error.errors() if e["type"] == "value_error"]
    return f"space.{location[1]}: " + (
        reasons[0] if reasons else "wants choices = [...] or low, high and perhaps step, log"
    )


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
