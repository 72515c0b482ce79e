"""Access to the dashboard: a token and checks before optuna-dashboard, which has no log-in and can delete studies.

An SSH tunnel replaces the token for those who have an account on its machine, but not the checks: any page that a
browser has open can send requests to localhost.

- With a token: a visitor logs in by a link `/?token=...`, which sets a cookie that is derived from the token, or sends
  it as `Authorization: Bearer ...`. Everything else is answered 401.
- Where only this machine can reach it: only requests that name this machine are answered. A page from elsewhere can
  let its own host name point here (DNS rebinding), but not name another host.
- Requests that change something and come from a page of another site are refused.
- Answers tell the browser to run no foreign content; artifacts, which may be any file, run nothing at all.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from pneumosearch.storage.auth import tokens_equal

COOKIE: Final = "pneumosearch"

_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PURPOSE: Final = b"pneumosearch dashboard"  # so that the cookie is good for nothing else
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_ARTIFACT_POLICY: Final = "sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; media-src 'self'"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # an address may hold the token
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE: Final = "<!DOCTYPE html><html lang='en'><meta charset='utf-8'>{head}<title>{title}</title><p>{text}</p></html>"
# A page, as a redirect from a link in a mail would not carry the cookie of the same site.
_ENTER: Final = "<meta http-equiv='refresh' content='0;url=/'>"


class Guard:
    """A WSGI application that lets through to `app` who may.

    Args:
        app: What is guarded.
        token: What visitors must show; None only where `local`.
        local: Whether only this machine can reach the server.
        secure: Whether visitors come by TLS, so that the cookie is for TLS alone.
    """

    def __init__(self, app: WSGIApplication, token: str | None, *, local: bool, secure: bool = False) -> None:
        self._app, self._token, self._local, self._secure = app, token, local, secure
        self._pass = hmac.new((token or "").encode(), _PURPOSE, hashlib.sha256).hexdigest()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        start = _with_headers(start_response, environ)
        if self._local and _host(environ) not in _LOCAL_HOSTS:
            return _page(start, "403 Forbidden", "This dashboard answers to localhost and 127.0.0.1 alone.")
        if _from_another_site(environ):
            return _page(start, "403 Forbidden", "This request comes from a page of another site.")
        if self._token is None or self._is_known(environ):
            return self._app(environ, start)
        if self._shows_token(environ):
            return self._let_in(start)
        text = "Open the link with the token that the server's owner gave you: /?token=..."
        return _page(start, "401 Unauthorized", text, [("WWW-Authenticate", "Bearer")])

    def _is_known(self, environ: WSGIEnvironment) -> bool:
        kind, _, shown = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if kind.lower() == "bearer" and tokens_equal(shown, str(self._token)):
            return True
        try:
            cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and tokens_equal(cookie.value, self._pass)

    def _shows_token(self, environ: WSGIEnvironment) -> bool:
        try:
            shown = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=10).get("token", [""])
        except ValueError:  # more fields than that
            return False
        at_door = str(environ.get("PATH_INFO")) == "/"
        return at_door and len(shown) == 1 and tokens_equal(shown[0], str(self._token))

    def _let_in(self, start: StartResponse) -> Iterable[bytes]:
        cookie = f"{COOKIE}={self._pass}; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if self._secure else "")
        return _page(start, "200 OK", "Welcome.", [("Set-Cookie", cookie)], head=_ENTER)


def _host(environ: WSGIEnvironment) -> str | None:
    """Return the host that a request names, without its port; None where it names none that can be read."""
    try:
        return urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname
    except ValueError:
        return None


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


def _page(
    start: StartResponse, status: str, text: str, headers: list[tuple[str, str]] | None = None, head: str = ""
) -> Iterable[bytes]:
    body = _PAGE.format(head=head, title=escape(status), text=escape(text)).encode()
    usual = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    start(status, [*usual, ("Cache-Control", "no-store"), *(headers or [])])
    return [body]
