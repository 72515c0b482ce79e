"""The default study: what a search without a study file searches, and by which rule it judges."""

from collections.abc import Mapping
from typing import Any, Final

from pneumosearch.config import TrialConfig
from pneumosearch.metrics import Floor, Metric
from pneumosearch.space import DEFAULT_DIMENSIONS, DEFAULT_OTHERS, Choice, Dimension, Range, Scalar
from pneumosearch.studyfile import StudySpec, checked_spec

#: Balanced accuracy of the worst family of crafted shifts: it foretold, on phantoms with a planted shortcut, what a
#: network is worth without the shortcut (results/LOG.md). Plain validation did not.
RULE: Final[Metric] = "worst_family"
#: A network that is poor on plain validation is no candidate. The bound is of the X-rays.
FLOOR: Final[Floor] = {"auc": 0.97}
#: Side in pixels of the low-resolution rung, and the image size above which it saves more than it costs.
SCREENING: Final = 75
SCREENED_ABOVE: Final = 100

#: What every trial but the baseline has, chosen on validation images alone (results/LOG.md): smaller images, which
#: take half of the time, augmentations, and a schedule that ends smoothly.
_ROBUST: Final[Mapping[str, Scalar]] = {
    "image_size": 96,
    "brightness": 0.2,
    "contrast": 0.4,
    "gamma": 0.5,
    "resolution_loss": 0.6,
    "blur": 0.02,
    "sharpen": 2.0,
    "noise": 0.05,
    "jpeg_loss": 85,
    "vertical_flip": False,
    "lr_schedule": "cosine",
}
#: Zoom is searched upwards only. After an epoch less of it looks better, so a search turns it off, and its winner then
#: goes by the aspect of an image, in which the classes differ: copies stretched in height show it.
_SEARCHED_AUGMENTATIONS: Final[Mapping[str, Dimension]] = {
    "zoom": Range(low=0.3, high=0.5, step=0.05),
    "erase": Choice(choices=(0.0, 0.1)),
}

#: What all trials of a first try on phantoms have, the published network too. Phantoms are few, so that the published
#: moving averages of batch normalisation would not settle within its epochs.
PHANTOM_FIXED: Final[Mapping[str, Scalar]] = {"image_size": 64, "epochs": 8, "batch_norm_statistics": "precise"}
# Filters of single blocks are left out, and widths and batches few, so that many trials share one compiled step.
_PHANTOM_SPACE: Final[Mapping[str, Dimension]] = {
    "width": Choice(choices=(0.5, 1.0)),
    **{name: DEFAULT_DIMENSIONS[name] for name in ("dropout_conv", "dropout_1", "dropout_2", "dropout_3")},
    "learning_rate": Range(low=3e-4, high=3e-3, log=True),
    **{name: DEFAULT_DIMENSIONS[name] for name in ("lr_reduce_factor", "lr_reduce_mode")},
    "batch_size": Choice(choices=(16, 32)),
}


def default_study(
    given: Mapping[str, object] | None = None,
    *,
    phantoms: bool = False,
    begun: Mapping[str, Any] | None = None,
    source: str = "options",
) -> StudySpec:
    """Return the study that is searched without a study file.

    Args:
        given: Keys of study files that the user sets. With a metric or classes of one's own there is no floor, with a
            space no augmentation of the default study.
        phantoms: The images are phantoms: a small space, in which 50 trials take minutes, unless `given` has one.
        begun: What the store holds of the study, if it is there. What is not given is as the study began, which may
            have been with an earlier version.
        source: Begins the messages of errors.

    Raises:
        ConfigError: A given value cannot be used. The message is one line with the key.
    """
    given = dict(given or {})
    if begun is not None:
        known = {key: value for key, value in begun.items() if key in StudySpec.model_fields}
        return checked_spec({"others": {}, **known, **given}, source)
    values: dict[str, Any] = {"metric": RULE, **given}
    if not phantoms and not {"metric", "classes"} & given.keys():
        values.setdefault("floor", dict(FLOOR))
    if "space" not in given:
        values |= _space(given, small=phantoms and not {"fixed", "others"} & given.keys())
    spec = checked_spec(values, source)
    added: dict[str, Any] = {}
    if "screening" not in given and _screens(spec):
        added["screening"] = SCREENING
    if "control" not in given:
        added["control"] = bool(spec.others) and spec.engine == "optuna"
    return spec.model_copy(update=added)


def _space(given: Mapping[str, Any], *, small: bool) -> dict[str, Any]:
    """Return `fixed`, `others` and `space` around what is given of the first two."""
    fixed = PHANTOM_FIXED if small else given.get("fixed", {})
    others = given.get("others", {**DEFAULT_OTHERS, **_ROBUST})
    if not isinstance(fixed, Mapping) or not isinstance(others, Mapping):  # pydantic reports it
        return {}
    if "others" not in given:
        others = {name: value for name, value in others.items() if name not in fixed}
    free = {**(_PHANTOM_SPACE if small else DEFAULT_DIMENSIONS), **_SEARCHED_AUGMENTATIONS}
    if {**fixed, **others}.get("lr_schedule", "plateau") != "plateau":
        free = {name: dimension for name, dimension in free.items() if not name.startswith("lr_reduce")}
    space = {name: dimension for name, dimension in free.items() if name not in {*fixed, *others}}
    return {"fixed": dict(fixed), "others": dict(others), "space": space}


def _screens(spec: StudySpec) -> bool:
    """Tell whether a low-resolution rung comes first: the pruner has rungs, and images are larger than its own."""
    size = {**spec.fixed, **spec.others}.get("image_size", TrialConfig().image_size)
    return spec.pruner == "promote" and "image_size" not in spec.space and int(size) > SCREENED_ABOVE
