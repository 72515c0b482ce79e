"""Shared fixtures: phantoms, real X-rays where they are there, and the smallest useful study."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, event

from pneumosearch._utils.hardware import thread_variables, usable_cores
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.data.protocols import DataSource
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from tests.support.order import slow_first
from tests.support.s3 import make_bucket, s3_environment, s3_server

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

# The same cases everywhere, and a busy machine is no failure. What exploring finds becomes a named case.
settings.register_profile(
    "suite", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

for _name in ("PNEUMOSEARCH_STORAGE", "PNEUMOSEARCH_ARTIFACTS"):  # a store of one's own is no place for tests
    os.environ.pop(_name, None)


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: object, _: object) -> None:
    """Let SQLite return from a commit at once: a process that is killed loses nothing thereby, only a lost power could.

    A fake search commits some hundred times, and a disk takes milliseconds for each.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


# Tests in several processes share the cores, and so do the programs that they start.
os.environ.update(thread_variables(max(1, usable_cores() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))))

# A shell lets what it starts in the background ignore Ctrl-C, and programs inherit that; tests send it to them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
TINY = {"image_size": 32, "width": 0.25, "units_1": 16, "units_2": 8, "units_3": 8}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each of several processes begin with slow tests; one process keeps the order of the files."""
    n = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if n > 1:
        items[:] = slow_first([(item, item.path, item.get_closest_marker("slow") is not None) for item in items], n)


def real_images_folder() -> Path | None:
    """Where the real X-rays are: PNEUMOSEARCH_DATA, or a folder beside the checkout."""
    candidates = [os.environ.get("PNEUMOSEARCH_DATA"), ROOT.parent / "shared" / "data" / "chest_xray"]
    return next((Path(c) for c in candidates if c and Path(c).is_dir()), None)


@pytest.fixture(scope="session")
def real_images() -> Path:
    folder = real_images_folder()
    if folder is None:
        pytest.skip("no real X-rays: neither PNEUMOSEARCH_DATA nor ../shared/data/chest_xray")
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 160 phantoms, drawn as for the stores of earlier versions. Tests must not change it."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(folder, n_images=160, seed=1, generator=1)
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def source(phantoms: Path, cache_dir: Path) -> DataSource:
    return DataSource(read_manifest(phantoms), cache_dir)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_url(tmp_path / "store.db"), tmp_path / "results")


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgresServer]":
    """A PostgreSQL server. Tests that stop it must start it again."""
    from tests.support.postgres import NoPostgres, postgres_server

    try:
        with postgres_server(durable=False) as server:
            yield server
    except NoPostgres as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server of the S3 protocol."""
    with s3_server(tmp_path_factory.mktemp("s3")) as port:
        yield port


@pytest.fixture
def bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a prefix in an empty bucket; the environment says how it is reached."""
    for name, value in s3_environment(s3_port).items():
        monkeypatch.setenv(name, value)
    return make_bucket()


@pytest.fixture
def second_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pruners see the second configuration as the best, so that who goes on depends on no processor's digits."""
    import optuna

    from pneumosearch.search.pruners import origins

    report = optuna.Trial.report

    def judged(trial: optuna.Trial, value: float, step: int) -> None:
        first = origins(trial.study.get_trials(deepcopy=False))[trial.number]
        report(trial, float(first == 1), step)

    monkeypatch.setattr(optuna.Trial, "report", judged)
