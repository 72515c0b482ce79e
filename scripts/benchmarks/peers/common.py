"""What the scripts share: their arguments, and the line that each epoch leaves."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import keras


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that every script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--train", type=Path, required=True, help="folder of a folder of JPEG files of each class")
    parser.add_argument("--validation", type=Path, required=True, help="the same, for validation")
    parser.add_argument("--space", type=Path, required=True, help="JSON file: what is searched, and the baseline")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs-file", type=Path, required=True, help="gets a line of JSON from each epoch")
    parser.add_argument("--work", type=Path, required=True, help="folder for the library's own files")
    parser.add_argument("--trials", type=int, help="stop after so many (default: never)")
    return parser


def started() -> float:
    """Return when this process was started, as `time.time` counts."""
    return float(os.environ.get("RACE_STARTED") or time.time())


def trials_begun(epochs_file: Path) -> int:
    """Return how many trials have left a line, which is the number of the next."""
    if not epochs_file.exists():
        return 0
    return len({json.loads(line)["trial"] for line in epochs_file.read_text().splitlines()})


class EpochLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Appends what each epoch gave, and when.

    Args:
        path: File of JSON lines.
        trial: Number of the training.
        start: When the process was started, as `time.time` counts.
    """

    def __init__(self, path: Path, trial: int, start: float) -> None:
        super().__init__()
        self.path, self.trial, self.start = path, trial, start

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the line, at once."""
        names = ("val_accuracy", "val_auc", "val_loss")
        line = {"seconds": time.time() - self.start, "trial": self.trial, "epoch": epoch + 1}
        line |= {name: float((logs or {})[name]) for name in names}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
