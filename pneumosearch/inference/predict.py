"""Stored networks applied to the user's images: probabilities, decisions, heat maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from pneumosearch._utils.atomic import replacing
from pneumosearch.config import Equalization, TrialConfig
from pneumosearch.data.appearance import differences, small
from pneumosearch.data.cache import formed, network_input
from pneumosearch.data.decoding import PixelArray, decode
from pneumosearch.data.names import printable_name
from pneumosearch.data.scan import COPY_OF_FILE, SUFFIXES, PassedOver, Tally, find_images, is_copy
from pneumosearch.data.spans import measured
from pneumosearch.errors import ConfigError, DataError
from pneumosearch.network import backend
from pneumosearch.network.grad_cam import Calls, Heat, grad_cam, overlay
from pneumosearch.records.classes import PUBLISHED_CLASSES, Classes
from pneumosearch.records.dataset import Appearance, Interpolation

#: What every output that a person may act on says.
WARNING: Final = "not for clinical use"

MODEL_FILE: Final = "model.keras"
ABOUT_FILE: Final = "model.json"

_HALF: Final = 0.5
_BATCH: Final = 64  # images in memory at a time


class ModelAbout(BaseModel):
    """What `predict` needs of an exported network besides its weights; the content of `model.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    trial: int
    config: TrialConfig
    input_size: int  # side of the square input, pixels
    interpolation: Interpolation
    equalization: Equalization
    threshold: float  # above it an image is called ill
    threshold_from: str
    labels: Classes = PUBLISHED_CLASSES
    fingerprint: str  # of the images that it was trained on
    kind: Literal["images", "phantoms"]  # of these images
    bits: int | None = None  # of the levels of these images, where they have more than 8 a pixel
    appearance: Appearance | None = None  # of these images; None where an earlier version exported
    versions: dict[str, str]
    warning: str = WARNING


class PlainNetwork:
    """A kept network of plain Keras layers that takes pixels as `training.predict` gives them.

    Args:
        content: Of a `.keras` file as `TrainingResult.save` writes it.
    """

    def __init__(self, content: bytes) -> None:
        backend.start()
        import keras

        keras.backend.clear_session()  # the networks judged before
        with TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(content)
            self.model = keras.saving.load_model(path, compile=False, safe_mode=True)

    @property
    def size(self) -> int:
        """Side of the square input, pixels."""
        return int(self.model.input_shape[1])

    def predict_on_batch(self, pixels: PixelArray) -> Any:
        """Return (n, 1) probabilities of (n, size, size, 1) grey levels of 0 to 255."""
        import keras

        # Called, not `predict_on_batch`: a compiled step for each of many networks would cost more than it saves.
        images = np.repeat(pixels.astype(np.float32) / 255, 3, axis=-1)
        return keras.ops.convert_to_numpy(self.model(images, training=False))


@dataclass(frozen=True)
class Classifier:
    """One network or a seed ensemble, and how its input is made."""

    networks: Sequence[PlainNetwork]
    size: int  # pixels
    interpolation: Interpolation
    equalization: Equalization
    threshold: float
    about: str  # where it comes from, in words
    bits: int | None = None  # of the deep images that it was trained on
    appearance: Appearance | None = None  # of the images that it was trained on; None where nothing is known of it
    classes: Classes = PUBLISHED_CLASSES
    fingerprint: str | None = None  # of the images outside the test folder of its study; None where it is unknown

    def examine(self, path: Path) -> tuple[PixelArray, tuple[str, ...]]:
        """Decode a file as `read`; return also in what it lies far outside of what the network was trained on."""
        image = decode(path, self.bits)
        height, width = image.shape
        remarks: tuple[str, ...] = ()
        if self.appearance:
            look = measured(image, self.appearance.spans) if self.appearance.spans else None
            remarks = differences(small(image), (width, height), self.appearance, look)
        return formed(image, self.size, self.interpolation, self.equalization), remarks

    def read(self, path: Path) -> PixelArray:
        """Decode a file as in training, (size, size). Raises `DataError` where it cannot be decoded."""
        return network_input(path, self.size, self.interpolation, self.equalization, self.bits)

    def probabilities(self, pixels: PixelArray) -> npt.NDArray[np.float64]:
        """Return the mean probability of the positive class over the networks, (n,), of (n, size, size) grey levels."""
        each = [network.predict_on_batch(pixels[..., None])[:, 0] for network in self.networks]
        return np.asarray(np.mean(each, axis=0), dtype=np.float64)

    def heat(self, pixels: PixelArray, ill: Calls) -> Heat:
        """Return the mean heat over the networks, (n, size, size) in [0, 1], for the answers `ill`, (n,).

        Raises:
            ConfigError: Grad-CAM does not work on a network of this form.
        """
        maps = [grad_cam(network.model, pixels, ill) for network in self.networks]
        return np.asarray(np.mean(maps, axis=0), dtype=np.float32)


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one file; either a probability or an error."""

    path: Path
    probability: float | None = None  # of the positive class
    decision: str | None = None
    error: str | None = None
    remarks: tuple[str, ...] = ()  # in what the image lies far outside of what the network was trained on


class ImageFiles(NamedTuple):
    """The files to classify, and what is passed over in the folders."""

    paths: list[Path]
    passed_over: tuple[PassedOver, ...]


def image_files(arguments: Sequence[Path]) -> ImageFiles:
    """Return the files named, and the images below the folders named, sorted within each.

    Hidden files are no images. Where a folder holds a second copy of itself, as unpacked archives do (`x/a.png` with
    the content of `a.png`), the outer files count.

    Raises:
        DataError: Something named is not there, or a folder holds no image.
    """
    found: list[Path] = []
    tally = Tally()
    for argument in arguments:
        if argument.is_dir():
            found += _images_in(argument, tally)
        elif argument.exists():
            found.append(argument)
        else:
            raise DataError(f"{argument}: no such file or folder")
    return ImageFiles(list(dict.fromkeys(found)), tally.summary())


def _images_in(folder: Path, tally: Tally) -> list[Path]:
    try:
        names = find_images(folder, tally)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
    if not names:
        raise DataError(f"{folder}: no image in this folder (wanted {', '.join(SUFFIXES)})")
    there = set(names)
    copies = {name for name in names if is_copy(folder, name, there)}
    for name in copies:
        tally.add(COPY_OF_FILE, name)
    return sorted(folder / name for name in names if name not in copies)


def predictions(classifier: Classifier, paths: Sequence[Path], explain: Path | None = None) -> Iterator[Prediction]:
    """Yield a prediction for each file in order; one that cannot be read has an error, and the others go on.

    Args:
        classifier: The network or ensemble.
        paths: Image files.
        explain: Folder for a picture with the heat of each image, where given.

    Raises:
        ConfigError: The pictures cannot be made or written.
    """
    names = _picture_names(paths)
    for start in range(0, len(paths), _BATCH):
        yield from _predicted(classifier, paths[start : start + _BATCH], explain, names)


def _predicted(
    classifier: Classifier, paths: Sequence[Path], explain: Path | None, names: dict[Path, str]
) -> Iterator[Prediction]:
    read: dict[Path, PixelArray] = {}
    remarks: dict[Path, tuple[str, ...]] = {}
    errors: dict[Path, str] = {}
    for path in paths:
        try:
            read[path], remarks[path] = classifier.examine(path)
        except DataError as error:
            errors[path] = str(error)
    probabilities: dict[Path, float] = {}
    if read:
        pixels = np.stack(list(read.values()))
        found = classifier.probabilities(pixels)
        probabilities = dict(zip(read, found.tolist(), strict=True))
        if explain:
            heat = classifier.heat(pixels, found > classifier.threshold)
            _write_pictures(
                explain, {names[path]: overlay(*pair) for path, *pair in zip(read, pixels, heat, strict=True)}
            )
    for path in paths:
        if path in errors:
            yield Prediction(path, error=errors[path])
        else:
            decision = classifier.classes[probabilities[path] > classifier.threshold]
            yield Prediction(path, probabilities[path], decision, remarks=remarks[path])


def _write_pictures(folder: Path, pictures: dict[str, PixelArray]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            with replacing(folder / name) as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")
    except OSError as error:
        raise ConfigError(f"{folder}: pictures cannot be written there ({error.strerror or error})") from error


def _picture_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each file's picture: its own, numbered where another folder has the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem, number = printable_name(path.stem), 1
        name = f"{stem}.png"
        while name in taken:
            number += 1
            name = f"{stem}-{number}.png"
        taken.add(name)
        names[path] = name
    return names


def file_classifier(path: Path) -> Classifier:
    """Load an exported folder, or its network's file, or any `.keras` file, which has no threshold of its own.

    Raises:
        ConfigError: Neither, or a file of it cannot be used; the message names it.
    """
    folder = path.parent if path.name == MODEL_FILE and path.with_name(ABOUT_FILE).exists() else path
    if not folder.is_dir():
        network = _network_of(path)
        about = f"{_shown(path)}; it has no threshold, 0.5 is used; it does not say how contrast was equalized, none is"
        return Classifier([network], network.size, "area", "none", _HALF, about)
    exported = read_about(folder)
    network = _network_of(folder / MODEL_FILE)
    if network.size != exported.input_size:
        raise ConfigError(
            f"{folder / ABOUT_FILE}: input_size {exported.input_size}, but the network takes {network.size}"
        )
    about = f"trial {exported.trial} of '{exported.study}', exported to {_shown(folder)}; "
    return Classifier(
        [network],
        exported.input_size,
        exported.interpolation,
        exported.equalization,
        exported.threshold,
        f"{about}threshold {exported.threshold_from}{on_phantoms(exported.kind)}",
        exported.bits,
        exported.appearance,
        exported.labels,
        exported.fingerprint,
    )


def _shown(path: Path) -> str:
    return printable_name(str(path))


def on_phantoms(kind: Literal["images", "phantoms"]) -> str:
    """Return the end of a network's description: a warning where it was trained on phantoms."""
    return "; trained on PHANTOMS, of no use on X-rays" if kind == "phantoms" else ""


def read_about(folder: Path) -> ModelAbout:
    """Read `model.json` of an exported folder. Raises `ConfigError` where it is missing or not whole."""
    path = folder / ABOUT_FILE
    try:
        return ModelAbout.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); wanted a folder that 'export' wrote") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: not a description that 'export' wrote ({error.error_count()} problems)") from error


def _network_of(path: Path) -> PlainNetwork:
    try:
        network = PlainNetwork(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: not a .keras file that can be loaded safely ({reason})") from error
    shape, end = network.model.input_shape, network.model.output_shape
    square = isinstance(shape, tuple) and len(shape) == 4 and shape[1] and shape[1] == shape[2] and shape[3] == 3
    if not square or end != (None, 1):
        raise ConfigError(
            f"{path}: a network from {shape} to {end}; wanted (batch, size, size, 3) to (batch, 1), as 'export' writes"
        )
    return network
