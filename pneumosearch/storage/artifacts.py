"""Where artifacts are kept: a folder, perhaps one that several machines mount, a bucket, or an SFTP server.

Optuna and fsspec read and write. What they lack is added here: keys cannot leave the artifact store, calls are retried
with a backoff while it is away, errors are one line without credentials, and a folder that is not mounted is not
written to.
"""

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from optuna.artifacts.exceptions import ArtifactNotFound

from pneumosearch.errors import ArtifactsError, ConfigError, StoreError
from pneumosearch.storage.artifact_backends import FILE_SYSTEMS, MARKER, Bucket, Folder, is_key
from pneumosearch.storage.retry import ConnectionLost, call_with_retry, first_line

#: For how long calls are retried while the artifact store is away, s.
PATIENCE: Final = 60.0

_ABOUT: Final = b"Checkpoints, networks and pictures of pneumosearch. Do not remove this file.\n"

_EXAMPLES: Final = (
    "a folder, file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or sftp://HOST/FOLDER"
)
_CREDENTIALS: Final = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "sftp": "use a key of ~/.ssh or an agent",
}
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+@)?([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")

# What stays as it is for every further attempt; anything else may pass, such as a file server that is away.
_LASTING: Final = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.EISDIR,
})  # fmt: skip
_REFUSALS: Final = re.compile("Credential|Auth|Denied|HostKey|Profile|ValueError|PermissionError")  # classes
_SECRETS: Final = re.compile(r"(AWS|AZURE)_\w*(KEY|TOKEN|SECRET|STRING)\w*")  # variables of the environment
_Result = TypeVar("_Result")


class Artifacts:
    """The artifact store at a URL; each call is retried for a while where that is away.

    It follows Optuna's protocol of artifact stores, for its dashboard and `upload_artifact`.

    Args:
        url: As `artifacts_url` returns it.
        patience: For how long calls are retried, s.
        earlier: Folder with the artifacts from before the study had this URL.

    Raises:
        ConfigError: The URL cannot be used, or the package that it needs is missing.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE, earlier: Folder | None = None) -> None:
        self.url, self.patience = artifacts_url(url), patience
        self._backend, self._earlier = _backend(self.url), earlier

    def make(self) -> None:
        """Write the marker, so that it is known now whether artifacts can be written.

        Raises:
            ArtifactsError: They cannot.
        """
        if isinstance(self._backend, Folder):
            self._with_retry(lambda: Path(self.url).mkdir(parents=True, exist_ok=True))
        self._with_retry(lambda: self._backend.write(MARKER, BytesIO(_ABOUT)))

    def check(self) -> None:
        """Raise `ArtifactsError` where the marker cannot be read or was never written."""
        try:
            self._with_retry(lambda: self._backend.open_reader(MARKER).close())
        except ArtifactNotFound as error:
            raise ArtifactsError(
                f"artifacts in {self.url}: there are none (no {MARKER}); mount or name the right place with --artifacts"
            ) from error

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact. Raises `ArtifactNotFound`."""
        try:
            return self._with_retry(lambda: self._backend.open_reader(artifact_id))
        except ArtifactNotFound:
            return self._kept_earlier(lambda folder: folder.open_reader(artifact_id))

    def read(self, artifact_id: str, take: Callable[[BinaryIO], _Result]) -> _Result:
        """Return what `take` makes of an artifact; it is called again where reading fails halfway.

        Raises:
            ArtifactNotFound: There is none.
        """

        def attempt() -> _Result:
            with self._backend.open_reader(artifact_id) as file:
                return take(file)

        try:
            return self._with_retry(attempt)
        except ArtifactNotFound:
            return self._kept_earlier(lambda folder: folder.read(artifact_id, take))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact, whole or not at all, over the one that has this key."""
        begin = content_body.tell()

        def attempt() -> None:
            content_body.seek(begin)
            self._backend.write(artifact_id, content_body)

        self._with_retry(attempt)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, where there is one."""
        with suppress(ArtifactNotFound):
            self._with_retry(lambda: self._backend.remove(artifact_id))

    def names(self, folder: str) -> list[str]:
        """Return the names of the folders in `folder`, sorted."""
        return self._with_retry(lambda: self._backend.names(folder))

    def remove_folder(self, folder: str) -> None:
        """Remove all artifacts whose key begins with `folder` and a slash."""
        self._with_retry(lambda: self._backend.remove_folder(folder))

    def _kept_earlier(self, call: Callable[[Folder], _Result]) -> _Result:
        """Look for an artifact in the earlier folder; raise `ArtifactsError` where the URL is the wrong one."""
        if self._earlier is not None:
            with suppress(ArtifactNotFound):
                return call(self._earlier)
        self.check()
        raise ArtifactNotFound(f"not in {self.url}")

    def _with_retry(self, call: Callable[[], _Result]) -> _Result:
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
                if isinstance(self._backend, Bucket):
                    self._backend.reconnect()
                if _may_pass(error):
                    raise ConnectionLost(reason) from error
                raise StoreError(f"{name}: cannot be used ({reason})") from error

        try:
            return call_with_retry(attempt, self.patience, name)
        except StoreError as error:
            raise ArtifactsError(str(error)) from error


def artifacts_url(given: str) -> str:
    """Return the URL of artifacts as it is stored with a study: an absolute folder, or a URL such as s3://BUCKET/PREFIX.

    Raises:
        ConfigError: Another kind of URL, or credentials in it, which are for the environment.
    """
    if "://" not in given:
        return str(Path(given).expanduser().absolute())
    parts = urlsplit(given)
    user, at, _ = parts.netloc.rpartition("@")
    if at and (parts.scheme != "sftp" or ":" in user):
        raise ConfigError(
            f"--artifacts {parts.scheme}://...: no credentials in the URL, where logs and the store would show them; "
            f"{_CREDENTIALS.get(parts.scheme, 'give them by the environment')}"
        )
    extra = parts.query or parts.fragment  # a folder's name has ? and # as %3F and %23
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/") and not extra:
        return str(Path(unquote(parts.path)).absolute())
    prefix = parts.path.strip("/")
    fits = _fits(parts) and (is_key(prefix) if prefix else parts.scheme != "sftp")
    if not fits or extra:
        raise ConfigError(f"--artifacts '{given}': wanted {_EXAMPLES}")
    return f"{parts.scheme}://" + "/".join(filter(None, (parts.netloc, prefix)))


def _fits(parts: SplitResult) -> bool:
    """Tell whether the scheme of a URL is known, and whether it names a bucket or a host."""
    if parts.scheme not in FILE_SYSTEMS:
        return False
    return (_HOST if parts.scheme == "sftp" else _BUCKET).fullmatch(parts.netloc) is not None


def _backend(url: str) -> Folder | Bucket:
    if "://" not in url:
        return Folder(Path(url), marked=True)
    try:
        return Bucket(url)
    except ImportError as error:
        scheme = urlsplit(url).scheme
        package, _ = FILE_SYSTEMS[scheme]
        raise ConfigError(f"--artifacts {url} needs {package}: pip install 'pneumosearch[{scheme}]'") from error


def _reason(error: Exception) -> str | None:
    """Return in one line why the artifact store failed; None where the error is one of this program."""
    if not isinstance(error, OSError | ValueError) and type(error).__module__ == "builtins":
        return None
    text = getattr(error, "strerror", None) or first_line(error)
    if _is_missing(error):
        text = f"not found: {text}"
    file = getattr(error, "filename", None)
    return _without_secrets(f"{text}: {file}" if file else text)


def _may_pass(error: Exception) -> bool:
    """Tell whether the same may succeed later."""
    if _is_missing(error):
        return False
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status != 429
    refused = refused or any(_REFUSALS.search(kind.__name__) for kind in type(error).__mro__)
    return not refused and getattr(error, "errno", None) not in _LASTING


def _is_missing(error: Exception) -> bool:
    """Tell whether a server answered that there is no such bucket; the system's own errors have a number."""
    return isinstance(error, FileNotFoundError) and error.errno is None


def _without_secrets(text: str) -> str:
    """Return a message without credentials of the environment or of an endpoint's URL."""
    for value in (value for name, value in os.environ.items() if value and _SECRETS.fullmatch(name)):
        text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]*@", "//***@", text)
