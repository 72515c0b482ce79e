"""Writes all figures to a folder, with a page that explains them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pneumosearch._utils.atomic import replacing, write_output
from pneumosearch._utils.jinja import data_uri, template
from pneumosearch.config import TrialConfig
from pneumosearch.data.augmentation import Augmentation
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.extremes import extremes
from pneumosearch.data.protocols import Dataset
from pneumosearch.errors import PneumosearchError
from pneumosearch.illustrations import curves, images
from pneumosearch.illustrations.activations import activations
from pneumosearch.inference.predict import PlainNetwork
from pneumosearch.published import PUBLISHED_SEED
from pneumosearch.records.classes import PUBLISHED_CLASSES
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.records.epoch import History

PAGE: Final = "index.html"
_N_SAMPLES: Final = 5
_TYPES: Final = {"png": "image/png", "svg": "image/svg+xml"}
_STYLE: Final[Any] = {"svg.hashsalt": "pneumosearch", "svg.fonttype": "path", "font.size": 9}


@dataclass(frozen=True)
class Subject:
    """What the figures show: images, a configuration, and the network trained with it, if any."""

    dataset: Dataset  # development images
    config: TrialConfig
    history: History
    network: bytes | None  # a `.keras` file of plain layers
    n_train: int  # training images of the network; under the "original" protocol more than in `dataset`
    about: str  # description of the training
    plain: Dataset | None = None  # the same images before their contrast is equalised, where it is


@dataclass(frozen=True)
class Illustration:
    """One figure of the gallery."""

    name: str  # file name without suffix
    suffix: Literal["png", "svg"]
    caption: str
    alternative: str  # describes the figure to readers who cannot see it
    draw: Callable[[], Figure]

    @property
    def file(self) -> str:
        """The file name."""
        return f"{self.name}.{self.suffix}"


def write_gallery(subject: Subject, folder: Path) -> list[str]:
    """Write all figures and the page to `folder`. The same subject gives the same bytes.

    Returns:
        Names of the files, the page last.

    Raises:
        PneumosearchError: The folder cannot be written.
    """
    found = list(_illustrations(subject))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for illustration in found:
            _write(illustration, folder / illustration.file)
    except OSError as error:
        raise PneumosearchError(f"{folder}: figures cannot be written there ({error.strerror})") from error
    write_output(folder / PAGE, _page(subject, found, folder))
    return [*(illustration.file for illustration in found), PAGE]


def _write(illustration: Illustration, path: Path) -> None:
    metadata = {"Date": None} if illustration.suffix == "svg" else {"Software": None}
    with mpl.rc_context(_STYLE), replacing(path) as temporary:
        illustration.draw().savefig(temporary, format=illustration.suffix, dpi=110, metadata=metadata)


def left_out(subject: Subject) -> tuple[str, ...]:
    """Return the names of the figures that cannot be drawn because the subject has no trained network."""
    return () if subject.network else ("feature-maps", "dropout")


def _page(subject: Subject, found: list[Illustration], folder: Path) -> str:
    sources = {each.name: data_uri((folder / each.file).read_bytes(), _TYPES[each.suffix]) for each in found}
    warning = PHANTOMS if subject.dataset.description.kind == "phantoms" else None
    return template("figures.html").render(found=found, sources=sources, subject=subject, warning=warning)


def _illustrations(subject: Subject) -> Iterator[Illustration]:
    normal, ill = (_some(subject.dataset, label) for label in (0, 1))
    first, config, data = ill[0], subject.config, subject.dataset.description
    rows = ("healthy", "with pneumonia") if data.classes == PUBLISHED_CLASSES else data.classes
    looks = "; those in the bottom row are cloudier" * (data.classes == PUBLISHED_CLASSES)
    yield Illustration(
        "intensity",
        "png",
        "An image is a function that maps each position (x, y) to an intensity I(x, y).",
        "A chest X-ray, and the same image as a surface whose height is the grey level.",
        lambda: images.intensity(first),
    )
    yield Illustration(
        "samples",
        "png",
        f"Training images of each class: {_N_SAMPLES} {rows[0]} (top) and {_N_SAMPLES} {rows[1]} (bottom).",
        f"Two rows of {_N_SAMPLES} chest X-rays{looks}.",
        lambda: images.samples(normal, ill, data.classes),
    )
    yield Illustration(
        "augmentations",
        "png",
        "One training image and seven random augmentations, as the network sees it in seven epochs.",
        "One chest X-ray eight times: the original, and copies stretched by different factors, some upside down.",
        lambda: images.augmentations(first, Augmentation(config), seed=PUBLISHED_SEED),
    )
    ends = extremes(config, *(_some(subject.plain or subject.dataset, label)[0] for label in (1, 0)))
    if ends:
        yield Illustration(
            "extremes",
            "png",
            "What training does to an image: each change at the two ends of its range. The network sees all at once.",
            f"Pairs of the same chest X-ray: {', '.join(ends)}, each at one end and at the other.",
            lambda: images.extremes(ends),
        )
    yield Illustration(
        "battery",
        "png",
        "One training image under the battery of crafted shifts, by which a search can judge whether a network holds "
        "elsewhere. A column is a family of changes.",
        "One chest X-ray nineteen times: unchanged, darker, flatter, cropped, blurred, compressed, framed and more.",
        lambda: images.battery(first),
    )
    if subject.network:
        yield from _of_the_network(subject.network, first, config)
    yield from _curves(subject)


def _of_the_network(content: bytes, pixels: PixelArray, config: TrialConfig) -> Iterator[Illustration]:
    found = activations(PlainNetwork(content).model, pixels)
    sides = ", ".join(str(block.shape[0]) for block in found.blocks)
    yield Illustration(
        "feature-maps",
        "png",
        f"Feature maps of the same image after each block, those with the largest variation, {sides} pixels wide.",
        "One row of feature maps for each block: edges in the first rows, coarser patches in the later ones.",
        lambda: images.feature_maps(found.blocks),
    )
    yield Illustration(
        "dropout",
        "svg",
        f"Dropout at a rate of {config.dropout_1:g}: outputs of the first dense layer in evaluation and in training.",
        "Two bar charts of the same units; in the lower chart most bars are missing and the others are taller.",
        lambda: images.dropout(found.dense, config.dropout_1, seed=PUBLISHED_SEED),
    )


def _curves(subject: Subject) -> Iterator[Illustration]:
    config, n_images = subject.config, subject.n_train
    steps, epochs = n_images // config.batch_size, len(subject.history) or config.epochs
    yield Illustration(
        "activations",
        "svg",
        "The activation functions of the study and their derivatives, which back-propagation uses.",
        "Three plots: ReLU is 0 below 0 and h above; the sigmoid rises from 0 to 1, tanh from -1 to 1.",
        curves.activation_functions,
    )
    yield Illustration(
        "iterations",
        "svg",
        f"The relation d/b = i/e: {n_images} images in batches of {config.batch_size} give {steps} full batches per "
        f"epoch and {steps * epochs} iterations in {epochs} epoch{'s' * (epochs != 1)}.",
        "The number of iterations grows by the same amount in each epoch.",
        lambda: curves.batches_and_epochs(n_images, config.batch_size, epochs),
    )
    yield from _accuracies(subject)
    yield Illustration(
        "gradients",
        "svg",
        "Back-propagation as in the annex, in NumPy: a small network learns to separate two rings of points. The title "
        "gives the largest difference between its gradients and finite differences before the first step.",
        "The loss falls by orders of magnitude; the decision boundary encloses the inner ring.",
        lambda: curves.learning_by_gradients(PUBLISHED_SEED),
    )


def _accuracies(subject: Subject) -> Iterator[Illustration]:
    if subject.dataset.description.shown_as != "own images":
        yield Illustration(
            "accuracy",
            "svg",
            "The published accuracies" + (" and those of this run, by epoch." if subject.history else "."),
            "Published train accuracy rises from 82.5 to 95.1 percent; test accuracy swings between 62.5 and 86.2.",
            lambda: curves.accuracy_table(subject.history),
        )
    elif subject.history:
        yield Illustration(
            "accuracy",
            "svg",
            "The accuracies of this run, by epoch.",
            "A line for the training images and one for those that judge the epochs.",
            lambda: curves.accuracy_table(subject.history, published=False),
        )


def _some(dataset: Dataset, label: int) -> list[PixelArray]:
    """Return `_N_SAMPLES` training images of a class, evenly spaced."""
    train = dataset.train
    positions = train.indices[train.labels[train.indices] == label]
    chosen = positions[np.linspace(0, len(positions) - 1, _N_SAMPLES).astype(int)]
    return [np.asarray(train.pixels[position]) for position in chosen]
