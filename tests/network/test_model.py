"""The network: exactly the published one at the default point, and a network at every corner of the space."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pneumosearch.config import Precision, TrialConfig
from pneumosearch.network import backend
from pneumosearch.published import PUBLISHED_PARAMETERS
from pneumosearch.space import DEFAULT_DIMENSIONS
from tests.conftest import TINY

backend.start()

import keras

from pneumosearch.network.layers import (
    FastConv2D,
    FastSeparableConv2D,
    FusedBatchNormalization,
    GreyConv2D,
    VariableDropout,
)
from pneumosearch.network.model import build_model, plain_model, random_states
from pneumosearch.training.loop import n_parameters

SMALL = TrialConfig.checked(dict(TINY), "test")
CONV, SEPARABLE = ("Conv2D", 3, "relu", "same"), ("SeparableConv2D", 3, "relu", "same")
#: The listing of the study, layer by layer.
PUBLISHED_LAYERS: list[tuple[Any, ...]] = [
    (*CONV, 16), (*CONV, 16), ("MaxPooling2D", 2),
    (*SEPARABLE, 32), (*SEPARABLE, 32), ("BatchNormalization",), ("MaxPooling2D", 2),
    (*SEPARABLE, 64), (*SEPARABLE, 64), ("BatchNormalization",), ("MaxPooling2D", 2),
    (*SEPARABLE, 128), (*SEPARABLE, 128), ("BatchNormalization",), ("MaxPooling2D", 2), ("Dropout", 0.2),
    (*SEPARABLE, 256), (*SEPARABLE, 256), ("BatchNormalization",), ("MaxPooling2D", 2), ("Dropout", 0.2),
    ("Flatten",), ("Dense", 512, "relu"), ("Dropout", 0.7), ("Dense", 128, "relu"), ("Dropout", 0.5),
    ("Dense", 64, "relu"), ("Dropout", 0.3), ("Dense", 1, "sigmoid"),
]  # fmt: skip


def describe(layer: Any) -> tuple[Any, ...]:
    """A layer in the terms of the listing; the project's own layers count as the plain ones they extend."""
    plain = {
        "GreyConv2D": "Conv2D",
        "FastConv2D": "Conv2D",
        "FastSeparableConv2D": "SeparableConv2D",
        "FusedBatchNormalization": "BatchNormalization",
        "VariableDropout": "Dropout",
    }
    name = plain.get(type(layer).__name__, type(layer).__name__)
    if name in ("Conv2D", "SeparableConv2D"):
        assert layer.kernel_size == (3, 3)
        return name, 3, layer.activation.__name__, layer.padding, layer.filters
    details: dict[str, Callable[[], tuple[Any, ...]]] = {
        "MaxPooling2D": lambda: (layer.pool_size[0],),
        "Dropout": lambda: (layer.rate,),
        "Dense": lambda: (layer.units, layer.activation.__name__),
    }
    return name, *details.get(name, tuple)()


def listed(model: Any) -> list[tuple[Any, ...]]:
    """The layers in the terms of the listing; a ReLU that was moved behind the pooling is its convolution's again."""
    found = [describe(layer) for layer in model.layers[1:]]
    if found[3] == ("ReLU",):
        del found[3]
        assert found[1] == ("Conv2D", 3, "linear", "same", 16)
        found[1] = (*CONV, 16)
    return found


@pytest.mark.parametrize("build", [build_model, plain_model])
def test_default_model_is_the_published_network(build: Callable[[TrialConfig], Any]) -> None:
    model = build(TrialConfig())
    assert listed(model) == PUBLISHED_LAYERS
    assert n_parameters(model) == PUBLISHED_PARAMETERS
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [(layer.momentum, layer.epsilon) for layer in norms] == [(0.99, 0.001)] * 4


def _pixels(n: int = 4, size: int = 32) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (n, size, size, 1), dtype=np.uint8)


def _as_published(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.repeat(pixels / 255.0, 3, axis=-1).astype(np.float32)


def _step(model: Any, inputs: Any) -> list[np.ndarray[Any, Any]]:
    """One step without dropout's chance; all weights after it."""
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="binary_crossentropy", jit_compile=False)
    model.train_on_batch(inputs, np.array([[0], [1], [1], [0]], dtype=np.float32))
    weights: list[np.ndarray[Any, Any]] = model.get_weights()
    return weights


def test_own_layers_compute_train_and_normalise_as_plain_keras_does() -> None:
    config = SMALL.model_copy(update={f"dropout_{k}": 0.0 for k in ("conv", 1, 2, 3)})
    keras.utils.set_random_seed(3)
    fast, plain = build_model(config), plain_model(config)
    plain.set_weights(fast.get_weights())
    pixels = _pixels()
    outputs = fast.predict_on_batch(pixels), plain.predict_on_batch(_as_published(pixels))
    assert np.allclose(*outputs, atol=1e-6)
    for ours, theirs in zip(_step(fast, pixels), _step(plain, _as_published(pixels)), strict=True):
        assert np.allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", [GreyConv2D, FastConv2D, FastSeparableConv2D])
def test_bias_gradient_is_the_whole_sum_over_the_pixels(kind: type, dtype: str) -> None:
    import tensorflow as tf

    layer = kind(4, 3, padding="same", dtype=dtype)
    with tf.GradientTape() as tape:
        outputs = layer(np.zeros((2, 64, 64, 1), np.float32))
    assert np.array_equal(tape.gradient(outputs, layer.bias.value), np.full(4, 2 * 64 * 64))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_relu_behind_the_pooling_trains_to_the_same_digits(dtype: str) -> None:
    def trained(behind: bool) -> list[np.ndarray[Any, Any]]:
        keras.utils.set_random_seed(3)
        pixels, relu = keras.Input((32, 32, 1), dtype="uint8"), keras.layers.ReLU(dtype=dtype)
        x = GreyConv2D(4, 3, activation="relu", padding="same", dtype=dtype)(pixels)
        x = FastConv2D(4, 3, activation=None if behind else "relu", padding="same", dtype=dtype)(x)
        x = keras.layers.MaxPooling2D(2, dtype=dtype)(x)
        x = keras.layers.Flatten(dtype=dtype)(relu(x) if behind else x)
        return _step(keras.Model(pixels, keras.layers.Dense(1, "sigmoid", dtype="float32")(x)), _pixels())

    for late, published in zip(trained(behind=True), trained(behind=False), strict=True):
        assert np.array_equal(late, published)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("mixed_bfloat16", 2**-8)])
def test_evaluation_normalises_as_keras_does(dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    fused, plain = FusedBatchNormalization(dtype=dtype), keras.layers.BatchNormalization(dtype=dtype)
    inputs = keras.ops.cast(rng.normal(size=(2, 5, 7, 3)), fused.compute_dtype)
    for layer in (fused, plain):
        layer.build(inputs.shape)
    fused.set_weights([rng.uniform(0.5, 2, 3) for _ in fused.weights])
    plain.set_weights(fused.get_weights())
    ours, theirs = (np.asarray(keras.ops.cast(layer(inputs, training=False), "float32")) for layer in (fused, plain))
    assert np.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_kept_weights_have_the_names_of_earlier_versions(tmp_path: Path) -> None:
    build_model(SMALL).save_weights(tmp_path / "kept.weights.h5")
    names: set[str] = set()
    with h5py.File(tmp_path / "kept.weights.h5") as file:
        file.visititems(lambda name, item: names.add(name) if isinstance(item, h5py.Dataset) else None)
    numbered = [f"_{i}" if i else "" for i in range(8)]
    layers = {
        "grey_conv2d": 2,
        "fast_conv2d": 2,
        **{f"fast_separable_conv2d{i}": 3 for i in numbered},
        **{f"fused_batch_normalization{i}": 4 for i in numbered[:4]},
        **{f"dense{i}": 2 for i in numbered[:4]},
    }
    assert {name for name in names if "dropout" not in name} == {
        f"layers/{layer}/vars/{i}" for layer, n in layers.items() for i in range(n)
    }


@pytest.mark.parametrize("config", [SMALL, TrialConfig()])
def test_first_kernel_is_initialised_for_three_channels(config: TrialConfig) -> None:
    kernel = build_model(config).layers[1].kernel
    filters = config.block_filters[0]
    limit = np.sqrt(6 / (9 * 3 + 9 * filters))
    assert tuple(kernel.shape) == (3, 3, 3, filters)
    assert 0.8 * limit < np.abs(np.asarray(kernel)).max() <= limit


def test_bfloat16_computes_nearly_the_same_with_float32_weights() -> None:
    full, half = build_model(SMALL), build_model(SMALL, precision="bfloat16")
    half.set_weights(full.get_weights())
    assert {weight.dtype for weight in half.weights} == {"float32"}
    outputs = [np.asarray(model.predict_on_batch(_pixels())) for model in (full, half)]
    assert outputs[1].dtype == np.float32
    assert np.allclose(outputs[0], outputs[1], atol=0.02)


def _corner_configs() -> list[TrialConfig]:
    names = [name for name in DEFAULT_DIMENSIONS if name.startswith(("filters", "width", "dropout"))]
    one_by_one = itertools.chain(*([{n: v} for v in DEFAULT_DIMENSIONS[n].corners()] for n in names))
    together = ({n: pick(DEFAULT_DIMENSIONS[n].corners()) for n in names} for pick in (min, max))
    return [TrialConfig.checked({**TINY, **values}, "test") for values in (*one_by_one, *together)]


@pytest.mark.parametrize("config", _corner_configs(), ids=lambda config: str(config.changes())[60:])
def test_every_corner_of_the_space_builds(config: TrialConfig) -> None:
    model = build_model(config)
    kernels = [layer.filters for layer in model.layers if hasattr(layer, "filters")]
    assert kernels == [n for n in config.block_filters for _ in range(2)]
    assert model.predict_on_batch(_pixels(2)).shape == (2, 1)


@pytest.mark.parametrize("build", [build_model, plain_model])
def test_blocks_convolutions_and_head_can_be_others(build: Callable[[TrialConfig], Any]) -> None:
    changes = {"n_blocks": 3, "convolution": "plain", "head": "mean", "batch_norm_momentum": 0.9}
    model = build(TrialConfig.checked({**TINY, **changes}, "test"))
    kinds = [describe(layer)[0] for layer in model.layers]
    assert (kinds.count("Conv2D"), kinds.count("SeparableConv2D"), kinds.count("MaxPooling2D")) == (6, 0, 3)
    assert "GlobalAveragePooling2D" in kinds
    assert "Flatten" not in kinds
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [layer.momentum for layer in norms] == [0.9, 0.9]


def test_dropout_zeroes_its_share_scales_the_rest_and_changes_rate_in_place() -> None:
    layer, ones = VariableDropout(0.25, seed=1), np.ones((200, 200), np.float32)
    for rate in (0.25, 0.6):
        layer.build(ones.shape) if not layer.built else layer.set_rate(rate)
        outputs = np.asarray(layer(ones, training=True))
        assert (outputs == 0).mean() == pytest.approx(rate, abs=0.02)
        assert outputs.max() == pytest.approx(1 / (1 - rate), rel=1e-5)
    assert np.array_equal(np.asarray(layer(ones, training=False)), ones)


def test_restored_random_state_repeats_the_dropout() -> None:
    model = build_model(TrialConfig.checked({**TINY, "dropout_1": 0.7}, "test"))
    states = [np.asarray(state) for state in random_states(model)]
    first = np.asarray(model(_pixels(), training=True))
    for variable, state in zip(random_states(model), states, strict=True):
        variable.assign(state)
    assert np.array_equal(np.asarray(model(_pixels(), training=True)), first)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_saved_model_loads_with_the_same_outputs(tmp_path: Any, precision: Precision) -> None:
    model = build_model(SMALL, precision=precision)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert np.array_equal(again.predict_on_batch(_pixels()), model.predict_on_batch(_pixels()))
    kinds = {type(layer) for layer in again.layers}
    assert {GreyConv2D, FusedBatchNormalization, VariableDropout} <= kinds
