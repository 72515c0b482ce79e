"""The same training on other backends of Keras, each in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.epoch import History
from pneumosearch.training.loop import train
from tests.conftest import ROOT
from tests.support.other_backend import RUN, step_baseline


@pytest.fixture(scope="module")
def on_tensorflow(phantoms: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with the checkpoint after the first epoch and the baseline's weights; and the result of all epochs."""
    folder = tmp_path_factory.mktemp("tensorflow")
    dataset = DataSource(read_manifest(phantoms), cache_dir).load(RUN.protocol, RUN.config.image_size)

    def keep_first(history: History) -> None:
        if len(history) == 1:
            shutil.copytree(folder / "run", folder / "first")

    history = train(RUN, dataset, folder / "run", keep_first).history
    baseline = step_baseline(folder / "first" / "baseline.npz")
    return folder / "first", {"history": [epoch.numbers() for epoch in history], "baseline": baseline}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backend_goes_on_with_equal_results(
    backend: str, on_tensorflow: tuple[Path, Any], phantoms: Path, cache_dir: Path, tmp_path: Path
) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    start, expected = on_tensorflow
    folder = shutil.copytree(start, tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.other_backend", str(phantoms), str(cache_dir), str(folder)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    for ours, theirs in zip(result["history"], expected["history"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=2e-3)
        assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=2e-3)
    assert np.allclose(result["baseline"]["losses"], expected["baseline"]["losses"], rtol=1e-3)
    assert np.allclose(result["baseline"]["outputs"], expected["baseline"]["outputs"], atol=2e-3)
