"""Keras' own checks of a layer (shapes, saving, training, mixed precision), passed by each layer of this project."""

from typing import Any

import pytest

from pneumosearch.network import backend

backend.start()  # before Keras, which does not look at the environment again

from keras.src.testing import TestCase

from pneumosearch.network.layers import (
    FastConv2D,
    FastSeparableConv2D,
    FusedBatchNormalization,
    GreyConv2D,
    VariableDropout,
)

CONVOLUTION = {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}
CASES: dict[str, tuple[type, dict[str, Any], tuple[int, ...], dict[str, Any]]] = {
    "convolution": (
        FastConv2D,
        CONVOLUTION,
        (2, 8, 8, 3),
        {"expected_output_shape": (2, 8, 8, 4), "expected_num_trainable_weights": 2},
    ),
    "grey convolution": (
        GreyConv2D,
        CONVOLUTION,
        (2, 8, 8, 1),
        {"expected_output_shape": (2, 8, 8, 4), "expected_num_trainable_weights": 2},
    ),
    "separable convolution": (
        FastSeparableConv2D,
        CONVOLUTION,
        (2, 8, 8, 3),
        {"expected_output_shape": (2, 8, 8, 4), "expected_num_trainable_weights": 3},
    ),
    "batch normalisation": (
        FusedBatchNormalization,
        {},
        (2, 8, 8, 3),
        {"expected_num_trainable_weights": 2, "expected_num_non_trainable_weights": 2, "supports_masking": True},
    ),
    "dropout": (
        VariableDropout,
        {"rate": 0.5},
        (2, 8),
        # Keras trains the layer alone, which has no weights.
        {"expected_num_trainable_weights": 0, "supports_masking": True, "run_training_check": False},
    ),
}


class KerasChecks(TestCase):  # type: ignore[misc]
    """Keras' checks, called by name below rather than as a unittest."""

    __test__ = False


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")  # by the check itself
def test_layer_passes_the_checks_of_keras(case: str) -> None:
    layer, arguments, shape, expected = CASES[case]
    KerasChecks().run_layer_test(layer, arguments, input_shape=shape, **expected)
