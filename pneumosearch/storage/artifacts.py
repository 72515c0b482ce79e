"""Where artifacts are kept: a folder, perhaps one that several machines mount, or a bucket of S3 or the like.

Optuna's own artifact stores do the reading and writing. What they lack is added here: a file in a folder is there whole
or not at all, keys cannot leave the place, what belongs to a trial can be listed and removed, a place that has gone
away is waited for a while, and its failures are told in one line without credentials.
"""

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, TypeVar
from urllib.parse import unquote, urlsplit

from optuna.artifacts.exceptions import ArtifactNotFound

from pneumosearch.errors import ArtifactsError, ConfigError, StoreError
from pneumosearch.storage.artifact_backends import MARKER, Bucket, Folder, Place, is_key
from pneumosearch.storage.retry import ConnectionLost, first_line, persist

#: For how long calls wait for a place that has gone away, s.
PATIENCE: Final = 60.0

_ABOUT: Final = b"Checkpoints, networks and pictures of pneumosearch. Do not remove this file.\n"

_EXAMPLES: Final = "a folder, file:///FOLDER or s3://BUCKET/PREFIX"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

# What a folder answers to every further attempt as well; anything else may pass, such as a file server that is away.
_LASTING: Final = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR
})  # fmt: skip
_BUSY: Final = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "InternalError"})
_SECRETS: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_Result = TypeVar("_Result")


class Artifacts:
    """Artifacts of a URL, each call repeated for a while where the place has gone away.

    It is an artifact store of Optuna, for its dashboard and `upload_artifact`.

    Args:
        url: As `artifacts_url` returns it.
        patience: For how long calls are repeated, s.
        earlier: Where to look for what is not there: it was kept before the study had this URL.

    Raises:
        ConfigError: The URL cannot be used, or boto3 is missing.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE, earlier: Folder | None = None) -> None:
        self.url, self.patience = artifacts_url(url), patience
        self._place, self._earlier = _place(self.url), earlier

    def make(self) -> None:
        """Make the place fit to be used, which tells now whether it can be written.

        Raises:
            ArtifactsError: It cannot.
        """
        if isinstance(self._place, Folder):
            self._ask(lambda: Path(self.url).mkdir(parents=True, exist_ok=True))
        self._ask(lambda: self._place.write(MARKER, BytesIO(_ABOUT)))

    def check(self) -> None:
        """Raise `ArtifactsError` where the place cannot be read or was never made."""
        try:
            self._ask(lambda: self._place.open_reader(MARKER).close())
        except ArtifactNotFound as error:
            raise ArtifactsError(
                f"artifacts in {self.url}: there are none (no {MARKER}); mount or name the right place with --artifacts"
            ) from error

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact. Raises `ArtifactNotFound`."""
        try:
            return self._ask(lambda: self._place.open_reader(artifact_id))
        except ArtifactNotFound:
            return self._kept_earlier(lambda folder: folder.open_reader(artifact_id))

    def read(self, artifact_id: str, take: Callable[[BinaryIO], _Result]) -> _Result:
        """Return what `take` makes of an artifact; it is called again where reading fails on the way.

        Raises:
            ArtifactNotFound: There is none.
        """

        def attempt() -> _Result:
            with self._place.open_reader(artifact_id) as file:
                return take(file)

        try:
            return self._ask(attempt)
        except ArtifactNotFound:
            return self._kept_earlier(lambda folder: folder.read(artifact_id, take))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact, whole or not at all, over the one that has this key."""
        begin = content_body.tell()

        def attempt() -> None:
            content_body.seek(begin)
            self._place.write(artifact_id, content_body)

        self._ask(attempt)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, where there is one."""
        with suppress(ArtifactNotFound):
            self._ask(lambda: self._place.remove(artifact_id))

    def names(self, folder: str) -> list[str]:
        """Return the names of the folders in `folder`, sorted."""
        return self._ask(lambda: self._place.names(folder))

    def remove_folder(self, folder: str) -> None:
        """Remove all artifacts whose key begins with `folder` and a slash."""
        self._ask(lambda: self._place.remove_folder(folder))

    def _kept_earlier(self, call: Callable[[Folder], _Result]) -> _Result:
        """Look for what is not at the URL where it was kept before; say so where the URL is the wrong place."""
        if self._earlier is not None:
            with suppress(ArtifactNotFound):
                return call(self._earlier)
        self.check()
        raise ArtifactNotFound(f"not in {self.url}")

    def _ask(self, call: Callable[[], _Result]) -> _Result:
        name = f"artifacts in {self.url}"

        def attempt() -> _Result:
            try:
                return call()
            except ArtifactNotFound:
                raise
            except Exception as error:
                reason = _reason(error)
                if reason is None:
                    raise
                if _may_pass(error):
                    raise ConnectionLost(reason) from error
                raise StoreError(f"{name}: cannot be used ({reason})") from error

        try:
            return persist(attempt, self.patience, name)
        except StoreError as error:
            raise ArtifactsError(str(error)) from error


def artifacts_url(given: str) -> str:
    """Return the URL of artifacts as it is stored with a study: an absolute folder, or s3://BUCKET/PREFIX.

    Raises:
        ConfigError: Another kind of URL, or credentials in it, which are for the environment.
    """
    if "://" not in given:
        return str(Path(given).expanduser().absolute())
    parts = urlsplit(given)
    if "@" in parts.netloc:
        raise ConfigError(
            f"--artifacts {parts.scheme}://...: no credentials in the URL, where logs and the store would show them; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return str(Path(unquote(parts.path)).absolute())
    prefix = parts.path.strip("/")
    fits = _BUCKET.fullmatch(parts.netloc) and (not prefix or is_key(prefix))
    if parts.scheme != "s3" or not fits or parts.query or parts.fragment:
        raise ConfigError(f"--artifacts '{given}': wanted {_EXAMPLES}")
    return "s3://" + "/".join(filter(None, (parts.netloc, prefix)))


def _place(url: str) -> Place:
    if not url.startswith("s3://"):
        return Folder(Path(url), marked=True)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    try:
        return Bucket(bucket, prefix)
    except ImportError as error:
        raise ConfigError(f"--artifacts {url} needs boto3: pip install 'pneumosearch[s3]'") from error
    except Exception as error:
        if not isinstance(error, ValueError) and not _is_botos(error):
            raise
        # Of the environment: an endpoint that is no URL, a profile that is not there.
        raise ConfigError(f"--artifacts {url}: {_without_secrets(first_line(error))}") from error


def _reason(error: Exception) -> str | None:
    """Say in one line why a place failed; None where it is no failure of a place."""
    if isinstance(error, OSError) and not _is_botos(error):
        return (error.strerror or str(error)) + (f": {error.filename}" if error.filename else "")
    return _without_secrets(first_line(error)) if _is_botos(error) else None


def _may_pass(error: Exception) -> bool:
    if not _is_botos(error):
        return isinstance(error, OSError) and error.errno not in _LASTING
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or error.response.get("Error", {}).get("Code") in _BUSY
    broken = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError)
    return isinstance(error, (*broken, exceptions.ResponseStreamingError))


def _is_botos(error: Exception) -> bool:
    return any(kind.__module__.partition(".")[0] in ("botocore", "boto3", "s3transfer") for kind in type(error).__mro__)


def _without_secrets(text: str) -> str:
    """Return a message without what the environment keeps secret, of which an endpoint's URL may have a part."""
    for value in filter(None, map(os.environ.get, _SECRETS)):
        text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]*@", "//***@", text)
