"""The token of the gRPC server and the dashboard: where it comes from, and how it is compared.

Both need one on an address that other machines reach, because the nodes of a cluster often cannot open SSH tunnels to
each other, and on 127.0.0.1 it keeps out the other users of a shared machine. Optuna's own server and dashboard ask for
nothing. Encryption is left to `ssh -L`.
"""

import hmac
import os
import platform
from pathlib import Path
from typing import Final

from pneumosearch.errors import ConfigError

#: Environment variables with the token, or with the name of its file.
VARIABLE: Final = "PNEUMOSEARCH_TOKEN"
FILE_VARIABLE: Final = "PNEUMOSEARCH_TOKEN_FILE"

#: Fewest characters of a token.
SHORTEST: Final = 16

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def configured_token() -> str | None:
    """Return the token of the environment; None where it has none.

    Raises:
        ConfigError: It is too short or holds characters that no header may, or its file cannot be read.
    """
    if VARIABLE in os.environ:
        return _checked(os.environ[VARIABLE].strip(), f"${VARIABLE}")
    if FILE_VARIABLE not in os.environ:
        return None
    path = os.environ[FILE_VARIABLE]
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise ConfigError(f"{path}: no token can be read from it ({reason})") from error
    return _checked(text, path)


def token_for(host: str) -> str | None:
    """Return the token that a server at `host` asks for; None where it asks for none.

    Raises:
        ConfigError: As `configured_token`; other machines can reach it, and there is no token.
    """
    token = configured_token()
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: other machines can reach it, so that a token is needed; set {VARIABLE} to what "
            f"'openssl rand -hex 32' prints, or {FILE_VARIABLE} to a file with it"
        )
    return token


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


def _checked(secret: str, source: str) -> str:
    if len(secret) < SHORTEST or not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise ConfigError(f"{source}: a token is {SHORTEST} or more visible ASCII characters; this one is not")
    return secret
