"""A study whose trials are logged to other tools, without a training."""

from pathlib import Path

import optuna
from PIL import Image

from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec
from pneumosearch.tracking.logged_study import LoggedStudy
from tests.support.fakes import a_description

SPEC = StudySpec(name="tiny")


def begun_study(store: Store, n_trials: int = 2, spec: StudySpec = SPEC) -> LoggedStudy:
    """A study in the store whose trials have begun; each has learning curves and a network."""
    study = store.open_study(spec.name, "search", spec.metric, spec.identity(), a_description())
    for _ in range(n_trials):
        _add_files(store, study.ask())
    return LoggedStudy(store, spec)


def _add_files(store: Store, trial: optuna.Trial) -> None:
    folder = store.results / f"made-{trial.number}"
    folder.mkdir(parents=True)
    for path, mimetype in ((_picture(folder), "image/png"), (_network(folder, trial.number), "application/zip")):
        store.add_artifact(trial, path, mimetype)


def _picture(folder: Path) -> Path:
    path = folder / "learning-curves.png"
    Image.new("RGB", (8, 4)).save(path)
    return path


def _network(folder: Path, number: int) -> Path:
    path = folder / f"trial-{number}.keras"
    path.write_bytes(b"a network")
    return path
