"""Storages by their URLs, without a server."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import optuna
import psutil
import pymysql
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from pneumosearch.errors import StoreError
from pneumosearch.storage.retry import REPEATABLE, ConnectionLost, RetryingStorage, call_with_retry
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import (
    DATABASE_WORKERS,
    SQLITE_WORKERS,
    absolute_url,
    advice,
    engine_arguments,
    parsed_url,
    safe_url,
    sqlite_path,
    sqlite_url,
)
from tests.support.fakes import trial_id
from tests.support.postgres import free_port


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://me:secret@host/db", "postgresql+psycopg"),
        ("postgres://me@host/db", "postgresql+psycopg"),
        ("postgresql+psycopg2://me@host/db", "postgresql+psycopg2"),
        ("mysql://me:secret@host:3307/db?charset=utf8mb4", "mysql+pymysql"),
        ("mariadb://me@host/db", "mysql+pymysql"),
        ("sqlite:///x.db", "sqlite"),
    ],
)
def test_url_without_a_driver_gets_the_one_of_the_extra(url: str, driver: str) -> None:
    assert parsed_url(url).drivername == driver
    assert parsed_url(url).database == url.split("/")[3].split("?", maxsplit=1)[0]


def test_connections_are_few_and_watched_and_the_url_has_the_last_word() -> None:
    arguments = engine_arguments(parsed_url("postgresql://me@host/db?connect_timeout=3"))
    assert arguments["pool_size"] + arguments["max_overflow"] == 2
    assert arguments["pool_pre_ping"]
    assert "connect_timeout" not in arguments["connect_args"]
    assert arguments["connect_args"]["keepalives"] == 1
    assert engine_arguments(parsed_url("mysql://me@host/db"))["connect_args"]["connect_timeout"] == 10


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("mysql://host/db?user=me&password=secret", "mysql://host/db?password=***&user=me"),
        ("postgresql:/me:secret@host/db", "postgresql:/me:***@host/db"),
        ("postgresql://me:secret@host:port/db", "postgresql://me:***@host:port/db"),
        ("sqlite:///results/x.db", "sqlite:///results/x.db"),
    ],
)
def test_password_is_hidden_wherever_it_stands(url: str, shown: str) -> None:
    assert safe_url(url) == shown


def test_port_that_is_no_number_is_told_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"me:\*\*\*@host:port/db' is no storage URL"):
        Store("postgresql://me:secret@host:port/db", tmp_path)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_server_that_does_not_answer_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    port = free_port()
    with pytest.raises(
        StoreError, match=rf"{kind}://me:\*\*\*@127.0.0.1:{port}/db: the storage cannot be used"
    ) as error:
        Store(f"{kind}://me:secret@127.0.0.1:{port}/db", tmp_path, opening_patience=0)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_refusal_of_mysql_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise pymysql.err.OperationalError(1045, "Access denied for user 'me'@'localhost' (using password: YES)")

    monkeypatch.setattr(pymysql, "connect", refuse)
    with pytest.raises(StoreError, match=r"cannot be used \(.*Access denied"):
        Store("mysql://me:secret@127.0.0.1/db", tmp_path, opening_patience=60)


@pytest.mark.timeout(20)
def test_name_of_no_server_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the storage cannot be used"):
        Store("postgresql://me@no-such-host.invalid/db", tmp_path, opening_patience=0)


ODD_NAMES = ["run?1", "run#1", "a%20b", "%", "two words", "Umläute", "run+1", "a&b=c", "file:x", "{name}", "100%ü?#"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_any_name_has_a_url_that_names_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(name) / "x.db", tmp_path / name / "x.db"):
        assert sqlite_path(sqlite_url(path)) == path
        assert sqlite_path(absolute_url(sqlite_url(path))) == tmp_path / name / "x.db"
    Store(sqlite_url(Path(name) / "x.db"), Path(name))
    Store(sqlite_url(tmp_path / name / "x.db"), tmp_path / name, must_exist=True)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path(name) / "x.db"]


def test_a_name_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a UTF-8 name; give another --results"):
        sqlite_url(tmp_path / "run\udcff" / "x.db")


@pytest.mark.parametrize("url", ["postgresql://me@host/db", "sqlite://", "grpc://host:1"])
def test_other_storages_are_no_file(url: str) -> None:
    assert sqlite_path(url) is None


def test_braces_in_a_url_are_no_template(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/{{SCHEMA_VERSION}}.db", tmp_path)
    assert (tmp_path / "{SCHEMA_VERSION}.db").exists()


def test_lost_connection_is_tried_again_and_then_told() -> None:
    calls: list[int] = []

    def fail_twice() -> str:
        calls.append(len(calls))
        if len(calls) < 3:
            raise ConnectionLost("connection refused")
        return "there"

    assert call_with_retry(fail_twice, 5.0, "db") == "there"
    assert calls == [0, 1, 2]

    def fail() -> None:
        raise ConnectionLost("connection refused")

    with pytest.raises(StoreError, match=r"^db: the storage cannot be used \(connection refused.*the same command"):
        call_with_retry(fail, 0.2, "db")


def test_every_call_of_optunas_storage_is_repeated_or_meant_not_to_be() -> None:
    base = optuna.storages.BaseStorage
    abstract = {name for name in base.__abstractmethods__ if hasattr(RDBStorage, name)}
    overridden = {"create_new_trial", "set_trial_state_values"}
    assert abstract - set(REPEATABLE) - overridden == {"delete_study"}
    assert all(getattr(RetryingStorage, name) is not getattr(RDBStorage, name) for name in REPEATABLE)
    assert overridden <= vars(RetryingStorage).keys()


def test_end_of_a_trial_that_stands_though_its_answer_was_lost_is_told_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study(storage=store.storage)
    first, second = study.ask(), study.ask()
    _lose_answers(monkeypatch, "set_trial_state_values", 1)
    study.tell(first, 0.5)
    assert study.trials[0].value == 0.5
    _lose_answers(monkeypatch, "set_trial_state_values", 1)
    ended = trial_id(study, store.storage, second.number)
    store.storage.set_trial_state_values(ended, TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        store.storage.set_trial_state_values(ended, TrialState.COMPLETE, [1.0])


def test_claim_whose_answer_was_lost_is_not_taken_for_granted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(storage=store.storage)
    study.enqueue_trial({"x": 1.0})
    _lose_answers(monkeypatch, "set_trial_state_values", 1)
    assert not store.storage.set_trial_state_values(trial_id(study, store.storage, 0), TrialState.RUNNING)


def test_parameters_and_attributes_bear_repetition(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(storage=store.storage)
    trial = study.ask()
    # As at a commit whose answer is lost: the session ends well, then the error comes.
    for write in (
        lambda: trial.suggest_float("x", 0.0, 1.0),
        lambda: trial.set_user_attr("history", [1]),
        lambda: trial.report(0.25, 1),
    ):
        with monkeypatch.context() as patch:
            lost = _losing_first_commit(patch)
            write()
        assert lost
    [stored] = study.get_trials(deepcopy=False)
    assert stored.params.keys() == {"x"}
    assert (stored.user_attrs, stored.intermediate_values) == ({"history": [1]}, {1: 0.25})


def _lose_answers(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """Let a call of the storage do its work and then fail, so many times."""
    original = getattr(RDBStorage, name)
    lost: list[str] = []

    def call(self: RDBStorage, *args: object, **kwargs: object) -> bool | FrozenTrial:
        result: bool | FrozenTrial = original(self, *args, **kwargs)
        if len(lost) < times:
            lost.append(name)
            raise ConnectionLost("the answer was lost")
        return result

    monkeypatch.setattr(RDBStorage, name, call)


def _losing_first_commit(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Let the next commit stand and fail; the list has its session then."""
    original = Session.commit
    lost: list[Session] = []

    def commit(self: Session) -> None:
        original(self)
        if not lost:
            lost.append(self)
            raise ConnectionLost("the answer was lost")

    monkeypatch.setattr(Session, "commit", commit)
    return lost


def test_lock_of_sqlite_is_waited_for_even_where_sqlite_answers_at_once(store: Store) -> None:
    storage = store.storage
    assert isinstance(storage, RetryingStorage)
    study = optuna.create_study(storage=storage)
    path = sqlite_path(store.url)
    assert path is not None
    lock = sqlite3.connect(path, isolation_level=None)
    busy: list[bool] = []

    def call() -> None:
        if not busy:
            busy.append(True)
            lock.execute("BEGIN EXCLUSIVE")
            with storage.engine.connect() as connection:
                connection.connection.dbapi_connection.execute("PRAGMA busy_timeout = 0")  # type: ignore[union-attr]
                try:
                    connection.exec_driver_sql("SELECT * FROM studies")
                finally:
                    lock.execute("ROLLBACK")
                    connection.connection.dbapi_connection.execute("PRAGMA busy_timeout = 1000")  # type: ignore[union-attr]
        study.set_user_attr("done", True)

    storage.with_retry(call)
    lock.close()
    assert study.user_attrs == {"done": True}
    assert busy == [True]


@pytest.mark.parametrize(
    ("url", "n_workers", "words"),
    [
        ("sqlite:///x.db", 1, None),
        ("sqlite:///x.db", SQLITE_WORKERS, None),
        ("sqlite:///x.db", SQLITE_WORKERS + 1, "one SQLite file is slow for 17 workers"),
        ("postgresql://me:secret@host/db", DATABASE_WORKERS, None),
        ("postgresql://me:secret@host/db", 64, "64 workers hold up to 128 connections"),
        ("mysql://me:secret@host/db", 64, "max_connections"),
    ],
)
def test_advice_is_given_where_a_storage_does_not_fit_the_workers(url: str, n_workers: int, words: str | None) -> None:
    said = advice(url, n_workers)
    assert (said is None) == (words is None)
    assert (words or "") in (said or "")
    assert "secret" not in (said or "")


@pytest.mark.parametrize(
    ("kind", "warned"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False), ("fuseblk", False)]
)
def test_sqlite_on_a_network_file_system_is_warned_of_with_two_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, warned: bool
) -> None:
    disks = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype=kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: disks)
    url = f"sqlite:///{tmp_path}/results/x.db"
    assert (advice(url, 2) is not None) == warned
    assert advice(url, 1) is None
