"""Training batches: shuffling and augmentation that depend on nothing but the seed and the epoch.

So an epoch gives the same batches whether it is reached in one go, after an interruption or in a rerun.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.data.cache import PixelArray
from pneumosearch.data.splits import Indices

Labels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each training image, as `ImageDataGenerator(zoom_range=..., vertical_flip=...)` does."""

    zoom: float  # factors come from [1 - zoom, 1 + zoom], independently for height and width
    vertical_flip: bool  # with probability 1/2

    def draw(self, rng: np.random.Generator, n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Draw zoom factors (n, 2) for height and width, and whether each of n images is flipped, (n,)."""
        factors = rng.uniform(1 - self.zoom, 1 + self.zoom, size=(n, 2))
        flips = rng.random(n) < 0.5
        return factors, flips if self.vertical_flip else np.zeros(n, dtype=np.bool_)


def transform(image: PixelArray, zoom: tuple[float, float], flip: bool) -> PixelArray:
    """Zoom about the centre and flip upside down; bilinear, edges filled with the nearest pixel.

    Args:
        image: (height, width).
        zoom: For height and width: output pixel p shows input pixel c + zoom * (p - c), with c the centre, so a
            factor under 1 enlarges (`ImageDataGenerator`'s convention).
        flip: Turn upside down.

    Returns:
        (height, width), rounded to whole grey levels.
    """
    height, width = image.shape
    (zoom_y, zoom_x), centre_y, centre_x = zoom, (height - 1) / 2, (width - 1) / 2
    sign = -1.0 if flip else 1.0
    matrix = np.array([
        [zoom_x, 0.0, centre_x * (1 - zoom_x)],
        [0.0, sign * zoom_y, centre_y * (1 - sign * zoom_y)],
    ])  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


@dataclass(frozen=True)
class TrainingBatches:
    """The shuffled, augmented batches of any epoch."""

    pixels: PixelArray  # (n_all, size, size)
    labels: Labels  # (n_all,)
    indices: Indices  # those of the training images
    batch_size: int
    augmentation: Augmentation
    seed: int

    @property
    def steps(self) -> int:
        """Batches in an epoch: `train // batch`, as published, but at least one."""
        return max(1, len(self.indices) // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[PixelArray, Labels]]:
        """Yield ((batch, size, size, 1) pixels, (batch, 1) labels) of `epoch`, prepared one batch ahead."""
        rng = np.random.default_rng([self.seed, epoch])
        order = self.indices[rng.permutation(len(self.indices))]
        factors, flips = self.augmentation.draw(rng, len(order))

        def prepare(step: int) -> tuple[PixelArray, Labels]:
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            images = [
                transform(self.pixels[i], (zoom[0], zoom[1]), bool(flip))
                for i, zoom, flip in zip(order[part], factors[part], flips[part], strict=True)
            ]
            return np.stack(images)[..., None], self.labels[order[part], None]

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(prepare, 0)
            for step in range(1, self.steps + 1):
                batch = ahead.result()
                if step < self.steps:
                    ahead = pool.submit(prepare, step)
                yield batch
