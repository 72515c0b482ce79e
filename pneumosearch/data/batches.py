"""Training batches: shuffling and augmentation that depend on nothing but the seed and the epoch.

So an epoch gives the same batches whether it is reached in one go, after an interruption or in a rerun.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumosearch.data.augmentation import Augmentation, Change
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.splits import Indices
from pneumosearch.data.transform import mixed, transform

Labels = npt.NDArray[np.float32]


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
        """Yield ((batch, size, size, 1) pixels, (batch, 1) labels) of `epoch`, prepared one batch ahead.

        With mixup, a label is the share of ill images in a mixture; its nearer end is the label of the image itself.
        """
        rng = np.random.default_rng([self.seed, epoch])
        order = self.indices[rng.permutation(len(self.indices))]
        changes = self.augmentation.draw(rng, len(order))

        def prepare(step: int) -> tuple[PixelArray, Labels]:
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            images = [transform(self.pixels[i], change) for i, change in zip(order[part], changes[part], strict=True)]
            labels = self.labels[order[part]]
            if self.augmentation.config.mixup:
                images, labels = _mixed_batch(images, labels, changes[part])
            return np.stack(images)[..., None], labels[:, None]

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(prepare, 0)
            for step in range(1, self.steps + 1):
                batch = ahead.result()
                if step < self.steps:
                    ahead = pool.submit(prepare, step)
                yield batch


def _mixed_batch(images: list[PixelArray], labels: Labels, changes: list[Change]) -> tuple[list[PixelArray], Labels]:
    """Mix each image with the next of the shuffled batch, the last with the first, and their labels alike."""
    shares = np.array([change.mix for change in changes], dtype=np.float32)
    others = images[1:] + images[:1]
    both = [mixed(*pair) for pair in zip(images, others, shares.tolist(), strict=True)]
    return both, (1 - shares) * labels + shares * np.roll(labels, -1)
