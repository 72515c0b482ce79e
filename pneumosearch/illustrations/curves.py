"""Figures of curves: activation functions, batches and epochs, the accuracy table, gradient descent."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumosearch.illustrations.backpropagation import (
    RELU,
    SIGMOID,
    TANH,
    Dense,
    Floats,
    finite_differences,
    gradients,
    largest_difference,
    loss,
    network,
    outputs,
    updated,
)
from pneumosearch.published import PUBLISHED_TABLE
from pneumosearch.records.epoch import History
from pneumosearch.training.plots import EVALUATION_COLOUR, TRAIN_COLOUR

_TOY_SIZES: Final = (2, 16, 16, 1)
_TOY_STEPS: Final = 1500
_TOY_RATE: Final = 0.3


def activation_functions() -> Figure:
    """Draw ReLU, sigmoid and tanh with their derivatives."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    h = np.linspace(-4, 4, 401)
    for axes, activation in zip(figure.subplots(1, 3, sharex=True), (RELU, SIGMOID, TANH), strict=True):
        axes.plot(h, activation.value(h), color=TRAIN_COLOUR, label="g(h)")
        axes.plot(h, activation.derivative(h), "--", color=EVALUATION_COLOUR, label="g'(h)")
        axes.set(title=activation.name, xlabel="h", ylim=(-1.1, 2.1))
        _grid(axes)
    return figure


def batches_and_epochs(n_images: int, batch_size: int, epochs: int) -> Figure:
    """Draw the relation d/b = i/e of the study: i iterations in e epochs over d images in batches of b.

    An epoch has only full batches, so up to b - 1 images are left out in each epoch.
    """
    steps = n_images // batch_size
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    passed = np.arange(epochs + 1)
    axes.step(passed, passed * steps, where="post", color=TRAIN_COLOUR, label="iterations")
    axes.plot(passed, passed * n_images / batch_size, ":", color=EVALUATION_COLOUR, label="e times d/b")
    axes.set(
        xlabel="epochs e",
        ylabel="iterations i",
        title=f"d/b = {n_images}/{batch_size} = {n_images / batch_size:.2f}; i/e = {steps * epochs}/{epochs} = {steps}",
    )
    _grid(axes)
    return figure


def accuracy_table(history: History, *, published: bool = True) -> Figure:
    """Draw the published accuracies by epoch, where wanted, and those of a training; `history` may be empty."""
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    epochs, kinds = [row.epoch for row in PUBLISHED_TABLE], (("train", TRAIN_COLOUR), ("test", EVALUATION_COLOUR))
    for kind, colour in kinds if published else ():
        values = [100 * getattr(row, f"{kind}_accuracy") for row in PUBLISHED_TABLE]
        axes.plot(epochs, values, "o", color=colour, label=f"published, {kind}", markersize=8, fillstyle="none")
    if history:
        evaluated = history[0].evaluated
        trained = [epoch.epoch for epoch in history]
        axes.plot(trained, [100 * e.train_accuracy for e in history], color=TRAIN_COLOUR, label="this run, train")
        values = [100 * epoch.evaluation("accuracy") for epoch in history]
        axes.plot(trained, values, "--", color=EVALUATION_COLOUR, label=f"this run, {evaluated}")
    axes.set(xlabel="epoch", ylabel="accuracy (%)")
    _grid(axes)
    return figure


def learning_by_gradients(seed: int) -> Figure:
    """Draw the loss of a small NumPy network and its decision boundary between two rings of points."""
    x, t = _rings(np.random.default_rng(seed))
    start = network(_TOY_SIZES, np.random.default_rng(seed))
    difference = largest_difference(gradients(start, x, t), finite_differences(start, x, t))
    losses, layers = _trained(start, x, t)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(np.arange(1, len(losses) + 1), losses, color=TRAIN_COLOUR, label="binary cross-entropy")
    left.set(
        xlabel="gradient step",
        ylabel="loss",
        yscale="log",
        title=f"finite differences agree within {difference:.0e}",
    )
    _grid(left)
    side = np.linspace(-1.6, 1.6, 121)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    surface = outputs(layers, plane).reshape(121, 121)
    right.contourf(side, side, surface, levels=np.linspace(0, 1, 11), cmap="cividis", alpha=0.8)
    right.contour(side, side, surface, levels=[0.5], colors="white")
    for label, colour, marker in ((0, TRAIN_COLOUR, "o"), (1, EVALUATION_COLOUR, "s")):
        points = x[t[:, 0] == label]
        right.scatter(*points.T, s=14, color=colour, marker=marker, edgecolors="white", label=f"class {label}")
    right.set(aspect="equal", xlabel="first input", ylabel="second input")
    right.legend(loc="upper right", fontsize="small")
    return figure


def _trained(layers: list[Dense], x: Floats, t: Floats) -> tuple[list[float], list[Dense]]:
    losses = []
    for _ in range(_TOY_STEPS):
        layers = updated(layers, gradients(layers, x, t), _TOY_RATE)
        losses.append(loss(outputs(layers, x), t))
    return losses, layers


def _rings(rng: np.random.Generator, n: int = 100) -> tuple[Floats, Floats]:
    """Return points on two rings, (2 n, 2), and their classes, (2 n, 1)."""
    angles = rng.uniform(0, 2 * np.pi, 2 * n)
    radii = np.repeat([0.5, 1.2], n) + rng.normal(0, 0.1, 2 * n)
    x = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return x, np.repeat([[1.0], [0.0]], n, axis=0)


def _grid(axes: Axes | Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
