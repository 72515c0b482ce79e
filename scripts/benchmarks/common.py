"""Shared by the benchmarks: description of the machine, intervals, reduced data folders, printing."""

import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.table import Table
from scipy.stats import t

ROOT = Path(__file__).resolve().parent.parent.parent
SUFFIXES = (".jpeg", ".jpg", ".png")


def circumstances() -> dict[str, Any]:
    """Return the circumstances that belong to each published measurement: commit, machine, versions, date."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "commit": commit or "unknown",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Return the model of the processor and the features that determine the speed of a training."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    abilities = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{fields.get('model name', platform.machine())} ({', '.join(abilities)})"


def in_points(differences: npt.ArrayLike) -> list[float]:
    """Return the mean of some differences of fractions and its 95% interval by Student's t, in points."""
    values = 100 * np.asarray(differences, dtype=float)
    n, mean = len(values), float(values.mean())
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5)
    return [round(value, 2) for value in (mean, mean - half, mean + half)]


def print_result(
    result: dict[str, Any], rows: Iterable[Sequence[object]], headings: Sequence[str], json_: bool
) -> None:
    """Print one JSON object, or a table of the rows followed by the circumstances."""
    result = {**result, **circumstances()}
    if json_:
        print(json.dumps(result, indent=2))
        return
    print_table(rows, headings)
    Console().print(", ".join(f"{key} {result[key]}" for key in ("commit", "date", "processor", "cores")))


def print_table(rows: Iterable[Sequence[object]], headings: Sequence[str]) -> None:
    """Print a table whose first column holds names."""
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console().print(table)


def cut_folder(data: Path, into: Path, n_train: int, n_test: int) -> Path:
    """Link images of `data` into a folder with train, val and test of these sizes; few images are used repeatedly."""
    for split, n in (("train", n_train), ("val", 16), ("test", n_test)):
        for label in ("NORMAL", "PNEUMONIA"):
            folder = data / (split if (data / split).is_dir() else "train") / label
            images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            target = into / split / label
            target.mkdir(parents=True)
            for number, image in enumerate(islice(cycle(images), n // 2)):
                (target / f"{split}{number}-{image.name}").symlink_to(image.resolve())
    return into
