"""What is private of Keras, or overridden, is as the package expects it; each message says what has changed."""

import inspect

import numpy as np
import pytest

from pneumosearch.network import backend

backend.start()

import keras

from pneumosearch.network.keras_private import adam_moments, averaged_variables

NOW = f"Keras {keras.version()} has changed what pneumosearch uses"
OVERRIDDEN: dict[type, dict[str, tuple[str, ...]]] = {
    keras.layers.Conv2D: {"call": ("self", "inputs"), "convolution_op": ("self", "inputs", "kernel")},
    keras.layers.SeparableConv2D: {"call": ("self", "inputs")},
    keras.layers.BatchNormalization: {"call": ("self", "inputs", "training", "mask")},
    keras.layers.Dropout: {"call": ("self", "inputs", "training")},
    keras.optimizers.Adam: {"update_step": ("self", "gradient", "variable", "learning_rate")},
}


@pytest.mark.parametrize(("owner", "method"), [(owner, method) for owner in OVERRIDDEN for method in OVERRIDDEN[owner]])
def test_overridden_member_takes_what_it_took(owner: type, method: str) -> None:
    arguments = tuple(inspect.signature(getattr(owner, method)).parameters)
    assert arguments == OVERRIDDEN[owner][method], f"{NOW}: {owner.__name__}.{method} takes {arguments}"


def test_moments_of_adam_are_those_of_the_variable() -> None:
    first, second = keras.Variable(np.zeros(2)), keras.Variable(np.zeros(3))
    adam = keras.optimizers.Adam(beta_1=0.75, beta_2=0.5)
    adam.build([first, second])
    adam.apply([keras.ops.zeros(2), keras.ops.convert_to_tensor(np.full(3, 2.0, np.float32))])
    momentum, velocity = (np.asarray(each) for each in adam_moments(adam, second))
    assert momentum == pytest.approx(np.full(3, 0.25 * 2.0)), NOW
    assert velocity == pytest.approx(np.full(3, 0.5 * 4.0)), NOW


def test_averages_are_those_of_the_variables_in_order() -> None:
    variables = [keras.Variable(np.zeros(2)), keras.Variable(np.ones(3))]
    optimizer = keras.optimizers.SGD(use_ema=True, ema_momentum=0.5)
    optimizer.build(variables)
    assert [tuple(average.shape) for average in averaged_variables(optimizer)] == [(2,), (3,)], NOW
