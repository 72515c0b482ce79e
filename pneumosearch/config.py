"""`TrialConfig`: every hyperparameter of one training. With no argument it is the published baseline."""

import reprlib
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator, model_validator

from pneumosearch.errors import ConfigError, printable
from pneumosearch.published import PUBLISHED_SEED

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Filters = Annotated[int, Field(ge=1, le=4096)]
Units = Annotated[int, Field(ge=1, le=65536)]

Keep = Literal["best", "last"]

#: How many blocks the network may have; each halves the image, so no image may be smaller than 2 ** N_BLOCKS.
N_BLOCKS: Final = 5

_DIGITS: Final = 12  # significant digits of a hyperparameter


def without_rounding_error(value: float) -> float:
    """Return `value` to as many digits as a hyperparameter has."""
    return float(f"{value:.{_DIGITS}g}")


class TrialConfig(BaseModel):
    """The hyperparameters of one training; the defaults are the published network and its training.

    Every field is a scalar of the name it has in study files and in the store. Raises
    `pydantic.ValidationError` for a value outside its range; `TrialConfig.checked` raises `ConfigError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Annotated[int, Field(ge=2**N_BLOCKS, le=1024)] = 150  # side of the square input, pixels

    equalization: Literal["none", "clahe"] = "none"  # of the input's contrast, once, when it is decoded

    # Convolutions: block k has `filters_k * width` filters.
    n_blocks: Annotated[int, Field(ge=2, le=N_BLOCKS)] = N_BLOCKS
    convolution: Literal["separable", "plain"] = "separable"  # from block 2 on
    width: Annotated[float, Field(gt=0.0, le=8.0)] = 1.0
    filters_1: Filters = 16
    filters_2: Filters = 32
    filters_3: Filters = 64
    filters_4: Filters = 128
    filters_5: Filters = 256
    dropout_conv: Rate = 0.2  # after blocks 4 and 5
    batch_norm_momentum: Rate = 0.99  # of the moving averages that evaluation uses
    batch_norm_statistics: Literal["moving", "precise"] = "moving"  # precise: measured anew after each epoch instead

    # From features to dense layers: all of them in a row, or the mean of each channel.
    head: Literal["flatten", "mean"] = "flatten"

    # Dense layers, each followed by its dropout.
    units_1: Units = 512
    units_2: Units = 128
    units_3: Units = 64
    dropout_1: Rate = 0.7
    dropout_2: Rate = 0.5
    dropout_3: Rate = 0.3

    # Augmentation of training images.
    zoom: Rate = 0.3  # height and width are scaled independently by factors from [1 - zoom, 1 + zoom]
    vertical_flip: StrictBool = True  # with probability 1/2
    horizontal_flip: StrictBool = False  # with probability 1/2
    shift: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0  # along each axis, up to this share of the side
    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0  # up to so many degrees either way
    brightness: Rate = 0.0  # up to this share of 255 is added or taken
    contrast: Rate = 0.0  # distances from mid-grey are scaled by factors from [1 - contrast, 1 + contrast]

    # Optimisation of binary cross-entropy.
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"  # sgd with Nesterov's momentum 0.9
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # decoupled, times the learning rate (AdamW)
    label_smoothing: Rate = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    ema_momentum: Rate = 0.0  # of averaged weights, which evaluation then uses and the trial keeps; 0: none
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    epochs: Annotated[int, Field(ge=1, le=1000)] = 10

    # plateau: ReduceLROnPlateau on the validation loss, whose published mode="max" is a slip that is kept.
    # cosine: up over the warm-up epochs, then down to 0 at the last step along half a cosine.
    lr_schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    warmup_epochs: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    lr_reduce_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    lr_reduce_patience: Annotated[int, Field(ge=0, le=1000)] = 2
    lr_reduce_mode: Literal["max", "min"] = "max"

    # The epoch whose weights are kept: that of the lowest loss on the judging images, as published, or the last one.
    keep: Keep = "best"

    # EarlyStopping(val_loss, min_delta=0.1, patience=1): defined in the listing, never passed to the training.
    early_stopping: StrictBool = False

    @field_validator("*")
    @classmethod
    def _without_rounding_error(cls, value: object) -> object:
        """Make 0.1 + 2 * 0.1, as a search's grid gives it, the 0.3 that the baseline says."""
        return without_rounding_error(value) if isinstance(value, float) else value

    @classmethod
    def checked(cls, values: dict[str, object], source: str) -> "TrialConfig":
        """Build a configuration from untrusted values; `source` (a file, a trial) begins the message.

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


def first_problem(error: ValidationError) -> str:
    """Say the first problem of a pydantic error in one line: key, message and the value found."""
    detail = error.errors()[0]
    key = printable(".".join(str(part) for part in detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{key}: {message}, got {reprlib.repr(detail['input'])}"


#: Which images train and which judge; see `data.protocols`.
Protocol = Literal["original", "holdout", "brightness"]
Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]  # auto: as `backend.resolved_precision` says


class RunSpec(BaseModel):
    """All that decides a training on given data: run it twice on one machine and the numbers are equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: TrialConfig = TrialConfig()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = PUBLISHED_SEED
    protocol: Protocol = "holdout"
    precision: Precision = "float32"
    stress: StrictBool = False  # whether changed copies of the validation images judge each epoch too
    precise: StrictBool = False  # whether each epoch is judged with precise batch normalisation too

    @model_validator(mode="after")
    def _as_published(self) -> "RunSpec":
        if self.protocol == "original" and self.precision != "float32":
            raise ValueError(f"precision {self.precision}: the original protocol computes in float32, as published")
        for name in ("stress", "precise"):
            if self.protocol == "original" and getattr(self, name):
                raise ValueError(f"{name}: the original protocol judges by the test folder alone, as published")
        return self
