"""Who may see the dashboard."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import create_trial

from pneumosearch.dashboard.auth import Guard
from pneumosearch.dashboard.server import pages, serve
from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.storage.auth import VARIABLE
from pneumosearch.storage.retry import RetryingStorage
from pneumosearch.storage.store import Store
from tests.support.fakes import SPEC, a_description
from tests.support.postgres import free_port
from tests.support.terminal import Terminal

TOKEN = "a-token-for-these-tests"  # noqa: S105
PUBLIC = {"HTTP_HOST": "search.example:8080"}
OPEN, LOCAL = "0.0.0.0", "127.0.0.1"  # noqa: S104  not bound


def basic(password: str) -> str:
    return "Basic " + b64encode(f"me:{password}".encode()).decode()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Access-Control-Allow-Origin", "*")])
    return [b"the dashboard"]


def ask(guard: Guard, path: str = "/", query: str = "", method: str = "GET", **headers: str) -> Answer:
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, **headers}
    setup_testing_defaults(environ)
    told: list[Any] = []

    def start(*answer: Any) -> Any:
        told.extend(answer)

    body = b"".join(guard(environ, start))
    return Answer(int(told[0].split()[0]), dict(told[1]), body.decode())


@pytest.fixture
def guard() -> Guard:
    return Guard(app, OPEN, TOKEN)


@pytest.mark.parametrize("shown", [basic(TOKEN), f"basic {basic(TOKEN)[6:]}", f"Bearer {TOKEN}"])
def test_token_lets_in_as_a_browsers_password_and_as_a_header_of_scripts(guard: Guard, shown: str) -> None:
    assert ask(guard, "/api/studies", HTTP_AUTHORIZATION=shown, **PUBLIC).body == "the dashboard"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_AUTHORIZATION": "Bearer wrong-wrong-wrong-wrong"},
        {"HTTP_AUTHORIZATION": f"Basic {TOKEN}"},
        {"HTTP_AUTHORIZATION": "Bearer "},
        {"HTTP_AUTHORIZATION": basic("")},
        {"HTTP_AUTHORIZATION": basic(TOKEN + "x")},
        {"HTTP_AUTHORIZATION": "Basic " + b64encode(TOKEN.encode()).decode()},
        {"HTTP_AUTHORIZATION": "Basic " + b64encode(b"\xff:\xff").decode()},
        {"HTTP_AUTHORIZATION": "Basic \xe9=="},
        {"query": f"token={TOKEN}"},
        {"path": "/static/bundle.js"},
        {"method": "POST", "path": "/api/studies"},
    ],
)
def test_everything_else_is_refused_with_a_plain_page(guard: Guard, headers: dict[str, str]) -> None:
    answer = ask(guard, **{**PUBLIC, **headers})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="pneumosearch"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert "the dashboard" not in answer.body


@settings(max_examples=40)
@given(st.sampled_from(["Bearer ", "Basic ", ""]), st.text(st.characters(codec="latin-1")), st.text())
def test_no_request_gets_in_by_accident_or_breaks_the_guard(kind: str, shown: str, host: str) -> None:
    strange = {"HTTP_HOST": host, "HTTP_AUTHORIZATION": kind + shown, "HTTP_ORIGIN": host}
    assert ask(Guard(app, OPEN, TOKEN), **strange).status == 401
    assert ask(Guard(app, LOCAL, None), **{**strange, "HTTP_HOST": f"{host}.example"}).status == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST", 200),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_on_this_machine_only_requests_that_name_it_are_answered(host: str, status: int) -> None:
    assert ask(Guard(app, LOCAL, None), HTTP_HOST=host).status == status
    shown = ask(Guard(app, LOCAL, TOKEN), HTTP_HOST=host, HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    assert shown.status == status


@pytest.mark.parametrize(
    ("origin", "method", "status"),
    [
        ("http://localhost:8080", "POST", 200),
        ("https://evil.example", "POST", 403),
        ("http://localhost:9999", "DELETE", 403),
        ("null", "PUT", 403),
        ("https://evil.example", "GET", 200),
    ],
)
def test_pages_of_other_sites_change_nothing(origin: str, method: str, status: int) -> None:
    answer = ask(Guard(app, LOCAL, None), method=method, HTTP_HOST="localhost:8080", HTTP_ORIGIN=origin)
    assert answer.status == status
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_answers_tell_browsers_to_be_careful_and_artifacts_run_nothing(guard: Guard) -> None:
    for answer in (ask(guard), ask(guard, HTTP_AUTHORIZATION=f"Bearer {TOKEN}")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    artifact = ask(Guard(app, LOCAL, None), "/artifacts/1/abc", HTTP_HOST="localhost")
    assert artifact.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_open_address_without_a_token_and_unusable_ports_are_told(store: Store) -> None:
    with pytest.raises(ConfigError, match="--host 0.0.0.0: other machines can reach it, so that a token is needed"):
        serve(store, OPEN)
    with socket.socket() as taken:
        taken.bind((LOCAL, 0))
        taken.listen()
        with pytest.raises(StoreError, match=r"port \d+ of 127.0.0.1 cannot be used .*choose another --port"):
            serve(store, LOCAL, taken.getsockname()[1])


@contextmanager
def served(terminal: Terminal, *arguments: str) -> Iterator[list[str]]:
    """Run a dashboard; give what it said before it served, and what it said in all at the end."""
    process = terminal.start("dashboard", *arguments)
    try:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("dashboard: "):
                break
        yield said
    finally:
        said += _ended(process)
    assert "Traceback" not in "".join(said)


def _ended(process: subprocess.Popen[str]) -> list[str]:
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=30)[1].splitlines()


def fetch(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    store = Store(f"sqlite:///{tmp_path}/results/pneumosearch.db", tmp_path / "results")
    store.open_study("mine", "search", "accuracy", SPEC, a_description())
    return Terminal(tmp_path)


def test_dashboard_has_ended_trials_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = store.open_study("a", "search", "accuracy", SPEC, a_description())
    study.add_trials([create_trial(value=0.5), create_trial(value=0.75)])
    read: list[int] = []
    original = RetryingStorage._get_trials

    def noted(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
        trials = original(self, *args, **kwargs)
        read.extend(trial.number for trial in trials)
        return trials

    monkeypatch.setattr(RetryingStorage, "_get_trials", noted)
    monkeypatch.setattr(RetryingStorage, "get_all_trials", None)  # which reads them all each time
    monkeypatch.setattr("optuna_dashboard._storage.timedelta", lambda **_: timedelta(0))  # it keeps them for seconds
    dashboard: Any = pages(store)
    for _ in range(2):
        answer = ask(dashboard, "/api/studies/1", "after=0")
        assert [trial["values"] for trial in json.loads(answer.body)["trials"]] == [[0.5], [0.75]]
    assert read == [0, 1]


def test_dashboard_on_this_machine_answers_to_its_own_name_alone(terminal: Terminal) -> None:
    port = free_port()
    with served(terminal, "--port", str(port)) as said:
        assert said == [f"dashboard: http://127.0.0.1:{port}/\n"]
        url = f"http://127.0.0.1:{port}/api/studies"
        status, body = fetch(url)
        assert [study["study_name"] for study in json.loads(body)["study_summaries"]] == ["mine"]
        assert status == 200
        assert fetch(url, Host=f"evil.example:{port}")[0] == 403


def test_dashboard_for_others_asks_for_the_token_and_slow_visitors_stop_nobody(terminal: Terminal) -> None:
    port = free_port()
    terminal.environment[VARIABLE] = TOKEN
    with served(terminal, "--host", OPEN, "--port", str(port)) as said:
        assert "WARNING: not encrypted" in said[0]
        url = f"http://127.0.0.1:{port}"
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        begin = time.monotonic()
        assert fetch(f"{url}/api/studies")[0] == 401
        assert fetch(f"{url}/api/studies", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert fetch(f"{url}/dashboard", Authorization=basic(TOKEN))[0] == 200
        assert time.monotonic() - begin < 10
        for visitor in slow:
            visitor.close()
    assert TOKEN not in "".join(said)
