"""Phantoms: procedural chest X-rays for trying things out. They resemble X-rays; results on them mean nothing else."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from uuid import uuid4

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.errors import DataError

#: File that says that a folder holds phantoms.
MARKER: Final = "PHANTOMS.json"

MIN_IMAGES: Final = 150  # so that each class has patients enough for a validation split
_GENERATOR: Final = 1  # raise it when the same seed would give other images
_TEST_SHARE, _VAL_SHARE, _NORMAL_SHARE = 0.20, 0.04, 0.35
_MAX_IMAGES_OF_PATIENT: Final = 4
_JPEG_QUALITY: Final = 90

Plane = npt.NDArray[np.float32]  # (height, width)


@dataclass(frozen=True)
class Anatomy:
    """What stays the same from one image of a patient to the next; lengths as fractions of half the image."""

    lung_width: float
    lung_height: float
    lung_gap: float  # from the middle to the middle of a lung
    heart: float
    rib_spacing: float
    rib_slope: float
    tissue: float  # brightness of the body around the lungs

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """Draw a patient."""
        return cls(
            lung_width=rng.uniform(0.27, 0.35),
            lung_height=rng.uniform(0.55, 0.72),
            lung_gap=rng.uniform(0.37, 0.45),
            heart=rng.uniform(0.24, 0.33),
            rib_spacing=rng.uniform(0.15, 0.20),
            rib_slope=rng.uniform(0.25, 0.55),
            tissue=rng.uniform(0.42, 0.58),
        )


def draw_phantom(
    rng: np.random.Generator,
    severity: float,
    *,
    height: int = 224,
    width: int = 256,
    anatomy: Anatomy | None = None,
    kind: Literal["bacteria", "virus"] = "bacteria",
) -> npt.NDArray[np.uint8]:
    """Draw one frontal chest X-ray.

    Args:
        rng: Of pose, exposure, noise and disease.
        severity: 0 is healthy; up to 1, ever denser shadows in the lungs.
        height: Pixels.
        width: Pixels.
        anatomy: The patient; drawn where none is given.
        kind: Patches ("bacteria") or haze with a fine net in both lungs ("virus").

    Returns:
        (height, width) grey levels.
    """
    body = anatomy or Anatomy.draw(rng)
    x, y = _pose(rng, height, width)
    lungs = _lungs(body, x, y)
    picture = body.tissue * _soft(1.0 - (np.abs(x) / 0.95) ** 4 - (np.maximum(-y - 0.2, 0) / 0.9) ** 4, 0.15)
    picture = picture - 0.36 * lungs + _bones(body, x, y) + _middle(body, x, y)
    vessels = np.exp(-((np.abs(x) - 0.25) ** 2) / 0.03 - y**2 / 0.25) * _noise(rng, x.shape, 3.0)
    picture = picture + lungs * (0.05 * vessels + 0.03 * _noise(rng, x.shape, 12.0))
    if severity > 0:
        shadow = _patches(rng, body, x, y) if kind == "bacteria" else _haze(rng, y)
        picture = picture + severity * lungs * shadow
    return _expose(rng, picture, x, y)


def write_phantoms(folder: Path, *, n_images: int = 600, seed: int = 232) -> None:
    """Write a folder of phantoms in the layout of the public data set, whole or not at all.

    Args:
        folder: Must not exist, or be empty.
        n_images: In all, at least `MIN_IMAGES`.
        seed: One seed gives one set of files, to the byte.

    Raises:
        DataError: The folder holds something, too few images are wanted, or it cannot be written.
    """
    if n_images < MIN_IMAGES:
        raise DataError(f"{n_images} phantoms are too few to split; wanted at least {MIN_IMAGES}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already there and not empty; choose another folder")
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    try:
        _write_tree(temporary, n_images, seed)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except OSError as error:
        raise DataError(f"{folder}: the phantoms cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_tree(folder: Path, n_images: int, seed: int) -> None:
    numbers = _Numbers()
    n_test, n_val = round(n_images * _TEST_SHARE), max(4, round(n_images * _VAL_SHARE))
    for split, n in (("train", n_images - n_test - n_val), ("val", n_val), ("test", n_test)):
        n_normal = max(2, round(n * _NORMAL_SHARE))
        for label, count in (("NORMAL", n_normal), ("PNEUMONIA", n - n_normal)):
            directory = folder / split / label
            directory.mkdir(parents=True)
            for name, image in _class_images(label, count, seed, numbers):
                quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
                (directory / name).write_bytes(cv2.imencode(".jpeg", image, quality)[1].tobytes())
    marker = {"kind": "phantoms", "images": n_images, "seed": seed, "generator": _GENERATOR}
    (folder / MARKER).write_text(json.dumps(marker) + "\n")


class _Numbers:
    """Hands out patient and image numbers that are unique in the whole tree."""

    def __init__(self) -> None:
        self.patients = self.images = 0

    def patient(self) -> int:
        self.patients += 1
        return self.patients

    def image(self) -> int:
        self.images += 1
        return self.images


def _class_images(label: str, count: int, seed: int, numbers: _Numbers) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield (file name, image) of patients with one to four images each, `count` in all."""
    done = 0
    while done < count:
        patient = numbers.patient()
        rng = np.random.default_rng([seed, patient])
        anatomy, severity = Anatomy.draw(rng), float(rng.beta(1.6, 1.3)) * 0.85 + 0.15
        kind: Literal["bacteria", "virus"] = "bacteria" if rng.random() < 0.6 else "virus"
        series = "NORMAL2-IM" if rng.random() < 0.5 else "IM"
        of_patient = min(count - done, int(rng.integers(1, _MAX_IMAGES_OF_PATIENT + 1)))
        for k in range(of_patient):
            height, width = (int(n) for n in rng.integers((200, 220), (260, 300)))
            ill = severity if label == "PNEUMONIA" else 0.0
            image = draw_phantom(rng, ill, height=height, width=width, anatomy=anatomy, kind=kind)
            normal = f"{series}-{patient:04d}-{k + 1:04d}.jpeg"
            yield f"person{patient}_{kind}_{numbers.image()}.jpeg" if ill else normal, image
        done += of_patient


def _pose(rng: np.random.Generator, height: int, width: int) -> tuple[Plane, Plane]:
    """Coordinates of every pixel in the patient's frame: -1 to 1, turned, shifted and scaled a little."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle, scale = rng.normal(0, 0.03), rng.uniform(0.9, 1.08)
    x, y = (x + rng.normal(0, 0.04)) / scale, (y + rng.normal(0, 0.04)) / scale
    turned = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    return turned[0].astype(np.float32), turned[1].astype(np.float32)


def _soft(level: Plane, width: float) -> Plane:
    """0 below 0, 1 above `width`, smooth between."""
    t = np.clip(level / width, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _lungs(body: Anatomy, x: Plane, y: Plane) -> Plane:
    """1 inside the lung fields; each ends below at its dome of the diaphragm."""
    fields = np.zeros_like(x)
    for side, dome in ((-1, 0.50), (1, 0.56)):
        u = (x - side * body.lung_gap) / body.lung_width
        inside = 1 - np.abs(u) ** 2.4 - np.abs((y + 0.08) / body.lung_height) ** 2.6
        fields = np.maximum(fields, _soft(inside, 0.25) * _soft(dome + 0.22 * u**2 - y, 0.06))
    return np.asarray(fields, dtype=np.float32)


def _bones(body: Anatomy, x: Plane, y: Plane) -> Plane:
    """Ribs that fall to the sides, and clavicles."""
    arc = y - body.rib_slope * (np.abs(x) - 0.1) + 0.5 * x**2
    phase = (arc / body.rib_spacing) % 1.0
    ribs = np.exp(-(((phase - 0.5) / 0.16) ** 2)) * _soft(0.86 - np.abs(x), 0.12) * _soft(0.62 - y, 0.15)
    clavicle = np.exp(-(((y + 0.62 + 0.22 * np.abs(x)) / 0.035) ** 2)) * _soft(np.abs(x) - 0.08, 0.1)
    return np.asarray(0.085 * ribs + 0.11 * clavicle * _soft(0.75 - np.abs(x), 0.1), dtype=np.float32)


def _middle(body: Anatomy, x: Plane, y: Plane) -> Plane:
    """Spine and mediastinum, the heart on the patient's left, the abdomen below."""
    spine = np.exp(-((x / 0.13) ** 2)) * (0.26 + 0.04 * np.cos(y * 40))
    distance = ((x - 0.16) / body.heart) ** 2 + ((y - 0.26) / (body.heart * 1.05)) ** 2
    heart = 0.26 * _soft(np.asarray(1.15 - distance, dtype=np.float32), 0.5)
    abdomen = 0.16 * _soft(y - 0.55, 0.25)
    return np.asarray(np.maximum(spine, heart) + abdomen, dtype=np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Plane:
    """Smooth noise with features of about `scale` pixels, mean 0 and deviation 1."""
    small = (max(2, int(shape[1] / scale)), max(2, int(shape[0] / scale)))
    field = rng.standard_normal((small[1], small[0])).astype(np.float32)
    noise = cv2.resize(field, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6), dtype=np.float32)


def _patches(rng: np.random.Generator, body: Anatomy, x: Plane, y: Plane) -> Plane:
    """One to three cloudy consolidations inside the lung fields."""
    total = np.zeros_like(x)
    for _ in range(int(rng.integers(1, 4))):
        side = rng.choice((-1.0, 1.0))
        centre_x = side * body.lung_gap + rng.uniform(-0.14, 0.14)
        centre_y = rng.uniform(-0.35, 0.40)
        size = rng.uniform(0.14, 0.30)
        distance = ((x - centre_x) / size) ** 2 + ((y - centre_y) / (size * rng.uniform(0.8, 1.5))) ** 2
        cloud = np.exp(-distance) * (1 + 0.45 * _noise(rng, x.shape, 14.0) + 0.2 * _noise(rng, x.shape, 5.0))
        total = np.maximum(total, cloud)
    return np.asarray(0.34 * np.clip(total, 0, 1.3), dtype=np.float32)


def _haze(rng: np.random.Generator, y: Plane) -> Plane:
    """A veil with a fine net of lines over both lungs, denser towards the base."""
    veil = 0.6 + 0.4 * np.clip(y + 0.3, -0.5, 0.8) + 0.3 * _noise(rng, y.shape, 40.0)
    net = np.exp(-((_noise(rng, y.shape, 7.0) / 0.35) ** 2))
    return np.asarray(np.clip(0.13 * veil + 0.13 * net, 0, 0.4), dtype=np.float32)


def _expose(rng: np.random.Generator, picture: Plane, x: Plane, y: Plane) -> npt.NDArray[np.uint8]:
    """Turn attenuation into film: blur, uneven field, contrast and brightness of the day, grain."""
    film = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.4))
    film = film + rng.normal(0, 0.03) * x + rng.normal(0, 0.03) * y
    film = np.clip(film * rng.uniform(0.85, 1.25) + rng.normal(0.02, 0.06), 0, 1) ** rng.uniform(0.75, 1.3)
    film = film + rng.normal(0, rng.uniform(0.008, 0.03), film.shape)
    return np.asarray(np.clip(film * 255, 0, 255), dtype=np.uint8)
