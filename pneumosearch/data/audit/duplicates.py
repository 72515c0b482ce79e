"""Images that show the same film: a perceptual hash, and the search for pairs that are near by it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]  # (N_BITS,)
Distances = npt.NDArray[np.float32]

#: Bits of the hash: the 16 x 16 lowest frequencies without the mean.
N_BITS: Final = 255

#: Bits in which a pair may differ and still count as one film. Chosen on development images alone: copies that were
#: compressed, brightened, blurred, enlarged by 1 %, moved by two of 224 pixels or turned by 1 degree differ from their
#: originals in at most 32 bits (300 images of each), and no two different films in fewer than 40.
THRESHOLD: Final = 32

_SIDE: Final = 64  # pixels to which an image is shrunk before its frequencies are taken
_LOW: Final = 16  # frequencies each way
_ROWS: Final = 1024  # of the table of distances that is in memory at a time


class HashPair(NamedTuple):
    """Two images, by position, the first the lower, and the bits in which their hashes differ."""

    first: int
    second: int
    distance: int


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> Bits:
    """Return 255 bits of (height, width) grey levels: which low frequencies of the image exceed their median.

    Source:
        The "pHash" of Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010), with 16 x 16
        frequencies in place of 8 x 8, because X-rays of chests are alike and 64 bits confuse different patients.
    """
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    frequencies = cv2.dct(small)[:_LOW, :_LOW].ravel()[1:]
    return np.asarray(frequencies > np.median(frequencies), dtype=np.bool_)


def near_pairs(hashes: npt.NDArray[np.bool_], *, threshold: int = THRESHOLD) -> list[HashPair]:
    """Return the pairs of rows of `hashes` (n, N_BITS) that differ in at most `threshold` bits, nearest first."""
    found = [
        HashPair(start + int(i), start + int(j), round(float(block[i, j])))
        for start, block in _blocks(hashes)
        for i, j in np.argwhere(block <= threshold)
    ]
    return sorted(found, key=lambda pair: pair.distance)


def nearest_others(
    hashes: npt.NDArray[np.bool_], patients: Sequence[str], n: int, *, threshold: int = THRESHOLD
) -> list[HashPair]:
    """Return the `n` nearest pairs of different patients that differ in more than `threshold` bits.

    They are what a reader needs to judge the threshold by: the most alike that do not count as one film.
    """
    codes = np.unique(np.asarray(patients), return_inverse=True)[1]
    found: list[HashPair] = []
    for start, block in _blocks(hashes):
        block[(block <= threshold) | (codes[start : start + len(block), None] == codes[None, start:])] = np.inf
        flat = block.ravel()
        nearest = np.argpartition(flat, min(n, flat.size) - 1)[:n]
        rows, columns = np.unravel_index(nearest[np.isfinite(flat[nearest])], block.shape)
        pairs = zip(rows, columns, strict=True)
        found += [HashPair(start + int(i), start + int(j), round(float(block[i, j]))) for i, j in pairs]
    return sorted(found, key=lambda pair: (pair.distance, pair.first, pair.second))[:n]


def _blocks(hashes: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Distances]]:
    """Yield (start, distances of rows from there to all rows from there on), infinite where not first < second."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    for start in range(0, len(signs), _ROWS):
        rows = signs[start : start + _ROWS]
        block = np.asarray((hashes.shape[1] - rows @ signs[start:].T) / 2, dtype=np.float32)
        block[np.tril_indices(len(rows), m=block.shape[1])] = np.inf
        yield start, block


def identical_groups(digests: Sequence[str]) -> list[list[int]]:
    """Return the positions of files with the same content, a list for each content that occurs more than once."""
    positions = defaultdict(list)
    for position, digest in enumerate(digests):
        positions[digest].append(position)
    return [group for group in positions.values() if len(group) > 1]
