"""Training speed of the published script, plain Keras and pneumosearch, measured alternately.

Each side has a process of its own: what pneumosearch sets in the environment of its training must not help the others.
"""

import os
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from benchmarks.common import ROOT, cut_folder, print_result
from pneumosearch._utils.hardware import GROWING

BATCH = 32
SIDES = ("published", "keras", "pneumosearch")


def training(
    data: Annotated[Path, typer.Option(help="Folder of X-rays at the size for the published script.")],
    steps: Annotated[int, typer.Option(min=2, help="Batches of 32 per epoch.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Trainings per side.")] = 3,
    device: Annotated[
        Literal["cpu", "gpu"], typer.Option(help="gpu: with KERAS_BACKEND as set; the published script is left out.")
    ] = "cpu",
    precision: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Precision of pneumosearch.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time the training of the baseline: published script, plain Keras in memory, pneumosearch; A B C A B C.

    Each round trains each side for two epochs and counts the second. For pneumosearch it is the whole epoch with
    evaluation and checkpoint; for the others only the time between the first and the last batch.

    Example: scripts/bench training --data chest_xray
    """
    speeds, first, versions = _measured(data, steps, rounds, device, precision)
    medians = {side: statistics.median(values) for side, values in speeds.items()}
    ours = medians["pneumosearch"]
    result: dict[str, Any] = {f"{side}_images_per_s": medians.get(side) for side in SIDES}
    result |= {f"ratio_to_{side}": ours / medians[side] if side in medians else None for side in SIDES[:2][::-1]}
    result |= {
        "pneumosearch_first_epoch_extra_s": first,
        "rounds": speeds,
        "steps": steps,
        "precision": precision,
        "device": device,
        **versions,
    }
    rows = [(s, medians[s], 1000 / medians[s], min(speeds[s]), max(speeds[s]), ours / medians[s]) for s in medians]
    print_result(
        result, rows, ("side", "images/s", "ms an image", "least", "most", "pneumosearch is faster by"), as_json
    )


def _measured(
    data: Path, steps: int, rounds: int, device: str, precision: str
) -> tuple[dict[str, list[float]], float, dict[str, str]]:
    """Return the images a second of each side by round, what a first epoch takes longer in s, and the versions."""
    os.environ.update({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else GROWING)  # the processes share a GPU
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        work = Path(name)
        folder = cut_folder(data, work / "images", steps * BATCH, 2 * BATCH)
        sides: dict[str, Callable[[], float]] = {
            "published": partial(_published, folder, work),
            "keras": partial(_plain_keras, folder, work, steps),
            "pneumosearch": partial(_pneumosearch, folder, work, precision),
        }
        if device == "gpu":
            del sides["published"]
        processes = {side: stack.enter_context(_process()) for side in sides}
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        first = processes["pneumosearch"].submit(_first_epoch_extra, folder, work, precision).result()
        for _ in range(rounds):
            for side, measure in sides.items():
                speeds[side].append(processes[side].submit(measure).result())
                print(f"{side}: {speeds[side][-1]:.1f} images/s", file=sys.stderr)
        versions = processes["pneumosearch"].submit(_versions).result()
    return speeds, first, versions


def _process() -> ProcessPoolExecutor:
    """Return a process that keeps what it has imported from one call to the next."""
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))


def _versions() -> dict[str, str]:
    from pneumosearch.network.backend import versions

    return {name: version for name, version in versions().items() if name not in ("machine", "python")}


class _BatchClock:
    """The time between the first and the last batch of the last epoch, as a Keras callback."""

    def __new__(cls) -> Any:  # the class below needs Keras, which is imported late
        import keras

        class Clock(keras.callbacks.Callback):  # type: ignore[misc]
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.times: list[float] = []

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                self.times.append(time.perf_counter())

            @property
            def images_per_s(self) -> float:
                return (len(self.times) - 1) * BATCH / (self.times[-1] - self.times[0])

        return Clock()


def _published(folder: Path, work: Path) -> float:
    """Run scripts/published.py unchanged, with a clock as additional callback."""
    import keras

    clock, fit = _BatchClock(), keras.Model.fit

    def timed_fit(self: Any, *arguments: Any, callbacks: Any = (), **keywords: Any) -> Any:
        return fit(self, *arguments, callbacks=[*callbacks, clock], verbose=0, **keywords)

    argv, keras.Model.fit = sys.argv, timed_fit
    try:
        sys.argv = ["published.py", str(folder), "2"]
        with chdir(work), (work / "published.log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
            runpy.run_path(str(ROOT / "scripts" / "published.py"), run_name="__main__")
    finally:
        sys.argv, keras.Model.fit = argv, fit
    return float(clock.images_per_s)


def _plain_keras(folder: Path, work: Path, steps: int) -> float:
    """Train plain layers in float32 with `fit` on arrays in memory, without augmentation."""
    import keras

    from pneumosearch.config import TrialConfig
    from pneumosearch.network.model import plain_model

    train = _dataset(folder, work).train
    indices = train.indices[: steps * BATCH]
    images = np.repeat(train.pixels[indices][..., None].astype(np.float32) / 255, 3, axis=-1)
    keras.backend.clear_session()
    model, clock = plain_model(TrialConfig()), _BatchClock()
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    model.fit(images, train.labels[indices], batch_size=BATCH, epochs=2, verbose=0, callbacks=[clock])
    return float(clock.images_per_s)


def _pneumosearch(folder: Path, work: Path, precision: Any) -> float:
    """Train two epochs like a trial; the second counts, with its evaluation and checkpoint."""
    steps, (_, second) = _two_epochs(folder, work, precision)
    return steps * BATCH / second


def _first_epoch_extra(folder: Path, work: Path, precision: Any) -> float:
    """Return the seconds that tracing and compiling add to the first epoch of a new network shape."""
    _, (first, second) = _two_epochs(folder, work, precision)
    return first - second


def _two_epochs(folder: Path, work: Path, precision: Any) -> tuple[int, tuple[float, float]]:
    from pneumosearch.config import RunSpec, TrialConfig
    from pneumosearch.training.loop import train

    dataset = _dataset(folder, work)
    run = RunSpec(config=TrialConfig(epochs=2), precision=precision)
    with tempfile.TemporaryDirectory(dir=work) as checkpoints:
        first, second = train(run, dataset, Path(checkpoints), lambda history: None).history
    return len(dataset.train.indices) // BATCH, (first.seconds, second.seconds)


def _dataset(folder: Path, work: Path) -> Any:
    from pneumosearch.data.manifest import read_manifest
    from pneumosearch.data.protocols import DataSource

    return DataSource(read_manifest(folder), work / "cache").load(
        "original", 150, write_down=lambda fingerprint: None
    )  # timed, in no store
