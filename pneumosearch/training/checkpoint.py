"""Checkpoints: the state of a training after an epoch in one file.

The state is the weights, the optimiser, the random state, the callbacks and the history.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pneumosearch._utils.atomic import replacing
from pneumosearch.config import RunSpec
from pneumosearch.records.epoch import EpochMetrics, History

#: Name of the checkpoint in the folder of a trial.
CHECKPOINT_FILE: Final = "checkpoint.npz"

#: Attributes in which the Keras callbacks keep state between epochs.
_CALLBACK_STATE: Final = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch")

_DAMAGE: Final = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Checkpoint:
    """All state that the next epoch depends on."""

    run: RunSpec
    fingerprint: str  # of the development images
    history: History
    arrays: list[npt.NDArray[Any]]  # in the order of `_variables`
    callbacks: list[dict[str, float]]
    stop_training: bool

    @classmethod
    def of(cls, run: RunSpec, fingerprint: str, history: History, model: Any, callbacks: list[Any]) -> "Checkpoint":
        """Return a copy of the state of a training."""
        arrays = [np.asarray(variable) for variable in _variables(model)]
        states = [
            {name: float(getattr(callback, name)) for name in _CALLBACK_STATE if _is_number(callback, name)}
            for callback in callbacks
        ]
        return cls(run, fingerprint, history, arrays, states, bool(model.stop_training))

    def restore(self, model: Any, callbacks: list[Any]) -> None:
        """Set the state of a newly built training of the same run."""
        for variable, array in zip(_variables(model), self.arrays, strict=True):
            variable.assign(array)
        for callback, state in zip(callbacks, self.callbacks, strict=True):
            for name, value in state.items():
                setattr(callback, name, value)
        model.stop_training = self.stop_training


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint to `folder`, completely or not at all."""
    meta = {
        "run": checkpoint.run.model_dump(),
        "fingerprint": checkpoint.fingerprint,
        "history": [epoch.model_dump() for epoch in checkpoint.history],
        "callbacks": checkpoint.callbacks,
        "stop_training": checkpoint.stop_training,
    }
    arrays = {f"variable_{i:04d}": array for i, array in enumerate(checkpoint.arrays)}
    with replacing(folder / CHECKPOINT_FILE) as temporary:
        np.savez(temporary, allow_pickle=False, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)


def read_checkpoint(folder: Path, run: RunSpec, fingerprint: str) -> Checkpoint | None:
    """Return the checkpoint in `folder`; None if there is none, it is damaged, or it is of another run or data."""
    try:
        with (folder / CHECKPOINT_FILE).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = _meta(file, run, fingerprint)
            if meta is None:
                return None
            arrays = [file[name] for name in sorted(file.files) if name.startswith("variable_")]
    except _DAMAGE:
        return None  # missing or damaged: the training restarts from epoch 1 and gives the same numbers
    history = tuple(EpochMetrics.model_validate(epoch) for epoch in meta["history"])
    return Checkpoint(run, fingerprint, history, arrays, meta["callbacks"], meta["stop_training"])


def saved_epochs(folder: Path, run: RunSpec, fingerprint: str) -> int:
    """Return the number of epochs in the checkpoint of `run` in `folder`, 0 if there is none. Does not read weights."""
    try:
        with (folder / CHECKPOINT_FILE).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = _meta(file, run, fingerprint)
    except _DAMAGE:
        return 0
    return len(meta["history"]) if meta else 0


def _meta(file: Any, run: RunSpec, fingerprint: str) -> Any:
    """Return the metadata of a checkpoint file; None if it is of another run or data."""
    meta = json.loads(file["meta"].tobytes())
    return meta if RunSpec.model_validate(meta["run"]) == run and meta["fingerprint"] == fingerprint else None


def _variables(model: Any) -> list[Any]:
    from pneumosearch.network.model import state_variables

    return state_variables(model)


def _is_number(callback: Any, name: str) -> bool:
    return isinstance(getattr(callback, name, None), int | float | np.number)
