"""The tokens of the gRPC server and the dashboard: where they come from, and how they are compared."""

import hmac
import os
import platform
import secrets
import stat
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from pneumosearch.errors import ConfigError

#: Environment variables with a token, or with the name of its file.
VARIABLE: Final = "PNEUMOSEARCH_TOKEN"
FILE_VARIABLE: Final = "PNEUMOSEARCH_TOKEN_FILE"

#: Fewest characters of a token.
SHORTEST: Final = 16

_FILE: Final = "token"  # below the results folder
_BYTES: Final = 32  # of a generated token
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Token(NamedTuple):
    """A secret, and where it is kept, which may be shown."""

    secret: str
    source: str


def configured_token(file: Path | None = None) -> Token | None:
    """Return the token of `file`, else of the environment; None where neither has one.

    Raises:
        ConfigError: It is too short or holds characters that no header may, or its file cannot be read.
    """
    if file is None and VARIABLE in os.environ:
        return _checked(os.environ[VARIABLE].strip(), f"${VARIABLE}")
    if file is None and FILE_VARIABLE not in os.environ:
        return None
    return _read(file or Path(os.environ[FILE_VARIABLE]))


def required_token(results: Path) -> Token:
    """Return the token of the environment, else that of the results folder, which is made the first time.

    Raises:
        ConfigError: As `configured_token`; the file cannot be written, or others may read it.
    """
    given = configured_token()
    if given is not None:
        return given
    path = results / _FILE
    try:
        if not path.exists():
            _create(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"{path}: others may read this token; delete it for a new one, or chmod 600")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give a token by ${VARIABLE}") from error
    return _read(path)


def token_for(host: str, results: Path) -> Token | None:
    """Return the token that a server at `host` asks for: it needs one where other machines may reach it."""
    return configured_token() if is_loopback(host) else required_token(results)


def is_loopback(host: str) -> bool:
    """Tell whether a server that listens at `host` can be reached from this machine alone."""
    return host in _LOOPBACK


def name_in_url(host: str) -> str:
    """Return the host for the URL of a server that listens at `host`: for "all addresses", this machine's name."""
    name = platform.node() if host in ("0.0.0.0", "::") else host  # noqa: S104  compared, not bound
    return f"[{name}]" if ":" in name else name


def tokens_equal(given: str, secret: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(errors="surrogateescape"), secret.encode())


def _create(path: Path) -> None:
    """Write a new token to `path`, unless another process does so first: both then read the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(_BYTES) + "\n")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def _read(path: Path) -> Token:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise ConfigError(f"{path}: no token can be read from it ({reason})") from error
    return _checked(text, str(path))


def _checked(secret: str, source: str) -> Token:
    if len(secret) < SHORTEST or not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise ConfigError(f"{source}: a token is {SHORTEST} or more visible ASCII characters; this one is not")
    return Token(secret, source)
