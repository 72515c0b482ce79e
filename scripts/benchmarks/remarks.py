"""How often `predict` remarks on X-rays of new patients without need, and what it finds."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from benchmarks.common import print_result
from pneumosearch.data import operations
from pneumosearch.data.appearance import Plain, appearance_of, differences, plain, small
from pneumosearch.data.battery import battery_copies
from pneumosearch.data.cache import in_threads, shrink
from pneumosearch.data.decoding import PixelArray, decode
from pneumosearch.data.manifest import ImageFile, read_manifest
from pneumosearch.data.spans import spans_of, with_copies
from pneumosearch.records.dataset import Appearance

_JUDGED: Final = 196  # images of which copies are made, as of the published ones at 150 pixels
_FAMILIES: Final = ("exposure", "tone", "resolution", "geometry")

#: Pictures that should be told, from grey levels of a file.
_STRANGE: Final[Mapping[str, Callable[[PixelArray], PixelArray]]] = {
    "levels times 0.25": lambda i: operations.contrast(i, 0.25, about=0.0),
    "levels raised by 0.5 of the range": lambda i: operations.brightness(i, 0.5),
    "distances from the mean times 0.2": lambda i: operations.contrast(i, 0.2),
    "distances from the mean times 4": lambda i: operations.contrast(i, 4.0),
    "blur of 4 % of the side": lambda i: operations.blur(i, 0.04),
    "shrunk to a twelfth": lambda i: operations.lose_resolution(i, 12.0),
    "unsharp mask of strength 6": lambda i: operations.sharpen(i, 6.0),
    "noise of 12 % of the range": lambda i: operations.add_noise(i, 0.12, 1),
}


@dataclass(frozen=True)
class _Image:
    patient: str
    size: tuple[int, int]  # of the file
    pixels: PixelArray  # shrunk
    small: PixelArray
    strange: Mapping[str, tuple[PixelArray, Plain]]  # small and measured, of some images


def remarks(
    data: Annotated[Path, typer.Option(help="Folder of X-rays; the test folder is not read.")],
    size: Annotated[int, typer.Option(min=8, help="Side of the network's images, pixels.")] = 150,
    every: Annotated[int, typer.Option(min=1, help="Of every nth image, strange pictures are made.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Take one half of the training images' patients for training and look at the other, both ways round.

    Example: scripts/bench remarks --data chest_xray
    """
    images = _read(data, size, every)
    patients = sorted({image.patient for image in images})
    first = set(patients[::2])
    halves = [[i for i in images if (i.patient in first) == wanted] for wanted in (True, False)]
    rows = list(_rows([(halves[0], halves[1]), (halves[1], halves[0])]))
    headings = ("pictures", "of", "remarks, not judged", "remarks, judged by the battery")
    named = [dict(zip(headings, row, strict=True)) for row in rows]
    print_result({"images": len(images), "rows": named}, rows, headings, as_json)


def _read(folder: Path, size: int, every: int) -> list[_Image]:
    manifest = read_manifest(folder)
    images = [image for image in manifest.part("development").images if image.split == "train"]
    some = {image.name for image in images[::every]}

    def work(image: ImageFile) -> _Image:
        grey = decode(manifest.folder / image.path)
        changed = {name: change(grey) for name, change in _STRANGE.items()} if image.name in some else {}
        strange = {name: (small(each), plain(shrink(each, size, "area"))) for name, each in changed.items()}
        height, width = grey.shape
        return _Image(image.patient, (width, height), shrink(grey, size, "area"), small(grey), strange)

    return [image for _, image in in_threads(images, work, None)]


def _rows(ways: Sequence[tuple[list[_Image], list[_Image]]]) -> Iterator[list[Any]]:
    """Yield a row for the new images as they are, and one for each strange picture."""
    told: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for training, new in ways:
        both = _appearances(training)
        for image in new:
            pictures = {"new images": (image.small, plain(image.pixels)), **image.strange}
            for name, (shrunk, look) in pictures.items():
                not_judged, judged = (differences(shrunk, image.size, each, look) for each in both)
                told.setdefault(name, []).append((not_judged, judged))
    for name, each in told.items():
        yield [name, len(each), *(_told([pair[k] for pair in each]) for k in (0, 1))]


def _told(of_each: Sequence[tuple[str, ...]]) -> str:
    """Return how many pictures have a remark, and how many one of each family."""
    n = sum(map(bool, of_each))
    families = Counter(remark.split(":")[0] for found in of_each for remark in found)
    by_family = "".join(f", {family} {families[family]}" for family in _FAMILIES if families[family])
    return f"{n} ({n / len(of_each):.1%}){by_family}"


def _appearances(training: list[_Image]) -> tuple[Appearance, Appearance]:
    """Return what a network knows that the battery did not judge, and one that it did."""
    pixels = np.stack([image.pixels for image in training])
    found = appearance_of([image.small for image in training], [image.size for image in training])
    spans = spans_of(pixels, found.aspect_ratio, "area")
    copies = battery_copies(pixels[:: max(1, len(pixels) // _JUDGED)], "none")
    judged = found.model_copy(update={"spans": with_copies(spans, copies)})
    return found.model_copy(update={"spans": spans}), judged
