"""Figures of images: an image as a function, samples, augmentations, crafted shifts, feature maps, dropout."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pneumosearch.data.augmentation import Augmentation
from pneumosearch.data.battery import BATTERY, battery_copies
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.extremes import End
from pneumosearch.data.families import FAMILIES
from pneumosearch.data.transform import transform
from pneumosearch.records.classes import Classes
from pneumosearch.training.plots import EVALUATION_COLOUR, TRAIN_COLOUR

Maps = npt.NDArray[np.float32]

_CHANGES_IN_A_ROW: Final = 3
_MAPS_SHOWN: Final = 6  # feature maps per block
_SURFACE_STEP: Final = 3  # pixels between two lines of the surface


def intensity(pixels: PixelArray) -> Figure:
    """Draw an image, (size, size) grey levels, and the surface of its function I(x, y)."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    _show(figure.add_subplot(1, 2, 1), pixels, "the image")
    surface: Any = figure.add_subplot(1, 2, 2, projection="3d")
    side = np.arange(0, pixels.shape[0], _SURFACE_STEP)
    x, y = np.meshgrid(side, side)
    surface.plot_surface(x, y, pixels[::_SURFACE_STEP, ::_SURFACE_STEP], cmap="gray", linewidth=0, antialiased=False)
    surface.set(xlabel="x", ylabel="y", zlabel="I(x, y)", title="its intensity I(x, y)")
    surface.invert_yaxis()
    return figure


def samples(normal: Sequence[PixelArray], ill: Sequence[PixelArray], classes: Classes) -> Figure:
    """Draw one row of images for each class; both sequences have the same length of at least 1."""
    figure = Figure(figsize=(1.8 * len(normal), 4), layout="constrained")
    grid = figure.subplots(2, len(normal), squeeze=False)
    for row, images, label in zip(grid, (normal, ill), classes, strict=True):
        for axes, pixels in zip(row, images, strict=True):
            _show(axes, pixels, label)
    return figure


def augmentations(pixels: PixelArray, augmentation: Augmentation, *, seed: int, n: int = 7) -> Figure:
    """Draw an image, (size, size), and n random augmentations of it."""
    changes = augmentation.draw(np.random.default_rng(seed), n)
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    grid = figure.subplots(2, (n + 1) // 2).flat
    _show(next(grid), pixels, "original")
    for axes, change in zip(grid, changes, strict=True):
        flipped = ", upside down" if change.vertical_flip else ""
        _show(axes, transform(pixels, change), f"zoom {change.zoom[0]:.2f} x {change.zoom[1]:.2f}{flipped}")
    return figure


def extremes(ends: Mapping[str, tuple[End, End]]) -> Figure:
    """Draw the two ends of each change side by side, three changes in a row; there is at least one."""
    n_rows = math.ceil(len(ends) / _CHANGES_IN_A_ROW)
    figure = Figure(figsize=(1.75 * 2 * _CHANGES_IN_A_ROW, 2.1 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, 2 * _CHANGES_IN_A_ROW, squeeze=False).ravel()
    for axes in grid[2 * len(ends) :]:
        axes.axis("off")
    shown = ((name, end) for name, both in ends.items() for end in both)
    for axes, (name, end) in zip(grid, shown, strict=False):
        _show(axes, end.image, f"{name}\n{end.words}")
    return figure


def battery(pixels: PixelArray) -> Figure:
    """Draw an image, (size, size), and its copies under the battery of crafted shifts, a column for each family."""
    copies = dict(zip(BATTERY, battery_copies(pixels[None], "none"), strict=True))
    columns = [[name for name in BATTERY if BATTERY[name].family == family] for family in FAMILIES]
    rows = max(map(len, columns))
    figure = Figure(figsize=(1.55 * (1 + len(columns)), 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, 1 + len(columns))
    for axes in grid.flat:
        axes.axis("off")
    _show(grid[0, 0], pixels, "\nunchanged")
    for column, family, names in zip(grid[:, 1:].T, FAMILIES, columns, strict=True):
        for axes, name in zip(column, names, strict=False):
            _show(axes, copies[name], f"{family}:\n{name}" if name == names[0] else name)
    return figure


def feature_maps(blocks: Sequence[Maps]) -> Figure:
    """Draw the feature maps with the largest standard deviation; each block is (side, side, n_filters)."""
    figure = Figure(figsize=(1.5 * _MAPS_SHOWN, 1.6 * len(blocks)), layout="constrained")
    for row, (number, maps) in zip(figure.subplots(len(blocks), _MAPS_SHOWN), enumerate(blocks, start=1), strict=True):
        chosen = np.argsort(-maps.std(axis=(0, 1)))[:_MAPS_SHOWN]
        for axes in row:
            axes.axis("off")
        for axes, filter_number in zip(row, chosen, strict=False):
            axes.imshow(maps[:, :, filter_number], cmap="cividis")
            axes.set_title(f"block {number}, filter {filter_number + 1}", fontsize=7)
    return figure


def dropout(values: Maps, rate: float, *, seed: int) -> Figure:
    """Draw the outputs of a dense layer, (n_units,), in evaluation and in one training step.

    In training, each unit is set to 0 with probability `rate` and the others are divided by 1 - rate. The expected sum
    stays the same.
    """
    kept = np.random.default_rng(seed).random(len(values)) >= rate
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    shown = (("in evaluation: all units", values, TRAIN_COLOUR),
             (f"in a training step: {kept.sum()} of {len(values)} units", np.where(kept, values / (1 - rate), 0.0),
              EVALUATION_COLOUR))  # fmt: skip
    for axes, (title, heights, colour) in zip(figure.subplots(2, 1, sharex=True, sharey=True), shown, strict=True):
        axes.bar(np.arange(len(values)), heights, width=1.0, color=colour)
        axes.set(title=title, ylabel="output")
    axes.set(xlabel="unit of the first dense layer")
    return figure


def _show(axes: Any, pixels: PixelArray, title: str) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=8, parse_math=False)
    axes.axis("off")
