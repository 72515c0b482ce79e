"""What each change of training images costs."""

import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer

from benchmarks.common import SUFFIXES, print_result
from pneumosearch.config import TrialConfig
from pneumosearch.data.augmentation import Augmentation
from pneumosearch.data.cache import network_input
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.phantom_drawing import draw_phantom
from pneumosearch.data.transform import mixed, transform

_STRONG: Final[dict[str, dict[str, Any]]] = {
    "published": {},
    "tone": {"gamma": 0.6},
    "crop": {"crop_area": 0.5, "crop_aspect": 1.4},
    "sharpness": {"blur": 0.02, "sharpen": 2.0},
    "resolution": {"resolution_loss": 0.6},
    "noise": {"noise": 0.08},
    "jpeg": {"jpeg_loss": 80},
    "patch": {"erase": 0.2},
    "mixup": {"mixup": 0.4},
}
_IMAGES: Final = 12  # different ones, in turn


def augmentation(
    data: Annotated[Path | None, typer.Option(help="Folder of images; phantoms where none is given.")] = None,
    size: Annotated[int, typer.Option(min=32, help="Side of the images, pixels.")] = 150,
    images: Annotated[int, typer.Option(min=1, help="Changed images in each round.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds over all kinds of change; medians are printed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the CPU time an image of each kind of change beside the published ones, and of all together.

    Example: scripts/bench augmentation --data chest_xray
    """
    cv2.setNumThreads(1)
    pixels = _pixels(data, size)
    together = {name: value for fields in _STRONG.values() for name, value in fields.items()}
    kinds = {**_STRONG, "all": together}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, fields in kinds.items():
            times[kind].append(_milliseconds(TrialConfig.model_validate(fields), pixels, images))
    found = {kind: median(each) for kind, each in times.items()}
    rows = [(kind, value, value - found["published"]) for kind, value in found.items()]
    result = {"cpu_ms_an_image": found, "size": size, "images": images, "rounds": rounds, "of": str(data or "phantoms")}
    print_result(result, rows, ("change", "CPU ms an image", "more than published"), as_json)


def _milliseconds(config: TrialConfig, pixels: list[PixelArray], n: int) -> float:
    start = time.process_time()
    before = pixels[0]
    for number, change in enumerate(Augmentation(config).draw(np.random.default_rng(1), n)):
        image = transform(pixels[number % len(pixels)], change)
        before = mixed(image, before, change.mix) if change.mix else image
    return 1000 * (time.process_time() - start) / n


def _pixels(data: Path | None, size: int) -> list[PixelArray]:
    if data is None:
        rng = np.random.default_rng(1)
        return [draw_phantom(rng, number / _IMAGES, height=size, width=size) for number in range(_IMAGES)]
    folder = data / "train" if (data / "train").is_dir() else data
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [network_input(path, size, "area", "none") for path in paths[:: max(1, len(paths) // _IMAGES)][:_IMAGES]]
