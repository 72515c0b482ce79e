"""Access to the dashboard: checks before optuna-dashboard, which has no log-in and can delete studies.

An SSH tunnel encrypts, and replaces the token for those who have an account on its machine, but not the checks: any
page that a browser has open can send requests to localhost.

- With a token: the browser asks for it as a password (HTTP Basic, any user), scripts send it as `Authorization:
  Bearer ...`. Everything else is answered 401.
- Where only this machine can reach it: only requests that name this machine are answered. A page from elsewhere can
  let its own host name point here (DNS rebinding), but not name another host.
- Requests that change something and come from a page of another site are refused.
- Answers tell the browser to run no foreign content; artifacts, which may be any file, run nothing at all.
"""

from base64 import b64decode
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from pneumosearch.storage.auth import is_loopback, tokens_equal

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_ARTIFACT_POLICY: Final = "sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; media-src 'self'"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """A WSGI application that lets through to `app` who may.

    Args:
        app: What is guarded.
        host: Address at which the server listens.
        token: What visitors must show; None only where no other machine can reach it.
    """

    def __init__(self, app: WSGIApplication, host: str, token: str | None) -> None:
        self._app, self._token, self._local = app, token, is_loopback(host)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        start = _with_headers(start_response, environ)
        if self._local and not is_loopback(_host(environ)):
            return _refuse(start, "403 Forbidden", "This dashboard answers to localhost and 127.0.0.1 alone.")
        if _from_another_site(environ):
            return _refuse(start, "403 Forbidden", "This request comes from a page of another site.")
        if self._token is not None and not tokens_equal(_shown(environ), self._token):
            text = "The token of the server's owner is the password; the user's name may be anything."
            return _refuse(start, "401 Unauthorized", text, ("WWW-Authenticate", 'Basic realm="pneumosearch"'))
        return self._app(environ, start)


def _shown(environ: WSGIEnvironment) -> str:
    """Return the token of a request; empty where it has none that can be read."""
    kind, _, shown = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if kind.lower() != "basic":
        return shown if kind.lower() == "bearer" else ""
    try:
        return b64decode(shown).decode().partition(":")[2]
    except ValueError:
        return ""


def _host(environ: WSGIEnvironment) -> str:
    """Return the host that a request names, without its port; empty where it names none that can be read."""
    try:
        return urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""
    except ValueError:
        return ""


def _from_another_site(environ: WSGIEnvironment) -> bool:
    origin = environ.get("HTTP_ORIGIN")
    if origin is None or environ["REQUEST_METHOD"] in _SAFE_METHODS:
        return False
    return str(origin).partition("://")[2] != str(environ.get("HTTP_HOST", ""))


def _with_headers(start_response: StartResponse, environ: WSGIEnvironment) -> StartResponse:
    """Return a `start_response` that adds what every answer says."""
    artifact = environ.get("PATH_INFO", "").startswith("/artifacts/")
    added = [*_HEADERS.items(), ("Content-Security-Policy", _ARTIFACT_POLICY if artifact else _POLICY)]

    def start(status: str, headers: list[tuple[str, str]], *rest: object) -> Callable[[bytes], object]:
        kept = [(name, value) for name, value in headers if name.lower() != "access-control-allow-origin"]
        return start_response(status, kept + added, *rest)  # type: ignore[arg-type]

    return start


def _refuse(start: StartResponse, status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    body = text.encode()
    usual = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start(status, [*usual, ("Cache-Control", "no-store"), *headers])
    return [body]
