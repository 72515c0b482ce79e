"""A store behind a server: who is let in, the lock, and what becomes of calls while the server is away."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import optuna
import pytest
from optuna.storages import GrpcStorageProxy
from optuna.trial import TrialState

from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.records.attributes import HISTORY
from pneumosearch.report.summary import study_summary
from pneumosearch.storage import grpc_server
from pneumosearch.storage.auth import FILE_VARIABLE, VARIABLE, configured_token
from pneumosearch.storage.grpc_client import LOCK_METHOD, ProxyStorage
from pneumosearch.storage.grpc_server import StorageServer, serve_storage
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.retry import REPEATABLE, ConnectionLost
from pneumosearch.storage.store import Store
from tests.storage.test_postgres import fake_study
from tests.support.fakes import SPEC, a_description, trial_id
from tests.support.postgres import free_port
from tests.support.terminal import Terminal

TOKEN = "a-token-for-these-tests"  # noqa: S105

HOLDER = """
import sys, time
from pathlib import Path
from pneumosearch.storage.store import Store
store = Store(sys.argv[1], Path(sys.argv[2]))
with store.storage.study_lock("default"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.fixture
def server(store: Store) -> Iterator[StorageServer]:
    with serve_storage(store.storage, port=0) as server:
        yield server


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def proxy(store: Store) -> ProxyStorage:
    assert isinstance(store.storage, ProxyStorage)
    return store.storage


def client(server: StorageServer, tmp_path: Path, patience: float = 20.0) -> ProxyStorage:
    return proxy(Store(server.url, tmp_path, patience=patience))


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_report_over_the_proxy_equals_that_of_the_file(server: StorageServer, store: Store, tmp_path: Path) -> None:
    fake_study(store, 2)
    there = Store(server.url, store.results, must_exist=True)
    fake_study(there, 5)
    assert there.names() == ["fake"]
    assert study_summary(there.record("fake")) == study_summary(store.record("fake"))
    assert [trial.number for trial in there.record("fake").trials] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shown", [None, "another-token-than-the-right-one", TOKEN + "x"])
def test_call_without_the_right_token_is_refused_at_once(
    server: StorageServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str | None
) -> None:
    monkeypatch.delenv(VARIABLE)
    if shown:
        (tmp_path / "token").write_text(shown)
        monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "token"))
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"^grpc://127.0.0.1:\d+: the server refuses the token; .*PNEUMOSEARCH_TOKEN"):
        client(server, tmp_path)
    assert time.monotonic() - begin < 5


def test_no_method_of_the_service_answers_without_a_token(server: StorageServer) -> None:
    methods = [f"/optuna.StorageService/{name}" for name in ("GetAllStudies", "CreateNewStudy", "DeleteStudy", "None")]
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        for method in (*methods, LOCK_METHOD):
            for metadata in ((), (("authorization", "Bearer"),), (("authorization", f"Bearer {TOKEN}"),) * 2):
                with pytest.raises(grpc.RpcError) as error:
                    channel.unary_unary(method)(b"", timeout=5, metadata=metadata)
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_callers_without_a_token_who_send_nothing_keep_no_thread(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "THREADS", 4)
    ended = threading.Event()

    def send_nothing() -> Iterator[bytes]:
        ended.wait(30)
        yield from ()

    with (
        serve_storage(store.storage, port=0) as server,
        grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel,
    ):
        calls = [channel.stream_unary("/optuna.StorageService/GetAllStudies").future(send_nothing()) for _ in range(12)]
        assert client(server, tmp_path, patience=5).get_all_studies() == []
        assert {call.code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
        ended.set()


def test_token_is_read_from_environment_or_file_and_never_from_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="does not belong into a URL") as error:
        Store("grpc://:hush-hush-hush-hush@127.0.0.1:13000", tmp_path)
    assert "hush" not in str(error.value)
    for wrong in ("grpc://", "grpc://host/name", "grpc://host:13000?token=x", "grpc://host:13000?certificate=x"):
        with pytest.raises(StoreError, match="names no server; wanted grpc://HOST:PORT"):
            Store(wrong, tmp_path)
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(ConfigError, match=r"^\$PNEUMOSEARCH_TOKEN: a token is 16 or more") as refused:
        configured_token()
    assert "short" not in str(refused.value)
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none: no token can be read from it"):
        configured_token()


def test_open_address_without_a_token_and_a_taken_port_are_refused(
    store: Store, server: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(StoreError, match=f"port {port} of 127.0.0.1 cannot be served; choose another --port"):
        serve_storage(store.storage, port=port)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ConfigError, match="--host 0.0.0.0: other machines can reach it, so that a token is needed"):
        serve_storage(store.storage, "0.0.0.0", 0)  # noqa: S104  refused


def test_lock_is_held_by_one_client_at_a_time_while_many_wait_and_call(server: StorageServer, tmp_path: Path) -> None:
    clients = [client(server, tmp_path) for _ in range(2)]
    inside, most, turns = 0, 0, 0

    def take_turns(storage: ProxyStorage) -> None:
        nonlocal inside, most, turns
        for _ in range(5):
            with storage.study_lock("default"):
                inside += 1
                most = max(most, inside)
                storage.get_all_studies()
                inside -= 1
                turns += 1

    threads = [in_thread(lambda storage=storage: take_turns(storage)) for storage in clients * 15]  # type: ignore[misc]
    for thread in threads:
        thread.join(30)
    assert (most, turns) == (1, 150)


def test_lock_is_given_in_order_of_asking(server: StorageServer, tmp_path: Path) -> None:
    storage, order = client(server, tmp_path), list[int]()

    def ask(number: int) -> None:
        with storage.study_lock("default"):
            order.append(number)

    with storage.study_lock("default"):
        threads = []
        for number in range(6):
            threads.append(in_thread(lambda number=number: ask(number)))  # type: ignore[misc]
            time.sleep(0.1)
    for thread in threads:
        thread.join(10)
    assert order == list(range(6))


def test_lock_that_others_hold_is_waited_for_so_long_and_excludes_users_of_the_file(
    server: StorageServer, store: Store, tmp_path: Path
) -> None:
    storage = client(server, tmp_path)
    with storage.study_lock("default"), pytest.raises(StoreError, match="others hold its lock since 0 s"):
        storage.study_lock("default", 0.2).__enter__()
    with study_lock(store.storage, "default"), pytest.raises(StoreError, match="another process holds it"):
        storage.study_lock("default", 0.2).__enter__()
    with storage.study_lock("default"), pytest.raises(StoreError, match="another process holds it"):
        study_lock(store.storage, "default", 0.2).__enter__()
    with storage.study_lock("default", 5):
        pass


def test_lock_is_released_when_its_holder_is_killed(server: StorageServer, tmp_path: Path) -> None:
    storage = client(server, tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, server.url, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="others hold its lock"):
            storage.study_lock("default", 0.3).__enter__()
        holder.kill()
        with storage.study_lock("default", 10):
            pass


def test_clients_beyond_the_places_in_line_wait_outside(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "MAX_LOCK_CALLS", 1)
    with serve_storage(store.storage, port=0) as server:
        storage = client(server, tmp_path, patience=0.5)
        with storage.study_lock("default"), pytest.raises(StoreError, match="1 others wait for the lock"):
            storage.study_lock("default").__enter__()


def test_client_waits_while_the_server_is_started_again(store: Store, tmp_path: Path) -> None:
    port, n_trials = free_port(), 15
    server = serve_storage(store.storage, port=port)
    there = Store(server.url, tmp_path, patience=30)
    work = in_thread(lambda: fake_study(there, n_trials, seconds=0.02))
    restarts = 0
    while work.is_alive():
        time.sleep(0.5)
        server.stop()
        time.sleep(0.3)
        server = serve_storage(store.storage, port=port)
        restarts += 1
        work.join(1.0)
    server.stop()
    trials = store.load_study("fake").get_trials(deepcopy=False)
    assert restarts >= 1
    assert [trial.number for trial in trials] == list(range(n_trials))
    assert all(trial.state.is_finished() and HISTORY.count(trial) == 2 for trial in trials)


def test_trial_begun_before_the_server_was_started_again_goes_on(store: Store, tmp_path: Path) -> None:
    port = free_port()
    with serve_storage(store.storage, port=port) as server:
        study = optuna.create_study(storage=client(server, tmp_path))
        trial = study.ask()
    with serve_storage(store.storage, port=port):
        assert trial.suggest_float("zoom", 0.3, 0.3) == 0.3
        trial.report(0.5, 1)
        trial.set_user_attr("history", [])
    assert optuna.load_study(storage=store.storage, study_name=study.study_name).trials[0].params == {"zoom": 0.3}


def test_server_that_stays_away_is_told_in_one_line(store: Store, tmp_path: Path) -> None:
    with serve_storage(store.storage, port=0) as server:
        there = Store(server.url, tmp_path, patience=0.5)
    with pytest.raises(StoreError, match="the storage cannot be used .*the same command goes on when it can") as error:
        there.names()
    assert "\n" not in str(error.value)
    with pytest.raises(StoreError, match="cannot be used"):
        proxy(there).delete_study(0)
    with pytest.raises(StoreError, match="cannot be used"), proxy(there).study_lock("default"):
        pass


@pytest.mark.parametrize("restarted", [False, True])
def test_trial_whose_answer_was_lost_is_made_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    original, lost, port = GrpcStorageProxy.create_new_trial, list[int](), free_port()
    servers = [serve_storage(store.storage, port=port)]

    def lose_the_first(self: GrpcStorageProxy, study_id: int, template: optuna.trial.FrozenTrial | None = None) -> int:
        made = original(self, study_id, template)
        if not lost:
            lost.append(made)
            if restarted:
                servers[0].stop()
                servers[0] = serve_storage(store.storage, port=port)
            raise ConnectionLost("the answer was lost")
        return made

    monkeypatch.setattr(GrpcStorageProxy, "create_new_trial", lose_the_first)
    study = optuna.create_study(storage=client(servers[0], tmp_path))
    study.ask()
    servers[0].stop()
    [trial] = optuna.load_study(storage=store.storage, study_name=study.study_name).trials
    assert trial_id(study, store.storage, 0) == lost[0]
    assert trial.state is TrialState.RUNNING


def test_trial_that_an_attempt_is_still_making_is_waited_for(
    server: StorageServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, begun = optuna.storages.RDBStorage._create_new_trial, threading.Event()

    def make(self: optuna.storages.RDBStorage, *arguments: object) -> optuna.trial.FrozenTrial:
        begun.set()
        time.sleep(0.3)
        return slow(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("pneumosearch.storage.grpc_client.uuid4", lambda: uuid.UUID(int=1))
    study = optuna.create_study(storage=client(server, tmp_path))
    monkeypatch.setattr(optuna.storages.RDBStorage, "_create_new_trial", make)
    first = in_thread(study.ask)
    assert begun.wait(10)
    study.ask()  # the same request again
    first.join(10)
    assert len(optuna.load_study(storage=store.storage, study_name=study.study_name).trials) == 1


def test_end_of_a_trial_whose_answer_was_lost_is_told_once(
    server: StorageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, lost = GrpcStorageProxy.set_trial_state_values, list[TrialState]()

    def lose(self: GrpcStorageProxy, trial_id: int, state: TrialState, values: list[float] | None = None) -> bool:
        told = original(self, trial_id, state, values)
        lost.append(state)
        if len(lost) % 2:
            raise ConnectionLost("the answer was lost")
        return told

    storage = client(server, tmp_path)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    monkeypatch.setattr(GrpcStorageProxy, "set_trial_state_values", lose)
    study.tell(trial, 0.5)
    assert study.trials[0].value == 0.5
    study.enqueue_trial({"x": 1.0})
    waiting = trial_id(study, storage, 1)
    lost.clear()
    assert not storage.set_trial_state_values(waiting, TrialState.RUNNING)


def test_every_call_of_the_proxy_is_repeated_or_meant_not_to_be() -> None:
    own = {name for name in optuna.storages.BaseStorage.__abstractmethods__ if name in vars(GrpcStorageProxy)}
    overridden = {"create_new_trial", "set_trial_state_values", "delete_study"}
    assert own - set(REPEATABLE) == overridden
    assert overridden <= vars(ProxyStorage).keys()
    assert all(getattr(ProxyStorage, name) is not getattr(GrpcStorageProxy, name) for name in own)


def test_errors_of_the_store_behind_the_server_are_told_in_one_line(
    server: StorageServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Store(server.url, tmp_path, patience=0.3)
    study = there.open_study("mine", "search", "accuracy", SPEC, a_description())
    with pytest.raises(StoreError, match="the storage cannot be used"):
        study.set_user_attr("large", "x" * (grpc_server.LARGEST_REQUEST + 1))
    study_id = store.storage.get_study_id_from_name("mine")

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no space left\non the disk")

    monkeypatch.setattr(optuna.storages.RDBStorage, "get_study_user_attrs", fail)
    monkeypatch.setattr(type(store.storage), "get_study_user_attrs", fail)
    with pytest.raises(StoreError, match=r"the storage cannot be used \(no space left\)$"):
        proxy(there).get_study_user_attrs(study_id)
    with pytest.raises(KeyError):
        proxy(there).get_trial(999)


def test_store_is_served_and_reported_as_a_user_types_it(terminal: Terminal) -> None:
    fake_study(Store(f"sqlite:///{terminal.folder}/results/pneumosearch.db", terminal.folder / "results"), 3)
    port, token = str(free_port()), terminal.folder / "token"
    token.write_text(TOKEN + "\n")
    terminal.environment |= {FILE_VARIABLE: "token"}
    serving = terminal.start("serve", "--host", "0.0.0.0", "--port", port)  # noqa: S104
    try:
        assert serving.stdout is not None
        url = serving.stdout.readline().strip()
        assert url == f"grpc://{os.uname().nodename}:{port}"
        here = f"grpc://127.0.0.1:{port}"
        out, _ = terminal.run("report", "--name", "fake", "--json", "--storage", here)
        assert json.loads(out) == terminal.json("report", "--name", "fake")
        del terminal.environment[FILE_VARIABLE]
        _, err = terminal.run("report", "--name", "fake", "--storage", here, code=1)
        assert "refuses the token" in err
    finally:
        serving.send_signal(signal.SIGINT)
        _, err = serving.communicate(timeout=30)
    assert "WARNING: not encrypted" in err
    assert TOKEN not in err
    assert "Traceback" not in err
