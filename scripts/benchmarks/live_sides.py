"""The sides of the live race: how each is started, and how its epochs and failures are read."""

import importlib.util
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from benchmarks.live_data import Course
from pneumosearch.records.attributes import HISTORY
from pneumosearch.storage.queries import TrialRow, read_rows

EPOCHS_FILE: Final = "epochs.jsonl"
OURS: Final = "pneumosearch"
_ENDLESS: Final = 1_000_000  # trials


class Watch(Protocol):
    """Observes a running side."""

    def look(self, seconds: float) -> None:
        """Record the epochs since the last call, unless the side records them itself."""

    def failures(self) -> int:
        """Return the number of failed trials."""


class Side(Protocol):
    """A search in the race."""

    @property
    def name(self) -> str:
        """Name in tables and of the folder."""

    @property
    def missing(self) -> str | None:
        """Why the side cannot run on this machine; None if it can."""

    def command(self, course: Course, seed: int, folder: Path) -> list[str]:
        """Return the command of a run that may write to `folder`."""

    def watch(self, folder: Path) -> Watch:
        """Return the observer of that run."""


@dataclass(frozen=True)
class Peer:
    """A script that records its epochs itself.

    Args:
        name: Name of the side.
        start: Arguments of Python before those of `peers.common.parser`.
        needs: Module that the script requires.
    """

    name: str
    start: tuple[str, ...]
    needs: str = "keras"

    @property
    def missing(self) -> str | None:
        """Why the side cannot run on this machine; None if it can."""
        return None if importlib.util.find_spec(self.needs) else f"{self.needs} is not installed"

    def command(self, course: Course, seed: int, folder: Path) -> list[str]:
        """Return the command of a run."""
        options = {
            "--train": course.train,
            "--validation": course.validation,
            "--space": course.space,
            "--seed": seed,
            "--epochs-file": folder / EPOCHS_FILE,
            "--work": folder / "work",
        }
        return [sys.executable, *self.start, *(str(each) for pair in options.items() for each in pair)]

    def watch(self, folder: Path) -> Watch:
        """Return the observer, which counts the failures."""
        return _TunerFolder(folder / "work")


@dataclass(frozen=True)
class _TunerFolder:
    """Reads the files of KerasTuner. The other libraries end at the first failed trial."""

    folder: Path

    def look(self, seconds: float) -> None:
        """Do nothing: the script records its epochs."""

    def failures(self) -> int:
        files = self.folder.glob("*/trial_*/trial.json")
        return sum(_tuner_status(path) in ("INVALID", "FAILED") for path in files)


def _tuner_status(path: Path) -> str:
    """Return the state of a trial of KerasTuner; "RUNNING" if its file is incomplete because of the kill."""
    try:
        return str(json.loads(path.read_text())["status"])
    except ValueError:
        return "RUNNING"


@dataclass(frozen=True)
class Ours:
    """The command `pneumosearch study` with the options of a side."""

    name: str
    options: tuple[str, ...] = ()
    missing: str | None = None

    def command(self, course: Course, seed: int, folder: Path) -> list[str]:
        """Return the command of a run."""
        arguments = ["study", course.study, "--data", course.images, "--results", folder / "work", "--seed", seed]
        ours = [*arguments, "--trials", _ENDLESS, "--quiet", *self.options]
        return [sys.executable, "-m", "pneumosearch", *map(str, ours)]

    def watch(self, folder: Path) -> Watch:
        """Return the observer, which reads the store."""
        return _StoreWatch(folder)


class _StoreWatch:
    """Reads new epochs from the store, so their times are up to a second late.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._epochs_file, self._database = folder / EPOCHS_FILE, folder / "work" / "pneumosearch.db"
        self._changed = 0
        self._known: dict[int, int] = {}  # epochs by trial number

    def look(self, seconds: float) -> None:
        """Write a line for each epoch in the store that is not yet in the file."""
        if not self._database.exists() or self._database.stat().st_mtime_ns == self._changed:
            return
        self._changed = self._database.stat().st_mtime_ns
        lines = [line for row in self._rows() for line in self._new_epochs(row, seconds)]
        with self._epochs_file.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def failures(self) -> int:
        """Return the number of failed trials."""
        return sum(row.state.name == "FAIL" for row in self._rows()) if self._database.exists() else 0

    def _rows(self) -> list[TrialRow]:
        # Open for writing: a killed process may leave a transaction that the next one must roll back.
        database = f"file:{quote(str(self._database))}"  # SQLite reads it as a URI of its own
        engine = create_engine(URL.create("sqlite", database=database, query={"mode": "rw", "uri": "true"}))
        try:
            with engine.connect() as connection:
                study = connection.execute(text("SELECT study_id FROM studies WHERE study_name = 'race'")).scalar()
            return list(read_rows(engine, study)) if study is not None else []
        except OperationalError:  # its tables are being created, or another process writes
            self._changed = 0
            return []
        finally:
            engine.dispose()

    def _new_epochs(self, row: TrialRow, seconds: float) -> Iterable[dict[str, Any]]:
        if "duplicate_of" in row.user_attrs:
            return
        known = self._known.get(row.number, row.user_attrs.get("continues_after", 0))
        for epoch in HISTORY.stored(row.user_attrs)[known:]:
            self._known[row.number] = epoch["epoch"]
            names = ("accuracy", "auc", "loss")
            values = {f"val_{name}": epoch[f"validation_{name}"] for name in names}
            yield {"seconds": seconds, "trial": row.number, "epoch": epoch["epoch"], **values}


_TUNERS: Final = ("random", "bayesian", "hyperband")

_ALL: Final[tuple[Side, ...]] = (
    Ours(OURS),
    *(Peer(f"keras-tuner-{t}", ("-m", "benchmarks.peers.keras_tuner_search", "--tuner", t)) for t in _TUNERS),
    *(Ours(f"keras-tuner-{t}-our-training", ("--engine", "keras-tuner", "--tuner", t)) for t in _TUNERS),
    Peer("optuna", ("-m", "benchmarks.peers.optuna_search")),
    Peer("ray", ("-m", "benchmarks.peers.ray_search"), needs="ray"),
)

#: All sides by name, in the order of their turns.
SIDES: Final[dict[str, Side]] = {side.name: side for side in _ALL}
