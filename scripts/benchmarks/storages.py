"""Storages under many workers: trials per second, errors, lost and repeated trials."""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Annotated, Any, Final, cast

import optuna
import typer
from optuna.trial import TrialState

from benchmarks.common import circumstances, print_result
from benchmarks.stores import DESCRIPTION
from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.attributes import HISTORY
from pneumosearch.records.dataset import DataDescription
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.search.leases import check_lease
from pneumosearch.search.objective import Objective
from pneumosearch.search.proposers import SamplerProposer
from pneumosearch.search.runner import StudyRun
from pneumosearch.search.samplers import PerTrialSampler
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.grpc_server import serve_storage
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import StudySpec
from tests.support.postgres import NoPostgres, free_port, postgres_server

TRAINING: Final = 0.01  # seconds per trial spent outside the storage
_STARTING: Final = 600  # seconds until all workers must have started
_ENDING: Final = 3600  # seconds until all workers must have ended
_MAX_ERRORS: Final = 100  # after which a worker gives up
_STUDY: Final = "measured"
_EPOCH: Final = EpochMetrics.model_validate(
    {
        "epoch": 1,
        "train_accuracy": 0.9,
        "train_loss": 0.2,
        "validation_accuracy": 0.9,
        "validation_loss": 0.2,
        "learning_rate": 0.001,
        "seconds": TRAINING,
    }
)


@dataclass(frozen=True)
class Share:
    """Result of one worker."""

    trained: list[int]  # numbers of the trials that the worker trained
    errors: list[str]
    begin: float  # of time.monotonic
    end: float


@dataclass(frozen=True)
class Measurement:
    """Result of a storage with a number of workers."""

    storage: str
    workers: int
    trials: int  # requested
    trials_per_second: float
    errors: int
    lost: int  # trained or requested, but not complete in the storage
    repeated: int  # trained by two workers, or complete beyond the requested number


def storages(
    workers: Annotated[str, typer.Option(help="Numbers of processes.")] = "1,2,4,8,16,64",
    trials: Annotated[int, typer.Option(min=1, help="Total number of trials.")] = 640,
    storage: Annotated[str, typer.Option(help="Storages: sqlite, postgresql, grpc.")] = "sqlite,postgresql,grpc",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let N processes share trials that take 10 ms on each storage; print a Markdown table.

    Example: scripts/bench storages --workers 1,2,4,8,16,64 --trials 640 --storage sqlite,postgresql
    """
    unknown = set(storage.split(",")) - set(PLACES)
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: wanted some of {', '.join(PLACES)}")
    measurements = []
    for kind in storage.split(","):
        for n in (int(number) for number in workers.split(",")):
            measurements.append(measure(kind, n, trials))
            print(measurements[-1], file=sys.stderr)
    result = {"training_s": TRAINING, "measurements": [asdict(each) for each in measurements]}
    if as_json:
        print_result(result, [], [], True)
        return
    print(_markdown(measurements))
    print("\n" + ", ".join(f"{key} {value}" for key, value in circumstances().items()))


def measure(kind: str, n_workers: int, n_trials: int) -> Measurement:
    """Measure a new, empty storage with `n_workers` processes that train `n_trials` in total."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        try:
            place = stack.enter_context(PLACES[kind](Path(name)))
        except NoPostgres as error:
            raise typer.BadParameter(str(error)) from error
        shares = _work_together(place, n_workers, n_trials)
        study = place.open().load_study(_STUDY)
        complete = {trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    trained = Counter(number for share in shares for number in share.trained)
    seconds = max(share.end for share in shares) - min(share.begin for share in shares)
    return Measurement(
        storage=kind,
        workers=n_workers,
        trials=n_trials,
        trials_per_second=len(complete) / seconds,
        errors=sum(len(share.errors) for share in shares),
        lost=max(len(trained.keys() - complete), n_trials - len(complete)),
        repeated=max(sum(trained.values()) - len(trained), len(complete) - n_trials, 0),
    )


class ShortTraining:
    """A fake objective: the storage calls of a real trial of one epoch, and a sleep instead of training."""

    def __init__(self, store: Store) -> None:
        self.session = Session(store, cast(DataSource, None), lambda event: None, StopFlag())
        self.trained: list[int] = []
        self._space = StudySpec().search_space()

    def __call__(self, trial: optuna.Trial, defers: Callable[[], bool]) -> float:
        """Sleep for 10 ms."""
        run = RunSpec(config=self._space.suggest(trial), seed=trial.number)
        trial.set_user_attr("run", run.model_dump(mode="json"))
        time.sleep(TRAINING)
        check_lease(trial)
        trial.report(0.9, 1)
        HISTORY.extend(trial, (_EPOCH,))
        self.trained.append(trial.number)
        return 0.9

    def clean_up(self, study: optuna.Study, number: int) -> None:
        """Do nothing: no files exist."""


def train_together(store: Store, study: optuna.Study, n_trials: int) -> tuple[list[int], list[str]]:
    """Train with other workers until the study has `n_trials` trials.

    Returns:
        The numbers of the trials that this worker trained, and its errors.
    """
    training = ShortTraining(store)
    errors: list[str] = []
    run = StudyRun(training.session, study, cast(Objective, training), SamplerProposer(study))
    while not errors or len(errors) < _MAX_ERRORS:
        try:
            run.until(n_trials)
            break
        except Exception as error:  # noqa: BLE001  errors under load are the measurement
            errors.append(f"{type(error).__name__}: {error}".splitlines()[0])
    return training.trained, errors


@dataclass(frozen=True)
class Place:
    """A storage as a worker opens it."""

    url: str
    results: Path

    def open(self) -> Store:
        """Open it."""
        return Store(self.url, self.results)


def _work_together(place: Place, n_workers: int, n_trials: int) -> list[Share]:
    """Let all workers start at the same time, after their imports."""
    context = get_context("spawn")
    barrier, told = context.Barrier(n_workers), context.Queue()
    arguments = (place, n_trials, barrier, told)
    processes = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(n_workers)]
    for process in processes:
        process.start()
    try:
        return [told.get(timeout=_STARTING + _ENDING) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=10)
            process.kill()


def _work(place: Place, n_trials: int, barrier: Barrier, told: Any) -> None:
    """Train; the target of a worker process."""
    store = place.open()
    sampler = PerTrialSampler(lambda number: optuna.samplers.RandomSampler(seed=number))
    study = optuna.load_study(study_name=_STUDY, storage=store.storage, sampler=sampler)
    barrier.wait(_STARTING)
    begin = time.monotonic()
    trained, errors = train_together(store, study, n_trials)
    told.put(Share(trained, errors, begin, time.monotonic()))


def _new_study(url: str, results: Path) -> Place:
    spec = StudySpec()
    stored = spec.model_dump(mode="json", exclude={"name"})
    data = DataDescription.model_validate(DESCRIPTION)
    Store(url, results).open_study(_STUDY, "search", spec.metric, stored, data)
    return Place(url, results)


@contextmanager
def _sqlite(folder: Path) -> Iterator[Place]:
    yield _new_study(sqlite_url(folder / "store.db"), folder)


@contextmanager
def _postgresql(folder: Path) -> Iterator[Place]:
    with postgres_server() as server:
        yield _new_study(server.url(), folder)


@contextmanager
def _grpc(folder: Path) -> Iterator[Place]:
    place, port = _new_study(sqlite_url(folder / "store.db"), folder), free_port()
    server = get_context("spawn").Process(target=_serve, args=(place, port), daemon=True)
    server.start()
    try:
        yield Place(f"grpc://127.0.0.1:{port}", folder)
    finally:
        server.kill()
        server.join()


def _serve(place: Place, port: int) -> None:
    """Serve an SQLite file; the target of the only process that opens it."""
    serve_storage(place.open().storage, port=port).wait()


#: How each kind of storage is created, empty except for the study.
PLACES: Final[dict[str, Callable[[Path], AbstractContextManager[Place]]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "grpc": _grpc,
}


def _markdown(measurements: list[Measurement]) -> str:
    headings = [field.name.replace("_", " ") for field in fields(Measurement)]
    cells = [headings, ["---"] * len(headings)]
    cells += [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in astuple(each)] for each in measurements]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
