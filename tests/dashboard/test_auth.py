"""Who may see the dashboard."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
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

from pneumosearch.dashboard.auth import COOKIE, Guard
from pneumosearch.dashboard.server import Endpoint, pages, serve
from pneumosearch.errors import StoreError
from pneumosearch.storage.auth import VARIABLE
from pneumosearch.storage.grpc_server import Tls
from pneumosearch.storage.retry import RetryingStorage
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from tests.storage.test_grpc import certificate  # noqa: F401  a fixture
from tests.support.fakes import SPEC, a_description
from tests.support.postgres import free_port
from tests.support.terminal import Terminal

TOKEN = "a-token-for-these-tests"  # noqa: S105
PUBLIC = {"HTTP_HOST": "search.example:8080"}


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
    return Guard(app, TOKEN, local=False)


def cookie_of(answer: Answer) -> str:
    return answer.headers["Set-Cookie"].split(";")[0]


def test_link_with_the_token_lets_in_by_a_cookie_that_is_not_the_token(guard: Guard) -> None:
    answer = ask(guard, query=f"token={TOKEN}", **PUBLIC)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(answer.headers["Set-Cookie"].split("; "))
    assert TOKEN not in str(answer)
    assert "url=/'" in answer.body
    assert ask(guard, "/api/studies", HTTP_COOKIE=cookie_of(answer), **PUBLIC).body == "the dashboard"
    assert ask(guard, HTTP_COOKIE=f"other=1; {cookie_of(answer)}", **PUBLIC).body == "the dashboard"
    assert "Secure" not in answer.headers["Set-Cookie"]
    assert "; Secure" in ask(Guard(app, TOKEN, local=False, secure=True), query=f"token={TOKEN}").headers["Set-Cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_AUTHORIZATION": "Bearer wrong-wrong-wrong-wrong"},
        {"HTTP_AUTHORIZATION": f"Basic {TOKEN}"},
        {"HTTP_AUTHORIZATION": "Bearer "},
        {"HTTP_COOKIE": f"{COOKIE}={TOKEN}"},
        {"HTTP_COOKIE": f"{COOKIE}="},
        {"HTTP_COOKIE": "\x00;=;;"},
        {"HTTP_COOKIE": f"{COOKIE}=\udcff"},
        {"query": "token=wrong"},
        {"query": f"token={TOKEN}&token={TOKEN}"},
        {"query": "&".join(["a=b"] * 50)},
        {"path": "/api/studies", "query": f"token={TOKEN}"},
        {"path": "/static/bundle.js"},
        {"method": "POST", "path": "/api/studies"},
    ],
)
def test_everything_else_is_refused_with_a_plain_page(guard: Guard, headers: dict[str, str]) -> None:
    answer = ask(guard, **{**PUBLIC, **headers})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "the dashboard" not in answer.body
    assert "Set-Cookie" not in answer.headers


def test_bearer_header_lets_in_scripts(guard: Guard) -> None:
    assert ask(guard, "/api/studies", HTTP_AUTHORIZATION=f"Bearer {TOKEN}", **PUBLIC).body == "the dashboard"


def test_cookie_of_another_token_is_worth_nothing(guard: Guard) -> None:
    cookie = cookie_of(ask(Guard(app, TOKEN + "x", local=False), query=f"token={TOKEN}x"))
    assert ask(guard, HTTP_COOKIE=cookie).status == 401
    forged = cookie_of(ask(Guard(app, "", local=False), query="token="))  # as anybody can make
    assert ask(guard, HTTP_COOKIE=forged).status == 401


@settings(max_examples=40)
@given(st.text(st.characters(codec="latin-1")), st.text(st.characters(codec="latin-1")), st.text(), st.text())
def test_no_request_gets_in_by_accident_or_breaks_the_guard(query: str, cookie: str, host: str, bearer: str) -> None:
    strange = {"HTTP_COOKIE": cookie, "HTTP_HOST": host, "HTTP_AUTHORIZATION": f"Bearer {bearer}", "HTTP_ORIGIN": host}
    assert ask(Guard(app, TOKEN, local=False), query=query, **strange).status == 401
    assert ask(Guard(app, None, local=True), query=query, **{**strange, "HTTP_HOST": f"{host}.example"}).status == 403


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
    assert ask(Guard(app, None, local=True), HTTP_HOST=host).status == status
    shown = ask(Guard(app, TOKEN, local=True), HTTP_HOST=host, HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
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
    answer = ask(Guard(app, None, local=True), method=method, HTTP_HOST="localhost:8080", HTTP_ORIGIN=origin)
    assert answer.status == status
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_answers_tell_browsers_to_be_careful_and_artifacts_run_nothing(guard: Guard) -> None:
    for answer in (ask(guard), ask(guard, HTTP_AUTHORIZATION=f"Bearer {TOKEN}")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    artifact = ask(Guard(app, None, local=True), "/artifacts/1/abc", HTTP_HOST="localhost")
    assert artifact.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_open_address_without_a_token_and_unusable_ports_are_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="so that a token is needed"):
        serve(store, Endpoint("0.0.0.0"))  # noqa: S104  refused
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StoreError, match=r"port \d+ of 127.0.0.1 cannot be used .*choose another --port"):
            serve(store, Endpoint(port=taken.getsockname()[1]))
    (tmp_path / "x.pem").write_text("no certificate")
    with pytest.raises(StoreError, match="no usable certificate and key"):
        serve(store, Endpoint(certificate=tmp_path / "x.pem", key=tmp_path / "x.pem"))


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


def fetch(url: str, context: ssl.SSLContext | None = None, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10, context=context
        ) as answer:
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
    with served(terminal, "--host", "0.0.0.0", "--port", str(port)) as said:  # noqa: S104
        token = (terminal.folder / "results" / "token").read_text().strip()
        assert "WARNING: no TLS" in said[0]
        assert said[1].endswith(f":{port}/?token=$(cat results/token)\n")
        url = f"http://127.0.0.1:{port}"
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        begin = time.monotonic()
        assert fetch(f"{url}/api/studies")[0] == 401
        assert fetch(f"{url}/api/studies", Authorization=f"Bearer {token}")[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", f"/?token={token}")
        cookie = (connection.getresponse().getheader("Set-Cookie") or "").split(";")[0]
        connection.close()
        assert fetch(f"{url}/dashboard", Cookie=cookie)[0] == 200
        assert time.monotonic() - begin < 10
        for visitor in slow:
            visitor.close()
    assert token not in "".join(said)


def test_link_is_one_word_of_a_shell_whatever_the_results_are_called(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path / "run ?1" / "pneumosearch.db"), tmp_path / "run ?1")
    store.open_study("mine", "search", "accuracy", SPEC, a_description())
    port = free_port()
    with served(Terminal(tmp_path), "--host", "0.0.0.0", "--port", str(port), "--results", "run ?1") as said:  # noqa: S104
        assert said[1].endswith(f":{port}/?token=$(cat 'run ?1/token')\n")


def test_dashboard_speaks_tls(terminal: Terminal, certificate: Tls) -> None:  # noqa: F811
    port = free_port()
    terminal.environment[VARIABLE] = TOKEN
    files = ("--certificate", str(certificate.certificate), "--key", str(certificate.key))
    with served(terminal, "--port", str(port), *files) as said:
        assert said == [f"dashboard: https://127.0.0.1:{port}/?token=$PNEUMOSEARCH_TOKEN\n"]
        silent = socket.create_connection(("127.0.0.1", port))
        context = ssl.create_default_context(cafile=os.fspath(certificate.certificate))
        url = f"https://127.0.0.1:{port}/api/studies"
        assert fetch(url, context)[0] == 401
        assert fetch(url, context, Authorization=f"Bearer {TOKEN}")[0] == 200
        silent.close()
    _, err = terminal.run("dashboard", *files[:2], code=1)
    assert "--certificate and --key: TLS needs both" in err
