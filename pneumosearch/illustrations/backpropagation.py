"""Back-propagation through dense layers, as the annex of the study derives it, in NumPy.

The annex writes for neuron j of layer n, with g the activation, h the aggregation and w the weights:

    forwards           x_j(n) = g(h_j(n)),  h_j(n) = sum over k of w_jk(n) x_k(n-1)
    error at the end   e_i = g'(h_i (y_i - t_i))                                       as printed
    error, backwards   e_j(n-1) = g'(h_j(n-1)) * sum over i of w_ij(n) e_i(n)
    update             w_ij(l) <- w_ij(l) - rate * e_i(l) x_j(l-1)

The printed error at the end is wrong: it takes the derivative at the product h (y - t). The chain rule, and the proof
two slides later in the annex, give e_i = g'(h_i) (y_i - t_i), the derivative at h times the difference. This is the
gradient of the loss of the annex, E = 1/2 * sum of (y_i - t_i)^2, with respect to h. For the loss of the network,
binary cross-entropy after a sigmoid, the factor g'(h) cancels and e = y - t. In this module the sums are matrix
products over a batch, the loss is the mean over the samples, and each neuron has a bias: the weight of an input that is
always 1.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Loss = Literal["squared", "cross-entropy"]

_EPSILON: Final = 1e-12  # probabilities are clipped to [1e-12, 1 - 1e-12] before the logarithm


@dataclass(frozen=True)
class Activation:
    """An activation function g and its derivative g', both element-wise functions of the aggregation h."""

    name: str
    value: Callable[[Floats], Floats]
    derivative: Callable[[Floats], Floats]


def _sigmoid(h: Floats) -> Floats:
    # tanh, because exp(-h) would overflow for large negative h
    return np.asarray((1 + np.tanh(h / 2)) / 2)


RELU: Final = Activation("ReLU", lambda h: np.maximum(h, 0.0), lambda h: (h > 0).astype(np.float64))
SIGMOID: Final = Activation("sigmoid", _sigmoid, lambda h: _sigmoid(h) * (1 - _sigmoid(h)))
TANH: Final = Activation("tanh", np.tanh, lambda h: 1 - np.tanh(h) ** 2)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer."""

    weights: Floats  # (n_neurons, n_inputs): row j holds w_jk
    biases: Floats  # (n_neurons,)
    activation: Activation


@dataclass(frozen=True)
class Gradient:
    """Derivatives of the loss with respect to the weights and biases of a layer, in the same shapes."""

    weights: Floats
    biases: Floats


def network(sizes: Sequence[int], rng: np.random.Generator) -> list[Dense]:
    """Return dense layers with random weights (He et al., ICCV 2015): ReLU, and a sigmoid in the last layer.

    Args:
        sizes: Number of inputs, then the number of neurons of each layer.
        rng: Random generator for the weights.
    """
    layers = []
    for position, (n_inputs, n_neurons) in enumerate(itertools.pairwise(sizes), start=2):
        weights = rng.normal(0.0, np.sqrt(2 / n_inputs), (n_neurons, n_inputs))
        layers.append(Dense(weights, np.zeros(n_neurons), SIGMOID if position == len(sizes) else RELU))
    return layers


def outputs(layers: Sequence[Dense], x: Floats) -> Floats:
    """Return the outputs of the last layer, (n_samples, n_outputs), for inputs x, (n_samples, n_inputs)."""
    return _forwards(layers, x)[-1][1]


def loss(y: Floats, t: Floats, kind: Loss = "cross-entropy") -> float:
    """Return the mean loss over the samples for outputs y and targets t, both (n_samples, n_outputs)."""
    if kind == "squared":
        return float(((y - t) ** 2).sum(axis=1).mean() / 2)
    clipped = np.clip(y, _EPSILON, 1 - _EPSILON)
    return float(-(t * np.log(clipped) + (1 - t) * np.log(1 - clipped)).sum(axis=1).mean())


def gradients(layers: Sequence[Dense], x: Floats, t: Floats, kind: Loss = "cross-entropy") -> list[Gradient]:
    """Return the gradient of the loss for each layer by back-propagation.

    Args:
        layers: Layers from first to last; for "cross-entropy" the last must have a sigmoid.
        x: Inputs, (n_samples, n_inputs).
        t: Targets, (n_samples, n_outputs), in [0, 1].
        kind: The loss.

    Raises:
        ValueError: `kind` is "cross-entropy" and the last activation is not a sigmoid.
    """
    if kind == "cross-entropy" and layers[-1].activation != SIGMOID:
        raise ValueError(f"cross-entropy needs a sigmoid in the last layer, not {layers[-1].activation.name}")
    passes = _forwards(layers, x)
    inputs = [x, *(values for _, values in passes)]  # of each layer
    h, y = passes[-1]
    error = y - t if kind == "cross-entropy" else layers[-1].activation.derivative(h) * (y - t)
    found: list[Gradient] = []
    for number in reversed(range(len(layers))):
        found.append(Gradient(error.T @ inputs[number] / len(x), error.mean(axis=0)))
        if number:
            before = layers[number - 1].activation.derivative(passes[number - 1][0])
            error = before * (error @ layers[number].weights)
    return found[::-1]


def finite_differences(
    layers: Sequence[Dense], x: Floats, t: Floats, kind: Loss = "cross-entropy", step: float = 1e-6
) -> list[Gradient]:
    """Return the gradient by central differences: slow, with two passes per parameter, but independent of the formulas.

    Args:
        layers: Layers from first to last.
        x: Inputs, (n_samples, n_inputs).
        t: Targets, (n_samples, n_outputs), in [0, 1].
        kind: The loss.
        step: Change of each parameter in both directions. The result is wrong if a kink of ReLU lies in between.
    """
    moved = [replace(layer, weights=layer.weights.copy(), biases=layer.biases.copy()) for layer in layers]

    def slopes(values: Floats) -> Floats:
        found = np.empty_like(values)
        for index in np.ndindex(values.shape):
            before, losses = values[index], []
            for value in (before + step, before - step):
                values[index] = value
                losses.append(loss(outputs(moved, x), t, kind))
            values[index] = before
            found[index] = (losses[0] - losses[1]) / (2 * step)
        return found

    return [Gradient(slopes(layer.weights), slopes(layer.biases)) for layer in moved]


def largest_difference(one: Sequence[Gradient], other: Sequence[Gradient]) -> float:
    """Return the largest absolute difference between two gradients of the same layers."""
    return max(
        float(np.abs(a - b).max())
        for mine, yours in zip(one, other, strict=True)
        for a, b in ((mine.weights, yours.weights), (mine.biases, yours.biases))
    )


def updated(layers: Sequence[Dense], found: Sequence[Gradient], rate: float) -> list[Dense]:
    """Return the layers after one step of gradient descent at learning rate `rate` > 0."""
    return [
        replace(layer, weights=layer.weights - rate * gradient.weights, biases=layer.biases - rate * gradient.biases)
        for layer, gradient in zip(layers, found, strict=True)
    ]


def _forwards(layers: Sequence[Dense], x: Floats) -> list[tuple[Floats, Floats]]:
    """Return (h, g(h)) of each layer, both (n_samples, n_neurons)."""
    passes: list[tuple[Floats, Floats]] = []
    for layer in layers:
        h = x @ layer.weights.T + layer.biases
        x = layer.activation.value(h)
        passes.append((h, x))
    return passes
