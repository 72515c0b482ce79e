"""The images, as Keras reads them from folders of JPEG files."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]


def pipeline(folder: Path, size: int, batch_size: int, seed: int | None = None) -> Any:
    """Return a `tf.data.Dataset` that decodes the files in every epoch.

    Args:
        folder: Folder with one folder per class.
        size: Side of the square images in pixels.
        batch_size: Images per batch.
        seed: Seed of the shuffling; None does not shuffle.
    """
    return keras.utils.image_dataset_from_directory(
        folder,
        label_mode="binary",
        image_size=(size, size),
        batch_size=batch_size,
        shuffle=seed is not None,
        seed=seed,
        verbose=False,
    )


def arrays(folder: Path, size: int) -> Arrays:
    """Return (n, size, size, 3) images and (n, 1) labels, read once into memory."""
    batches = [(images.numpy(), labels.numpy()) for images, labels in pipeline(folder, size, batch_size=128)]
    images = np.concatenate([each.round().astype(np.uint8) for each, _ in batches])
    return images, np.concatenate([labels for _, labels in batches])
