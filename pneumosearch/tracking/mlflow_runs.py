"""Trials as runs of MLflow: an experiment for a study, and in it a run for each trial, found again by its tags."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from pneumosearch.records.trial import TrialRecord
from pneumosearch.storage.trial_files import network_file
from pneumosearch.tracking.figures import ENDED, ended_at, epoch_figures, final_figures, parameters, words
from pneumosearch.tracking.logged_study import LoggedStudy

if TYPE_CHECKING:
    from mlflow.entities import Run

_STUDY: Final = "pneumosearch.study"
_TRIAL: Final = "pneumosearch.trial"
_STATE: Final = "pneumosearch.state"  # as of the trial; written last
_EPOCH: Final = "epoch"  # a figure of every epoch: its last value says how many are there

#: Larger networks stay in the store. The published network has 9 MB.
MAX_NETWORK: Final = 64 * 2**20  # bytes

_EPOCHS_A_REQUEST: Final = 30  # MLflow takes 1,000 figures, and an epoch has up to 25
_TEXT: Final = 5000  # characters of a tag
#: What MLflow shall do unless the user's environment says otherwise: the mirror tries again itself.
_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # s
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where a command may print JSON
}


@dataclass
class _Known:
    """A run, and how much of its trial it has."""

    identifier: str
    epochs: int
    done: bool


class MlflowRuns:
    """The runs of a study on an MLflow server, or in its database.

    Args:
        uri: Of the server or database, as MLflow takes it.
        study: Whose trials are written.

    Raises:
        mlflow.exceptions.MlflowException: The server cannot be used.
    """

    def __init__(self, uri: str, study: LoggedStudy) -> None:
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)  # it tells of each table that it makes
        self._client, self._study = MlflowClient(tracking_uri=uri), study
        self._experiment = self._experiment_of(study.name)
        self._known: dict[int, _Known] = {int(r.data.tags[_TRIAL]): _known(r) for r in self._runs()}

    def write(self, trial: TrialRecord) -> None:
        """Write what the run of a trial lacks.

        Raises:
            mlflow.exceptions.MlflowException: The server cannot be used.
        """
        try:
            run = self._run(trial)
            if run.done:
                return
            self._write_epochs(run, trial)
            if trial.state in ENDED:
                self._end(run, trial)
        except Exception:
            self._known.pop(trial.number, None)  # the next attempt asks the server what it has
            raise

    def close(self) -> None:
        """Do nothing: each request has its own connection."""

    def _experiment_of(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id) if found else str(self._client.create_experiment(name))

    def _runs(self, number: int | None = None) -> Iterator["Run"]:
        """Look for the runs of this study, or for that of its trial `number`."""
        wanted, token = f"tags.`{_STUDY}` = '{self._study.key}'", None
        if number is not None:
            wanted += f" and tags.`{_TRIAL}` = '{number}'"
        while True:
            page = self._client.search_runs([self._experiment], wanted, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _run(self, trial: TrialRecord) -> _Known:
        """Return the run of a trial, made where it is not there."""
        if trial.number not in self._known:
            there = next(self._runs(trial.number), None)
            self._known[trial.number] = _known(there) if there else self._new_run(trial)
        return self._known[trial.number]

    def _new_run(self, trial: TrialRecord) -> _Known:
        from mlflow.entities import Param

        about = {_STUDY: self._study.key, _TRIAL: str(trial.number), "mlflow.source.name": "pneumosearch"}
        run = self._client.create_run(self._experiment, tags=about, run_name=f"trial {trial.number}")
        chosen = [Param(name, str(value)) for name, value in parameters(trial).items()]
        self._client.log_batch(run.info.run_id, params=chosen)
        return _Known(run.info.run_id, 0, done=False)

    def _write_epochs(self, run: _Known, trial: TrialRecord) -> None:
        moments = {epoch: round(1000 * moment) for epoch, moment in ended_at(trial).items()}
        while new := trial.history[run.epochs : run.epochs + _EPOCHS_A_REQUEST]:
            figures = [
                (name, value, moments[epoch.epoch], epoch.epoch)
                for epoch in new
                for name, value in {**epoch_figures(epoch), _EPOCH: float(epoch.epoch)}.items()
            ]
            self._client.log_batch(run.identifier, metrics=_metrics(figures))
            run.epochs = new[-1].epoch

    def _end(self, run: _Known, trial: TrialRecord) -> None:
        moment, step = round(1000 * max(ended_at(trial).values(), default=time.time())), len(trial.history)
        figures = [(name, value, moment, step) for name, value in final_figures(trial).items()]
        self._client.log_batch(run.identifier, metrics=_metrics(figures))
        self._client.set_terminated(run.identifier, "FAILED" if trial.state == "failed" else "FINISHED")
        with _files(self._study, trial.number) as files:
            for path in files:
                self._client.log_artifact(run.identifier, str(path))
        from mlflow.entities import RunTag

        about = {f"pneumosearch.{key}": value[:_TEXT] for key, value in words(trial).items()}
        tags = [RunTag(key, value) for key, value in about.items()]
        self._client.log_batch(run.identifier, tags=tags)
        self._client.set_tag(run.identifier, _STATE, trial.state)
        run.done = True


def _known(run: "Run") -> _Known:
    return _Known(run.info.run_id, int(run.data.metrics.get(_EPOCH, 0)), done=_STATE in run.data.tags)


def _metrics(figures: list[tuple[str, float, int, int]]) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(*figure) for figure in figures]


@contextmanager
def _files(study: LoggedStudy, number: int) -> Iterator[list[Path]]:
    """Yield the artifacts of a trial as files: its learning curves, and its network where that is kept and small."""
    contents = {"learning-curves.png": study.picture(number), network_file(number): study.network(number)}
    with TemporaryDirectory() as folder:
        paths = []
        for name, content in contents.items():
            if content is not None and len(content) <= MAX_NETWORK:
                paths.append(Path(folder) / name)
                paths[-1].write_bytes(content)
        yield paths
