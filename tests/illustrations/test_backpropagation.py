from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.illustrations.backpropagation import (
    RELU,
    SIGMOID,
    TANH,
    Dense,
    Loss,
    finite_differences,
    gradients,
    largest_difference,
    loss,
    network,
    outputs,
    updated,
)

SIZES = st.lists(st.integers(1, 6), min_size=2, max_size=4)
LOSSES: list[Loss] = ["squared", "cross-entropy"]


def a_problem(sizes: list[int], seed: int, n_samples: int = 5) -> tuple[list[Dense], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    layers = [replace(layer, biases=rng.normal(size=layer.biases.shape)) for layer in network(sizes, rng)]
    return layers, rng.normal(size=(n_samples, sizes[0])), rng.integers(0, 2, (n_samples, sizes[-1])).astype(float)


@given(sizes=SIZES, seed=st.integers(0, 1000), kind=st.sampled_from(LOSSES))
def test_gradients_are_those_of_finite_differences(sizes: list[int], seed: int, kind: Loss) -> None:
    """With tanh inside: at a kink of ReLU the difference on both sides means nothing."""
    layers, x, t = a_problem(sizes, seed)
    layers = [replace(layer, activation=TANH) for layer in layers[:-1]] + layers[-1:]
    found = gradients(layers, x, t, kind)
    # Near a probability of 1 the logarithm's rounding, divided by the step, came to 4e-6 in one of 12,012 problems.
    assert largest_difference(found, finite_differences(layers, x, t, kind)) < 1e-4


def test_largest_difference_finds_one_wrong_bias() -> None:
    layers, x, t = a_problem([3, 4, 1], seed=2)
    found = gradients(layers, x, t)
    biases = found[1].biases + 0.25
    assert largest_difference(found, [found[0], replace(found[1], biases=biases)]) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("sizes", [[3, 1], [4, 5, 1], [6, 512, 128, 64, 1]], ids=str)
def test_gradients_are_those_of_tensorflow(sizes: list[int], kind: Loss) -> None:
    """The last sizes are the study's dense layers."""
    from pneumosearch.network import backend

    backend.start()
    import tensorflow as tf

    layers, x, t = a_problem(sizes, seed=3, n_samples=7)
    variables = [(tf.Variable(layer.weights), tf.Variable(layer.biases)) for layer in layers]
    with tf.GradientTape() as tape:
        values = tf.constant(x)
        for number, (weights, biases) in enumerate(variables, start=1):
            h = values @ tf.transpose(weights) + biases
            values = tf.sigmoid(h) if number == len(variables) else tf.nn.relu(h)
        if kind == "squared":
            error = tf.reduce_mean(tf.reduce_sum((values - t) ** 2, axis=1)) / 2
        else:
            error = tf.reduce_mean(tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(t, h), axis=1))
    assert loss(outputs(layers, x), t, kind) == pytest.approx(float(error), rel=1e-12)
    expected = tape.gradient(error, variables)
    for found, (weights, biases) in zip(gradients(layers, x, t, kind), expected, strict=True):
        assert found.weights == pytest.approx(weights.numpy(), abs=1e-12)
        assert found.biases == pytest.approx(biases.numpy(), abs=1e-12)


def test_error_as_printed_in_the_annex_is_not_the_gradient() -> None:
    """g'(h (y - t)) instead of g'(h) (y - t): for one sigmoid neuron the two differ."""
    [layer], x, t = a_problem([3, 1], seed=1, n_samples=1)
    h = x @ layer.weights.T + layer.biases
    y = layer.activation.value(h)
    [right] = gradients([layer], x, t, "squared")
    printed = SIGMOID.derivative(h * (y - t)).T @ x
    assert right.weights == pytest.approx((SIGMOID.derivative(h) * (y - t)).T @ x)
    assert not np.allclose(printed, right.weights, rtol=0.1)


def test_steps_against_the_gradient_learn_what_no_single_neuron_can() -> None:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    t = np.array([[0], [1], [1], [0]], dtype=float)
    layers = network([2, 8, 1], np.random.default_rng(0))
    before = loss(outputs(layers, x), t)
    for _ in range(500):
        layers = updated(layers, gradients(layers, x, t), rate=0.5)
    assert loss(outputs(layers, x), t) < 0.1 < before
    assert ((outputs(layers, x) > 0.5) == (t > 0.5)).all()


def test_cross_entropy_wants_a_sigmoid() -> None:
    layers, x, t = a_problem([2, 1], seed=0)
    with pytest.raises(ValueError, match="needs a sigmoid in the last layer, not ReLU"):
        gradients([replace(layers[0], activation=RELU)], x, t)
