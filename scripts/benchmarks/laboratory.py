"""What a planted shortcut costs: the published network on phantoms, judged by validation and by the test folder."""

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer

from benchmarks.common import print_result
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.data.planted_shifts import SHIFTS, read_shift
from pneumosearch.data.protocols import Dataset, DataSource, ImageSet
from pneumosearch.default_study import PHANTOM_FIXED
from pneumosearch.metrics import Scores, score
from pneumosearch.network.backend import resolved_precision
from pneumosearch.published import PUBLISHED_SEED
from pneumosearch.training.loop import predict, train

_FIGURES: Final = ("last_validation", "validation", "test", "test_sensitivity", "test_specificity", "test_auc")
_PLAIN: Final = "none"


def laboratory(
    shift: Annotated[
        list[str] | None,
        typer.Option(help="Planted shifts, each in a folder of its own; NAME[=STRENGTH] or NAME+NAME", metavar="SHIFT"),
    ] = None,
    images: Annotated[int, typer.Option(help="Phantoms in a folder.")] = 1900,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings in each folder, with seeds 232, 233, ...")] = 3,
    output: Annotated[Path, typer.Option(help="Every training is a line here; those that are there are kept.")] = Path(
        "results/laboratory.csv"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train the network of the phantom study's baseline with and without planted shifts; the test folder judges too.

    Example: scripts/bench laboratory --shift compression --shift compression+exposure --seeds 3
    """
    runs = _read(output)
    for name in (_PLAIN, *(shift if shift is not None else SHIFTS)):
        missing = [k for k in range(seeds) if (name, str(PUBLISHED_SEED + k)) not in runs]
        for row in _trained(name, images, [PUBLISHED_SEED + k for k in missing]) if missing else ():
            runs[name, str(row["seed"])] = {key: str(value) for key, value in row.items()}
            _write(output, list(runs.values()))
    print_result({"runs": list(runs.values())}, _rows(list(runs.values())), ("planted", "seeds", *_FIGURES), as_json)


def _trained(name: str, images: int, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Draw phantoms and train; yield a row for each seed."""
    shifts = {} if name == _PLAIN else dict(read_shift(text) for text in name.split("+"))
    config = TrialConfig.model_validate(PHANTOM_FIXED)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantoms(folder / "phantoms", n_images=images, shifts=shifts)
        source = DataSource(read_manifest(folder / "phantoms"), folder / "cache")
        dataset = source.load("holdout", config.image_size)
        pixels = source.sealed_test(config.image_size, write_down=lambda fingerprint: None)  # phantoms: no secret
        labels = np.array([image.label for image in pixels.part.images], dtype=np.float32)
        test = ImageSet(pixels.array, labels, np.arange(len(labels)))
        for seed in seeds:
            start = time.process_time()
            figures = _figures(RunSpec(config=config, seed=seed, precision=resolved_precision("auto")), dataset, test)
            cpu = round(time.process_time() - start, 1)
            yield {"planted": name, "images": images, "seed": seed, **figures, "cpu_s": cpu}


def _figures(run: RunSpec, dataset: Dataset, test: ImageSet) -> dict[str, float]:
    with TemporaryDirectory() as temporary:
        result = train(run, dataset, Path(temporary), lambda history: None)
    validation, judged = (_scores(result.model, images) for images in (dataset.evaluation, test))
    values = (
        result.history[-1].evaluation("accuracy"),
        validation.accuracy,
        judged.accuracy,
        judged.sensitivity,
        judged.specificity,
        judged.auc,
    )
    return {name: round(value, 4) for name, value in zip(_FIGURES, values, strict=True)}


def _scores(model: Any, images: ImageSet) -> Scores:
    return score(images.labels[images.indices], predict(model, images))


def _rows(runs: list[dict[str, str]]) -> list[tuple[object, ...]]:
    """Return the means over seeds of each kind of phantoms."""
    rows: list[tuple[object, ...]] = []
    for name in dict.fromkeys(run["planted"] for run in runs):
        some = [run for run in runs if run["planted"] == name]
        rows.append((name, len(some), *(mean(float(run[figure]) for run in some) for figure in _FIGURES)))
    return rows


def _read(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(run["planted"], run["seed"]): run for run in csv.DictReader(file)}


def _write(path: Path, runs: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(runs[0]))
        writer.writeheader()
        writer.writerows(runs)
