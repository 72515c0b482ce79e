"""Trials as runs of TensorBoard: DIR/STUDY-WHEN/trial-0007, written by TensorBoard's own library, without TensorFlow.

`EventFileWriter` and `hparams.api` of that library would import TensorFlow where it is installed; what they are made
of does not.
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pneumosearch.records.trial import TrialRecord
from pneumosearch.tracking.figures import ENDED, ended_at, epoch_figures, final_figures, parameters, words
from pneumosearch.tracking.logged_study import LoggedStudy

#: A figure that every epoch has: by it an epoch is known to be written.
_OF_EVERY_EPOCH: Final = "train/loss"


class TensorBoardRuns:
    """The runs of a study below a folder. A process that goes on with one writes a further file into its folder.

    Args:
        folder: The one that `tensorboard --logdir` shows.
        study: Whose trials are written.
    """

    def __init__(self, folder: Path, study: LoggedStudy) -> None:
        self._folder, self._study = folder.expanduser(), study
        self._writing: dict[int, _Run] = {}
        self._done: set[int] = set()

    def write(self, trial: TrialRecord) -> None:
        """Write what the run of a trial lacks.

        Raises:
            OSError: The file cannot be written.
        """
        if trial.number in self._done:
            return
        run = self._writing.get(trial.number) or _Run(self._folder / self._study.key / f"trial-{trial.number:04d}")
        self._writing[trial.number] = run
        try:
            run.begin({k: v for k, v in parameters(trial).items() if k in (*self._study.varied, "seed")}, trial)
            run.add_epochs(trial)
            if trial.state in ENDED:
                run.end(trial, self._study.picture(trial.number))
                self._forget(trial.number)
                self._done.add(trial.number)
        except Exception:
            self._forget(trial.number)  # the next attempt looks at what was written
            raise

    def close(self) -> None:
        """Close all files."""
        for number in list(self._writing):
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._writing.pop(number).close()


class _Run:
    """The folder of one trial. What is in it already, perhaps by another process, is not written again."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._epochs, self._tags = _written(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020d}.{platform.node()}.{os.getpid()}"
        self._file = RecordWriter((folder / name).open("xb"))
        self._add(file_version="brain.Event:2")

    def begin(self, hyperparameters: dict[str, Any], trial: TrialRecord) -> None:
        """Write the hyperparameters, for the tab HPARAMS."""
        from tensorboard.plugins.hparams import metadata, summary_v2

        if metadata.SESSION_START_INFO_TAG in self._tags:
            return
        summary = summary_v2.hparams_pb(hyperparameters, trial_id=f"trial {trial.number}")
        self._tags.add(metadata.SESSION_START_INFO_TAG)
        self._add(summary=summary)

    def add_epochs(self, trial: TrialRecord) -> None:
        """Write the epochs that are not there, each as one record."""
        moments = ended_at(trial)
        for epoch in trial.history[self._epochs :]:
            self._add(summary=_scalars(epoch_figures(epoch)), step=epoch.epoch, wall_time=moments[epoch.epoch])
            self._epochs = epoch.epoch

    def end(self, trial: TrialRecord, picture: bytes | None) -> None:
        """Write the final figures, words and the picture, as one record."""
        from tensorboard.plugins.hparams import metadata

        if metadata.SESSION_END_INFO_TAG in self._tags:
            return
        final = _session_end(failed=trial.state == "failed")
        final.MergeFrom(_scalars(final_figures(trial)))
        final.MergeFrom(_text("about", {"state": trial.state, **words(trial)}))
        if picture is not None:
            final.MergeFrom(_image("learning curves", picture))
        self._add(summary=final, step=len(trial.history))

    def close(self) -> None:
        """Close the file; what could not be written is said already."""
        with suppress(OSError):
            self._file.close()

    def _add(self, *, wall_time: float | None = None, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time() if wall_time is None else wall_time, **fields)
        self._file.write(event.SerializeToString())
        self._file.flush()


def _written(folder: Path) -> tuple[int, set[str]]:
    """Return the number of epochs that a run has, and the names of all that it has."""
    epochs, tags = 0, set[str]()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in _events(path):
            found = {value.tag for value in event.summary.value}
            epochs = max(epochs, event.step) if _OF_EVERY_EPOCH in found else epochs
            tags |= found
    return epochs, tags


def _events(path: Path) -> Iterator[Any]:
    """Read a file of events as far as it is whole: the last record may be cut off."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub import errors
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    reader = PyRecordReader_New(str(path))
    with suppress(errors.OutOfRangeError, errors.DataLossError):
        while True:
            reader.GetNext()
            yield Event.FromString(reader.record())


def _session_end(*, failed: bool) -> Any:
    """Return what ends a session of the tab HPARAMS. The library's own function for it would import TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
    data = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
    described = metadata.create_summary_metadata(data)
    tag = metadata.SESSION_END_INFO_TAG
    return Summary(value=[Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)])


def _scalars(figures: dict[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb

    together = Summary()
    for name, value in figures.items():
        together.MergeFrom(scalar_pb(name, value))
    return together


def _text(tag: str, about: dict[str, str]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.summary_v2 import text_pb

    rows = "\n".join(f"| {key} | {value.replace('|', '/')} |" for key, value in about.items())
    together = Summary()
    together.MergeFrom(text_pb(tag, f"| | |\n|---|---|\n{rows}"))
    return together


def _image(tag: str, png: bytes) -> Any:
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = Image.open(BytesIO(png)).size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=image)])
