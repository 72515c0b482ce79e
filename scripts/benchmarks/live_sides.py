"""The sides of the live race: how each is started, and how its epochs and failures are read."""

import importlib.util
import json
import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from optuna.trial import FrozenTrial
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from benchmarks.live_data import STUDY, Course
from benchmarks.live_incumbents import NETWORKS, Incumbent, Line, epoch_lines, leading_epoch, leading_trial
from pneumosearch._utils.atomic import replacing
from pneumosearch.records.attributes import HISTORY
from pneumosearch.storage.queries import read_trials
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url

EPOCHS_FILE: Final = "epochs.jsonl"
OURS: Final = "pneumosearch"
OUR_DEFAULT: Final = f"{OURS}-default"  # the default study, whatever the others search
_ENDLESS: Final = 1_000_000  # trials
_STUDY_ID: Final = text("SELECT study_id FROM studies WHERE study_name = :name")


class Watch(Protocol):
    """Observes a running side."""

    def look(self, seconds: float) -> None:
        """Record new epochs, unless the side does so itself, and copy the weights that it may overwrite."""

    def failures(self) -> int:
        """Return the number of failed trials."""

    def keep(self, times: Sequence[float]) -> list[Incumbent]:
        """Return the incumbents at these seconds of a run that is over. Their networks are kept, and no others."""


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
        """Return the observer, which copies networks and counts failures."""
        return _PeerWatch(folder)


@dataclass(frozen=True)
class _PeerWatch:
    """Copies the weights of each new incumbent, which the library may overwrite, within a second.

    The failures are those of KerasTuner. The other libraries end at the first failed trial.
    """

    folder: Path

    def look(self, seconds: float) -> None:
        """Copy the weights of the best epoch so far, unless they are there; the script records its epochs itself."""
        best = leading_epoch(epoch_lines(self.folder / EPOCHS_FILE), math.inf)
        if best is None or "weights" not in best or (target := self._copy(best)).exists():
            return
        target.parent.mkdir(exist_ok=True)
        with replacing(target) as temporary:
            shutil.copyfile(self.folder / "work" / best["weights"], temporary)

    def failures(self) -> int:
        files = (self.folder / "work").glob("*/trial_*/trial.json")
        return sum(_tuner_status(path) in ("INVALID", "FAILED") for path in files)

    def keep(self, times: Sequence[float]) -> list[Incumbent]:
        """Return the incumbents; an epoch that another followed within a second may not have been copied."""
        lines = epoch_lines(self.folder / EPOCHS_FILE)
        leading = [(time, line) for time in times if (line := leading_epoch(lines, time)) and self._copy(line).exists()]
        kept = [
            Incumbent(time, line["trial"], line["epoch"], self._copy(line).name, line["values"])
            for time, line in leading
        ]
        for path in {*self._networks.glob("*")} - {self._networks / each.network for each in kept}:
            path.unlink()
        return kept

    @property
    def _networks(self) -> Path:
        return self.folder / NETWORKS

    def _copy(self, line: Line) -> Path:
        return self._networks / f"{line['trial']}-{line['epoch']}.weights.h5"


def _tuner_status(path: Path) -> str:
    """Return the state of a trial of KerasTuner; "RUNNING" if its file is incomplete because of the kill."""
    try:
        return str(json.loads(path.read_text())["status"])
    except ValueError:
        return "RUNNING"


@dataclass(frozen=True)
class Ours:
    """The command `pneumosearch study` with the options of a side.

    Args:
        name: Name of the side.
        options: Options of the command.
        without_file: It searches the default study and not that of the race, so in another space and by another rule.
    """

    name: str
    options: tuple[str, ...] = ()
    without_file: bool = False
    missing: str | None = None

    def command(self, course: Course, seed: int, folder: Path) -> list[str]:
        """Return the command of a run."""
        study = ["--name", STUDY] if self.without_file else [course.study]
        arguments = ["study", *study, "--data", course.images, "--results", folder / "work", "--seed", seed]
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
        self._folder = folder
        self._epochs_file, self._database = folder / EPOCHS_FILE, folder / "work" / "pneumosearch.db"
        self._changed = 0
        self._known: dict[int, int] = {}  # epochs by trial number
        self._complete: dict[int, float] = {}  # seconds by trial number

    def look(self, seconds: float) -> None:
        """Write a line for each epoch in the store that is not yet in the file. The store keeps the networks."""
        if not self._database.exists() or self._database.stat().st_mtime_ns == self._changed:
            return
        self._changed = self._database.stat().st_mtime_ns
        rows = self._rows()
        for row in rows:
            if row.state.name == "COMPLETE":
                self._complete.setdefault(row.number, seconds)
        lines = [line for row in rows for line in self._new_epochs(row, seconds)]
        with self._epochs_file.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def failures(self) -> int:
        """Return the number of failed trials."""
        return sum(row.state.name == "FAIL" for row in self._rows()) if self._database.exists() else 0

    def keep(self, times: Sequence[float]) -> list[Incumbent]:
        """Return the incumbents, with their networks as the store keeps them."""
        if not self._complete:
            return []
        store = Store(sqlite_url(self._database), self._folder / "work", must_exist=True)
        return list(self._kept(store, times))

    def _kept(self, store: Store, times: Sequence[float]) -> Iterator[Incumbent]:
        record = store.record(STUDY)
        for time in times:
            trial = leading_trial(record, self._complete, time)
            content = store.network(STUDY, trial.number) if trial else None
            if trial is None or trial.run is None or trial.kept is None or content is None:
                continue
            target = self._folder / NETWORKS / f"{trial.number}.keras"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
            yield Incumbent(time, trial.number, trial.kept.epoch, target.name, trial.run.config.changes())

    def _rows(self) -> list[FrozenTrial]:
        # Open for writing: a killed process may leave a transaction that the next one must roll back.
        database = f"file:{quote(str(self._database))}"  # SQLite reads it as a URI of its own
        engine = create_engine(URL.create("sqlite", database=database, query={"mode": "rw", "uri": "true"}))
        try:
            with engine.connect() as connection:
                study = connection.execute(_STUDY_ID, {"name": STUDY}).scalar()
            return read_trials(engine, study, results_only=True) if study is not None else []
        except OperationalError:  # its tables are being created, or another process writes
            self._changed = 0
            return []
        finally:
            engine.dispose()

    def _new_epochs(self, row: FrozenTrial, seconds: float) -> Iterable[dict[str, Any]]:
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
    Ours(OUR_DEFAULT, without_file=True),
    *(Peer(f"keras-tuner-{t}", ("-m", "benchmarks.peers.keras_tuner_search", "--tuner", t)) for t in _TUNERS),
    *(Ours(f"keras-tuner-{t}-our-training", ("--engine", "keras-tuner", "--tuner", t)) for t in _TUNERS),
    Peer("optuna", ("-m", "benchmarks.peers.optuna_search")),
    Peer("ray", ("-m", "benchmarks.peers.ray_search"), needs="ray"),
)

#: All sides by name, in the order of their turns.
SIDES: Final[dict[str, Side]] = {side.name: side for side in _ALL}
