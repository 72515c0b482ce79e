"""Shared by the scripts: arguments, and the log of the epochs."""

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that every script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--train", type=Path, required=True, help="folder with one folder of JPEG files per class")
    parser.add_argument("--validation", type=Path, required=True, help="the same, for validation")
    parser.add_argument("--space", type=Path, required=True, help="JSON file: searched ranges and the baseline")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs-file", type=Path, required=True, help="file for one line of JSON per epoch")
    parser.add_argument("--work", type=Path, required=True, help="folder for files of the library")
    parser.add_argument("--trials", type=int, help="number of trials (default: unlimited)")
    return parser


def started() -> float:
    """Return when this process was started, as in `time.time`."""
    return float(os.environ.get("RACE_STARTED") or time.time())


def trials_begun(epochs_file: Path) -> int:
    """Return the number of trials with a line, which is the number of the next trial."""
    if not epochs_file.exists():
        return 0
    return len({json.loads(line)["trial"] for line in epochs_file.read_text().splitlines()})


class EpochLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Appends the metrics and the time of each epoch to a file, after another callback has kept the weights.

    Args:
        path: File of JSON lines.
        trial: Number of the training.
        start: When the process was started, as in `time.time`.
        values: Hyperparameters of the network.
        weights: File where the library keeps the weights of the training's best epoch, below the folder of its files.
    """

    def __init__(self, path: Path, trial: int, start: float, values: Mapping[str, Any], weights: Path) -> None:
        super().__init__()
        self.path, self.trial, self.start = path, trial, start
        self.about = {"values": dict(values), "weights": str(weights)}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Append the line and flush it."""
        names = ("val_accuracy", "val_auc", "val_loss")
        line = {"seconds": time.time() - self.start, "trial": self.trial, "epoch": epoch + 1, **self.about}
        line |= {name: float((logs or {})[name]) for name in names}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
