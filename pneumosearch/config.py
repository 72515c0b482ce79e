"""`TrialConfig`: every hyperparameter of one training. With no argument it is the published baseline."""

import reprlib
from functools import cache
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator, model_validator

from pneumosearch.errors import ConfigError, printable
from pneumosearch.published import PUBLISHED_SEED

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Filters = Annotated[int, Field(ge=1, le=4096)]
Units = Annotated[int, Field(ge=1, le=65536)]

Keep = Literal["best", "last"]
Equalization = Literal["none", "clahe", "standardize"]

_T = TypeVar("_T")


class _Untraced:
    """Marks a field that is not built into the compiled training step; see `untraced_fields`."""


#: A field that is a variable of the built network, or acts outside of the compiled training step. Trials that differ
#: only in such fields share one compiled step. An unmarked field is part of the step: always correct, but slower.
Untraced = Annotated[_T, _Untraced()]

#: Most blocks of a network. Each halves the image, so the smallest image is 2 ** N_BLOCKS pixels wide.
N_BLOCKS: Final = 5

_DIGITS: Final = 12  # significant digits of a hyperparameter


def without_rounding_error(value: float) -> float:
    """Return `value` rounded to the significant digits of a hyperparameter."""
    return float(f"{value:.{_DIGITS}g}")


class TrialConfig(BaseModel):
    """The hyperparameters of one training; the defaults are the published network and its training.

    Every field is a scalar and has the same name in study files and in the store. The constructor raises
    `pydantic.ValidationError` for a value outside its range; `TrialConfig.checked` raises `ConfigError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # Input.
    image_size: Annotated[int, Field(ge=2**N_BLOCKS, le=1024)] = 150
    """Side of the square input, in pixels."""
    equalization: Untraced[Equalization] = "none"
    """Equalization of contrast, once, when an image is decoded: by tiles (CLAHE), or to one mean and deviation."""

    # Convolutions.
    n_blocks: Annotated[int, Field(ge=2, le=N_BLOCKS)] = N_BLOCKS
    """Number of convolutional blocks. Each halves the image."""
    convolution: Literal["separable", "plain"] = "separable"
    """Kind of convolution from block 2 on."""
    width: Annotated[float, Field(gt=0.0, le=8.0)] = 1.0
    """Factor on the number of filters of every block."""
    filters_1: Filters = 16
    """Filters of block 1, before `width`."""
    filters_2: Filters = 32
    """Filters of block 2, before `width`."""
    filters_3: Filters = 64
    """Filters of block 3, before `width`."""
    filters_4: Filters = 128
    """Filters of block 4, before `width`."""
    filters_5: Filters = 256
    """Filters of block 5, before `width`."""
    dropout_conv: Untraced[Rate] = 0.2
    """Dropout rate after blocks 4 and 5."""
    batch_norm_momentum: Rate = 0.99
    """Momentum of the moving averages of batch normalisation, which evaluation uses."""
    batch_norm_statistics: Untraced[Literal["moving", "precise"]] = "moving"
    """Statistics that evaluation uses: moving averages, or precise ones, computed anew after each epoch."""

    # Dense layers, each followed by its dropout.
    head: Literal["flatten", "mean"] = "flatten"
    """From features to dense layers: all features in a row, or the mean of each channel."""
    units_1: Units = 512
    """Units of the first dense layer."""
    units_2: Units = 128
    """Units of the second dense layer."""
    units_3: Units = 64
    """Units of the third dense layer."""
    dropout_1: Untraced[Rate] = 0.7
    """Dropout rate after the first dense layer."""
    dropout_2: Untraced[Rate] = 0.5
    """Dropout rate after the second dense layer."""
    dropout_3: Untraced[Rate] = 0.3
    """Dropout rate after the third dense layer."""

    # Augmentation of training images.
    zoom: Untraced[Rate] = 0.3
    """Height and width are scaled independently by factors from [1 - zoom, 1 + zoom]."""
    vertical_flip: Untraced[StrictBool] = True
    """Flip images upside down with probability 1/2."""
    horizontal_flip: Untraced[StrictBool] = False
    """Flip images left to right with probability 1/2."""
    shift: Untraced[Annotated[float, Field(ge=0.0, le=0.5)]] = 0.0
    """Largest shift along each axis, as a share of the side."""
    rotation: Untraced[Annotated[float, Field(ge=0.0, le=180.0)]] = 0.0
    """Largest rotation either way, in degrees."""
    brightness: Untraced[Rate] = 0.0
    """Largest change of brightness either way, as a share of 255."""
    contrast: Untraced[Rate] = 0.0
    """Distances from mid-grey are scaled by factors from [1 - contrast, 1 + contrast]."""
    gamma: Untraced[Annotated[float, Field(ge=0.0, le=4.0)]] = 0.0
    """Grey levels, as shares of 255, are raised to powers from [1 / (1 + gamma), 1 + gamma]."""
    crop_area: Untraced[Annotated[float, Field(gt=0.0, le=1.0)]] = 1.0
    """Least area of a random crop, as a share of the image; the crop is enlarged to the whole."""
    crop_aspect: Untraced[Annotated[float, Field(ge=1.0, le=4.0)]] = 1.0
    """Width by height of a random crop is changed by factors from [1 / crop_aspect, crop_aspect]."""
    blur: Untraced[Annotated[float, Field(ge=0.0, le=0.1)]] = 0.0
    """One half of the images is blurred: largest standard deviation, as a share of the side."""
    sharpen: Untraced[Annotated[float, Field(ge=0.0, le=5.0)]] = 0.0
    """The other half of the images is sharpened: largest strength of the unsharp mask."""
    resolution_loss: Untraced[Annotated[float, Field(ge=0.0, le=0.9)]] = 0.0
    """Images are shrunk by factors from [1 - resolution_loss, 1] and enlarged again."""
    noise: Untraced[Annotated[float, Field(ge=0.0, le=0.5)]] = 0.0
    """Largest standard deviation of Gaussian noise, as a share of 255."""
    jpeg_loss: Untraced[Annotated[int, Field(ge=0, le=95)]] = 0
    """Images are compressed as JPEG with qualities from [100 - jpeg_loss, 100]; 0: they are not."""
    erase: Untraced[Annotated[float, Field(ge=0.0, le=0.5)]] = 0.0
    """Largest area of a patch that is covered with one grey level, as a share of the image."""
    mixup: Untraced[Annotated[float, Field(ge=0.0, le=4.0)]] = 0.0
    """Images and labels of a batch are mixed in pairs, by shares from Beta(mixup, mixup); 0: they are not."""

    # Optimisation of binary cross-entropy.
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    """Optimiser; `sgd` has Nesterov momentum 0.9."""
    learning_rate: Untraced[Annotated[float, Field(gt=0.0, le=1.0)]] = 0.001
    """Learning rate, before the schedule changes it."""
    weight_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Decoupled weight decay, multiplied by the learning rate (AdamW)."""
    label_smoothing: Rate = 0.0
    """Share by which labels are moved towards 1/2."""
    class_weight: Untraced[Literal["none", "balanced"]] = "none"
    """Weights of the classes in the loss; `balanced` gives both classes half of it."""
    ema_momentum: Rate = 0.0
    """Momentum of an average of the weights, which evaluation uses and the trial keeps; 0: no average."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Images a training step."""
    epochs: Untraced[Annotated[int, Field(ge=1, le=1000)]] = 10
    """Epochs of training, at most."""

    # Learning-rate schedule.
    lr_schedule: Untraced[Literal["plateau", "cosine", "constant"]] = "plateau"
    """`plateau` reduces the rate when the validation loss stalls; `cosine` rises over the warm-up, then falls to 0."""
    warmup_epochs: Untraced[Annotated[float, Field(ge=0.0, le=100.0)]] = 0.0
    """Warm-up of the cosine schedule, in epochs."""
    lr_reduce_factor: Untraced[Annotated[float, Field(gt=0.0, lt=1.0)]] = 0.3
    """Factor on the learning rate at each reduction of the plateau schedule."""
    lr_reduce_patience: Untraced[Annotated[int, Field(ge=0, le=1000)]] = 2
    """Epochs without improvement before the plateau schedule reduces the rate."""
    lr_reduce_mode: Untraced[Literal["max", "min"]] = "max"
    """What the plateau schedule takes for an improvement of the loss. The published `max` is a slip, kept here."""

    # End of training.
    keep: Untraced[Keep] = "best"
    """Epoch whose weights are kept: that of the lowest evaluation loss, as published, or the last."""
    early_stopping: Untraced[StrictBool] = False
    """Stop after an epoch that lowers the evaluation loss by less than 0.1; in the listing, but never used there."""

    @field_validator("*")
    @classmethod
    def _without_rounding_error(cls, value: object) -> object:
        """Turn 0.1 + 2 * 0.1, the value of a search's grid, into 0.3, the value of the baseline."""
        return without_rounding_error(value) if isinstance(value, float) else value

    @classmethod
    def checked(cls, values: dict[str, object], source: str) -> "TrialConfig":
        """Build a configuration from untrusted values; error messages begin with `source` (a file, a trial).

        Raises:
            ConfigError: An unknown name or a value outside its range; one line that names both.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {first_problem(error)}") from error

    @property
    def block_filters(self) -> tuple[int, ...]:
        """Number of filters of each block, from input to output; at least 1 each."""
        filters = (self.filters_1, self.filters_2, self.filters_3, self.filters_4, self.filters_5)
        return tuple(max(1, round(self.width * n)) for n in filters[: self.n_blocks])

    @property
    def dense_layers(self) -> tuple[tuple[int, float], ...]:
        """(units, dropout rate) of each dense layer, from the flattened features to the output."""
        return (
            (self.units_1, self.dropout_1),
            (self.units_2, self.dropout_2),
            (self.units_3, self.dropout_3),
        )

    def changes(self) -> dict[str, object]:
        """Return the fields in which this configuration differs from the baseline."""
        return self.model_dump(exclude_defaults=True)


@cache
def untraced_fields() -> frozenset[str]:
    """Return the names of the fields of `TrialConfig` that are not built into the compiled training step."""
    fields = TrialConfig.model_fields.items()
    return frozenset(name for name, field in fields if any(isinstance(mark, _Untraced) for mark in field.metadata))


def first_problem(error: ValidationError) -> str:
    """Describe the first problem of a pydantic error in one line: key, message and value."""
    detail = error.errors()[0]
    key = printable(".".join(str(part) for part in detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{key}: {message}, got {reprlib.repr(detail['input'])}"


#: Which images train and which judge, of one training; see `data.protocols`.
SingleProtocol = Literal["original", "holdout", "brightness"]
#: Likewise in a search. "folds" is a cross-validation: each fold judges in its turn.
SearchProtocol = Literal["holdout", "brightness", "folds"]
Protocol = Literal["original", SearchProtocol]
Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]  # auto: as `backend.resolved_precision` says

#: Most folds of a cross-validation: the images of one in ten patients judge, as in the hold-out split.
MAX_FOLDS: Final = 10

_SEEDS: Final = 2**32
#: Between the seeds of two folds of a trial: further apart than the seeds of all trials of a search.
_BETWEEN_FOLDS: Final = 2**28


class Fold(NamedTuple):
    """The part of a cross-validation that judges, while the others train."""

    number: int  # from 0
    of: int  # parts


class RunSpec(BaseModel):
    """Everything that decides a training on given data: two runs on one machine give equal numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: TrialConfig = TrialConfig()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = PUBLISHED_SEED
    protocol: Protocol = "holdout"
    precision: Precision = "float32"
    deterministic: StrictBool = False  # whether only operations that give the same digits each time may run
    stress: StrictBool = False  # whether changed copies of the validation images also judge each epoch
    battery: StrictBool = False  # whether copies under the battery of crafted shifts also judge each epoch
    precise: StrictBool = False  # whether each epoch is also judged with precise batch normalisation
    fold: Annotated[int, Field(ge=0, lt=MAX_FOLDS)] | None = None  # that judges; None: see `trainings`
    n_folds: Annotated[int, Field(ge=2, le=MAX_FOLDS)] | None = None  # of the cross-validation, where there is one

    @property
    def judging_fold(self) -> Fold | None:
        """The fold that judges; None where the split is that of the protocol."""
        return None if self.fold is None or self.n_folds is None else Fold(self.fold, self.n_folds)

    @property
    def trainings(self) -> tuple["RunSpec", ...]:
        """What is trained for the run, in order: the run itself, or one training for each fold, on a seed of its own.

        The first fold has the seed of the run.
        """
        if self.protocol != "folds" or self.fold is not None or self.n_folds is None:
            return (self,)
        seeds = [(self.seed + number * _BETWEEN_FOLDS) % _SEEDS for number in range(self.n_folds)]
        return tuple(self.model_copy(update={"fold": n, "seed": seed}) for n, seed in enumerate(seeds))

    @property
    def position(self) -> int:
        """Place of the training among those of its trial, from 0."""
        return self.fold or 0 if self.protocol == "folds" else 0

    @model_validator(mode="after")
    def _is_a_fold(self) -> "RunSpec":
        if self.protocol == "folds" and self.n_folds is None:
            raise ValueError("n_folds: the protocol folds needs it")
        if self.protocol != "folds" and (self.fold is None) != (self.n_folds is None):
            raise ValueError("fold, n_folds: one needs the other")
        if self.fold is not None and self.n_folds is not None and self.fold >= self.n_folds:
            raise ValueError(f"fold {self.fold}: there are {self.n_folds}, counted from 0")
        if self.fold is not None and self.protocol not in ("holdout", "folds"):
            raise ValueError(f"fold: protocol {self.protocol} has a split of its own")
        return self

    @model_validator(mode="after")
    def _as_published(self) -> "RunSpec":
        if self.protocol == "original" and self.precision != "float32":
            raise ValueError(f"precision {self.precision}: the original protocol computes in float32, as published")
        for name in ("stress", "battery", "precise"):
            if self.protocol == "original" and getattr(self, name):
                raise ValueError(f"{name}: the original protocol judges by the test folder alone, as published")
        return self
