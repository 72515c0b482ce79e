"""Drawing one phantom: a patient's chest, a disease in its lungs, and an exposure, as grey levels."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

#: Of the drawing: raised when a seed no longer gives the same pixels. Earlier ones can still be drawn.
Generator = Literal[1, 2]
GENERATOR: Final[Generator] = 2

_MILDEST: Final = 0.35
_AIR: Final = 0.72  # of every patient, in generator 1
_ROUNDNESS: Final = 0.7
_MILDEST_NOW: Final = 0.4
_GRAVEST_NOW: Final = 0.9
_PATCH_NOW: Final = 0.65

Image = npt.NDArray[np.uint8]  # (height, width), grey
Plane = npt.NDArray[np.float32]  # (height, width), optical density or a mask
Values = npt.NDArray[np.floating[Any]]
Kind = Literal["bacteria", "virus"]


@dataclass(frozen=True)
class Patient:
    """What all images of a patient share. Lengths are in half picture heights, densities in film units."""

    kind: Kind
    severity: float  # of the disease, if the patient is ill
    texture: int  # seeds vessels and disease, so that they stay where they are from one image to the next
    turn: float  # radians
    shift_x: float
    shift_y: float
    zoom: float
    lung_centre: float
    lung_width: float
    apex: float
    dome: float  # where the right diaphragm stands
    heart: float
    rib_gap: float
    rib_drop: float
    clavicle_tilt: float
    flesh: float  # density of the soft tissue
    air: float  # share of that density which the lungs lack
    roundness: float  # of the trunk: how fast its thickness falls towards the sides
    patch: float  # factor on the size of cloudy shadows

    @classmethod
    def draw(cls, rng: np.random.Generator, generator: Generator = GENERATOR) -> "Patient":
        """Draw a patient; the file names of ill ones say the kind of the disease."""
        patient = cls(
            kind="bacteria" if rng.random() < 0.6 else "virus",
            severity=_MILDEST + (1 - _MILDEST) * float(rng.beta(1.5, 1.0)),
            texture=int(rng.integers(2**31)),
            turn=rng.normal(0, 0.035),
            shift_x=rng.normal(0, 0.04),
            shift_y=rng.normal(0, 0.04),
            zoom=rng.uniform(0.9, 1.1),
            lung_centre=rng.uniform(0.42, 0.48),
            lung_width=rng.uniform(0.30, 0.36),
            apex=rng.uniform(-0.82, -0.70),
            dome=rng.uniform(0.38, 0.56),
            heart=rng.uniform(0.29, 0.38),
            rib_gap=rng.uniform(0.15, 0.19),
            rib_drop=rng.uniform(0.20, 0.42),
            clavicle_tilt=rng.uniform(0.05, 0.25),
            flesh=rng.uniform(0.50, 0.78),
            air=_AIR,
            roundness=_ROUNDNESS,
            patch=1.0,
        )
        if generator == 1:
            return patient
        # Lungs are filled more or less, and sides are thicker or thinner, so that the brightness of the picture beside
        # that of its border tells little of who is ill.
        severity = _MILDEST_NOW + (_GRAVEST_NOW - _MILDEST_NOW) * float(rng.beta(1.5, 1.0))
        air, roundness = rng.uniform(0.56, 0.86), rng.uniform(0.45, 1.0)
        return replace(patient, severity=severity, air=air, roundness=roundness, patch=_PATCH_NOW)


@dataclass(frozen=True)
class _Frame:
    """Where each pixel lies in the patient: `x` to the patient's left, `y` down, 0 in the middle of the chest."""

    x: Plane
    y: Plane

    @classmethod
    def draw(cls, patient: Patient, rng: np.random.Generator, height: int, width: int) -> "_Frame":
        """Place the patient before the film; each exposure is a little off the last."""
        column = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / (height / 2)
        row = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / (height / 2)
        zoom, turn = patient.zoom * rng.uniform(0.98, 1.02), patient.turn + rng.normal(0, 0.01)
        x = (column[None, :] - patient.shift_x - rng.normal(0, 0.012)) / zoom
        y = (row[:, None] - patient.shift_y - rng.normal(0, 0.012)) / zoom
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        return cls(_plane(x * cos + y * sin), _plane(y * cos - x * sin))


def draw_phantom(rng: np.random.Generator, severity: float, *, height: int = 224, width: int = 256) -> Image:
    """Draw one frontal chest X-ray of a new patient.

    The same state of `rng` gives the same patient and film at every severity.

    Args:
        rng: Source of anatomy, disease, position, exposure and noise.
        severity: 0 is healthy; from there to 1, pneumonia from hardly visible to obvious.
        height: Pixels.
        width: Pixels.

    Returns:
        (height, width) grey levels, 0 black to 255 white.

    Raises:
        ValueError: `severity` lies outside 0 to 1.
    """
    if not 0 <= severity <= 1:
        raise ValueError(f"severity {severity}: wanted 0 to 1")
    return film(Patient.draw(rng), severity, rng, height, width)


def film(patient: Patient, severity: float, rng: np.random.Generator, height: int, width: int) -> Image:
    """Expose one film of `patient`."""
    frame = _Frame.draw(patient, rng, height, width)
    texture = np.random.default_rng(patient.texture)
    body, lungs, domes = _body(patient, frame), _lungs(patient, frame), _below_domes(patient, frame)
    vessels = _vessels(frame, texture)
    air = lungs * (1 - domes)
    density = patient.flesh * body * (1 - patient.air * air) + 0.22 * body * domes
    density = density + body * (_middle(patient, frame) + _bones(patient, frame))
    density = density + air * vessels
    if severity > 0:
        disease = _consolidation(patient, frame, texture) if patient.kind == "bacteria" else _haze(frame, texture)
        density = density + severity * air * disease
    return _expose(density, rng)


def _plane(values: Values) -> Plane:
    return np.asarray(values, dtype=np.float32)


def _step(level: Values, width: float) -> Plane:
    """Rise smoothly from 0 where `level` is below 0 to 1 where it is above `width`."""
    part = _plane(level * np.float32(1 / width))  # then in place: most of the drawing time goes into these two
    np.clip(part, 0, 1, out=part)
    rise = 3 - 2 * part
    rise *= part
    rise *= part
    return rise


def _ridge(distance: Values, width: float) -> Plane:
    """1 on the line where `distance` is 0, fading within about `width`."""
    height = _plane(distance * np.float32(1 / width))
    height *= -height
    return np.exp(height, out=height)


def _clouds(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> Plane:
    """Smooth noise of mean 0 and deviation about 1, with `cells` cells over the height of the picture."""
    grid = rng.standard_normal((cells + 3, round(1.3 * cells) + 3), dtype=np.float32)
    noise = cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return _plane(1.3 * noise)


def _body(patient: Patient, frame: _Frame) -> Plane:
    """Thickness of the trunk, 0 to 1: narrow at the neck, wide from the shoulders down."""
    shoulder = _step(frame.y + 1.12 - 0.15 * np.abs(frame.x), 0.42)
    side = 0.26 + (patient.lung_centre + patient.lung_width - 0.08) * shoulder - 0.04 * frame.y
    return _plane(np.sqrt(np.clip(1 - np.square(frame.x / side), 0, 1)) ** patient.roundness)


def _lungs(patient: Patient, frame: _Frame) -> Plane:
    """1 inside the lung fields, 0 outside; they lean together at the top and go on below the diaphragm."""
    outward = np.abs(frame.x) - patient.lung_centre - 0.07 * frame.y
    outward = np.where(outward > 0, outward, 1.12 * outward) / (patient.lung_width * (1 + 0.14 * frame.y))
    upward = np.maximum(0.15 - frame.y, 0) / (0.15 - patient.apex)
    return _step(1 - np.abs(outward) ** 2.6 - upward**2.8, 0.28)


def _below_domes(patient: Patient, frame: _Frame) -> Plane:
    """1 below the diaphragm, whose left dome stands a little lower than the right one."""
    beside = (np.abs(frame.x) - patient.lung_centre + 0.06) / patient.lung_width
    surface = patient.dome + np.float32(0.06) * (frame.x > 0) + 0.11 * np.square(beside) * (1 + 0.25 * beside)
    return _step(frame.y - surface, 0.05)


def _middle(patient: Patient, frame: _Frame) -> Plane:
    """Spine with its discs, heart and great vessels, and the air in the windpipe."""
    spine = _ridge(frame.x, 0.11) * (0.20 + 0.035 * np.cos(2 * np.pi * frame.y / (0.8 * patient.rib_gap)))
    waist = 0.17 + 0.10 * np.square(frame.y + 0.25)
    vessels = 0.30 * _step(waist - np.abs(frame.x - 0.02), 0.12)
    knob = 0.30 * _step(0.0144 - np.square(frame.x - 0.11) - np.square(frame.y + 0.33), 0.011)
    shadow = np.maximum(np.maximum(vessels, knob), _heart(patient, frame))
    windpipe = 0.16 * _ridge(frame.x + 0.015, 0.05) * _step(-0.22 - frame.y, 0.12)
    return _plane(0.7 * spine + shadow - windpipe)


def _heart(patient: Patient, frame: _Frame) -> Plane:
    """Heart shadow: an oval that leans to the patient's left and rests on the diaphragm."""
    x, y = frame.x - 0.13, frame.y - patient.dome + 0.24
    along, across = 0.87 * x + 0.5 * y, 0.87 * y - 0.5 * x
    level = 1 - np.square(along / (1.1 * patient.heart)) - np.square(across / (0.86 * patient.heart))
    return _plane(0.42 * _step(level, 0.45))


def _bones(patient: Patient, frame: _Frame) -> Plane:
    """Ribs at the back and, fainter, at the front, collar bones and the edges of the shoulder blades."""
    beside = np.abs(frame.x)
    cage = patient.lung_centre + patient.lung_width + 0.05
    wall = _step(cage - beside + 0.05 * frame.y, 0.10) * _step(frame.y - patient.apex + 0.02, 0.10)
    back = _rib_set(frame.y - patient.rib_drop * (2.0 * np.square(beside) - 0.5 * beside), patient.rib_gap)
    front = _rib_set(frame.y + 0.9 * beside - 0.5 * np.square(beside), 1.15 * patient.rib_gap)
    back, front = back * _step(0.75 - frame.y, 0.3), front * _step(beside - 0.30, 0.2) * _step(0.45 - frame.y, 0.3)
    collar = frame.y - patient.apex - 0.13 + patient.clavicle_tilt * beside + 0.03 * np.sin(5 * beside)
    collar = (_ridge(collar, 0.035) + 0.5 * _ridge(np.abs(collar) - 0.03, 0.012)) * _step(beside - 0.06, 0.08)
    blade = _ridge(beside - 0.72 - 0.25 * np.square(frame.y + 0.3), 0.03) * _step(0.1 - np.abs(frame.y + 0.4), 0.3)
    return _plane(wall * (0.10 * back + 0.045 * front) + 0.12 * collar + 0.05 * blade)


def _rib_set(height: Values, gap: float) -> Plane:
    """Bands of 1 every `gap`, with brighter rims, since a rib is a tube of hard bone."""
    off = np.abs(height / gap - np.round(height / gap))
    return _plane(0.7 * _step(0.27 - off, 0.12) + 0.4 * _ridge(off - 0.19, 0.05))


def _vessels(frame: _Frame, rng: np.random.Generator) -> Plane:
    """Vessel markings, dense at the roots of the lungs; and overlying tissue that makes any lung uneven."""
    root = np.hypot(np.abs(frame.x) - 0.24, 0.7 * (frame.y + 0.02))
    fine, coarse = _clouds(rng, frame.x.shape, 26), _clouds(rng, frame.x.shape, 12)
    branches = _ridge(fine, 0.45) * _ridge(coarse, 1.0) + 0.7 * _ridge(coarse, 0.22)
    strength = rng.uniform(0.6, 1.5)
    tissue = 0.035 * _clouds(rng, frame.x.shape, 5) + rng.uniform(-0.05, 0.08)
    hila = 0.10 * _ridge(root, 0.16) + 0.11 * branches * _ridge(root, 0.34)
    return _plane(strength * hila + 0.02 * branches + tissue)


def _consolidation(patient: Patient, frame: _Frame, rng: np.random.Generator) -> Plane:
    """Cloudy shadows in one lung or both: a lobe filled, or patches."""
    first = 1 if rng.random() < 0.5 else -1
    lobar = rng.random() < 0.4
    further = 0 if lobar else int(rng.integers(0, 3))
    sides = [first, *(-first if rng.random() < 0.35 else first for _ in range(further))]
    total = np.zeros_like(frame.x)
    for side in sides:
        size = patient.patch * (rng.uniform(0.24, 0.36) if lobar else rng.uniform(0.13, 0.24))
        x = frame.x - side * (patient.lung_centre + rng.uniform(-0.12, 0.14))
        y = frame.y - rng.uniform(-0.45, patient.dome - 0.08)
        edge = 0.16 * _clouds(rng, x.shape, 9) + 0.07 * _clouds(rng, x.shape, 22)
        radius = np.hypot(x, y / rng.uniform(0.8, 1.3)) / size
        total = np.maximum(total, _step(1.25 - radius + edge, 1.0))
    grain = 1 + 0.13 * _clouds(rng, total.shape, 16) + 0.08 * _clouds(rng, total.shape, 40)
    return _plane(0.78 * total * grain)


def _haze(frame: _Frame, rng: np.random.Generator) -> Plane:
    """A veil over both lungs, uneven, densest around their roots, with a net of fine lines in it."""
    root = np.hypot(np.abs(frame.x) - 0.28, 0.7 * (frame.y - 0.08))
    veil = np.clip(0.75 + 0.35 * _clouds(rng, frame.x.shape, 4), 0.1, 1.6) * (0.55 + 0.45 * _ridge(root, 0.45))
    net = _ridge(_clouds(rng, frame.x.shape, 34), 0.5) * (1 + 0.3 * _clouds(rng, frame.x.shape, 9))
    return _plane(veil * (0.44 + 0.17 * net))


def _expose(density: Plane, rng: np.random.Generator) -> Image:
    """Turn density into grey levels: blur, an uneven field, tube voltage, grain."""
    height, width = density.shape
    density = cv2.GaussianBlur(density, (0, 0), rng.uniform(0.6, 1.2)).astype(np.float32)
    slope_x, slope_y = rng.normal(0, 0.035, 2)
    field = slope_x * np.linspace(-1, 1, width)[None, :] + slope_y * np.linspace(-1, 1, height)[:, None]
    density = np.maximum(density + np.float32(field), 0) * np.float32(rng.uniform(0.75, 1.35))
    level = rng.uniform(0.0, 0.08) + rng.uniform(0.88, 1.0) * (1 - np.exp(-1.35 * density)) ** rng.uniform(0.85, 1.25)
    grain = cv2.GaussianBlur(rng.standard_normal(density.shape, dtype=np.float32), (0, 0), 0.6)
    level = level + rng.uniform(0.012, 0.035) * grain
    return np.asarray(np.clip(255 * level, 0, 255), dtype=np.uint8)
