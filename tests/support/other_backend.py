"""Run by test_backends with KERAS_BACKEND set: goes on with a training, and steps the baseline; prints JSON.

Usage: python -m tests.support.other_backend PHANTOMS CACHE FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.network.compile_cache import compiled_model
from pneumosearch.training.loop import train
from tests.conftest import TINY

STILL = {f"dropout_{k}": 0.0 for k in ("conv", 1, 2, 3)}  # each backend draws its own random numbers
RUN = RunSpec(config=TrialConfig.checked({**TINY, **STILL, "epochs": 3}, "test"))
BASELINE = RunSpec(config=TrialConfig.checked(dict(STILL), "test"))


def go_on(phantoms: Path, cache: Path, folder: Path) -> list[dict[str, float]]:
    """Train RUN to its end, from the checkpoint in `folder` where there is one."""
    dataset = DataSource(read_manifest(phantoms), cache).load(RUN.protocol, RUN.config.image_size)
    return [epoch.numbers() for epoch in train(RUN, dataset, folder, lambda history: None).history]


def step_baseline(weights: Path) -> dict[str, Any]:
    """Two steps of the baseline from given weights; written to `weights` first where there are none."""
    model = compiled_model(BASELINE)
    if not weights.exists():
        np.savez(weights, *model.get_weights())
    with np.load(weights) as file:
        model.set_weights([file[name] for name in file.files])
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 150, 150, 1), dtype=np.uint8)
    labels = np.array([[0], [1], [1], [0]], dtype=np.float32)
    losses = [float(model.train_on_batch(pixels, labels, return_dict=True)["loss"]) for _ in range(2)]
    return {"losses": losses, "outputs": np.asarray(model.predict_on_batch(pixels)).ravel().tolist()}


def main() -> None:
    phantoms, cache, folder = (Path(argument) for argument in sys.argv[1:])
    result = {"history": go_on(phantoms, cache, folder), "baseline": step_baseline(folder / "baseline.npz")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
