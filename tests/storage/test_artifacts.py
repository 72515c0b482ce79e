"""The place of artifacts, a folder or a bucket, by itself."""

import io
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from pneumosearch.errors import ArtifactsError, ConfigError
from pneumosearch.storage.artifact_backends import MARKER, Bucket, Folder
from pneumosearch.storage.artifacts import Artifacts, artifacts_url
from tests.support.s3 import SECRET, keys
from tests.support.sftp import Sftp, sftp_server


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sftp]:
    """An SFTP server that this user's ~/.ssh knows."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with sftp_server(tmp_path / "home", tmp_path / "served") as server:
        yield server


@pytest.fixture
def sftp(ssh: Sftp) -> str:
    """The URL of a folder on an SFTP server."""
    return ssh.url


@pytest.fixture(params=["folder", "bucket", "sftp"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    url = str(tmp_path / "shared") if request.param == "folder" else request.getfixturevalue(request.param)
    found = Artifacts(url, patience=0)
    found.make()
    return found


def content(artifacts: Artifacts | Folder, key: str) -> bytes:
    return artifacts.read(key, lambda file: bytes(file.read()))


def test_artifacts_are_written_over_listed_and_removed(artifacts: Artifacts) -> None:
    for text in (b"first", b"second"):
        artifacts.write("checkpoints/a/3/epoch-0001.zip", io.BytesIO(text))
    artifacts.write("checkpoints/a/12/epoch-0001.zip", io.BytesIO(b"other"))
    artifacts.write("checkpoints/a-b/4/epoch-0001.zip", io.BytesIO(b"of another study"))
    assert content(artifacts, "checkpoints/a/3/epoch-0001.zip") == b"second"
    assert artifacts.names("checkpoints/a") == ["12", "3"]
    artifacts.remove_folder("checkpoints/a/3")
    artifacts.remove_folder("checkpoints/a/3")
    artifacts.remove("checkpoints/a/12/epoch-0001.zip")
    artifacts.remove("checkpoints/a/12/epoch-0001.zip")
    for number in (3, 12):
        with pytest.raises(ArtifactNotFound):
            content(artifacts, f"checkpoints/a/{number}/epoch-0001.zip")
    assert content(artifacts, "checkpoints/a-b/4/epoch-0001.zip") == b"of another study"
    assert artifacts.names("checkpoints/none") == []


class Torn(io.BytesIO):
    """Breaks off in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 0:
            raise OSError("the file cannot be read on")
        return super().read(3)


def test_an_upload_that_breaks_off_leaves_what_was_there(artifacts: Artifacts) -> None:
    artifacts.write("model", io.BytesIO(b"whole"))
    with pytest.raises(ArtifactsError, match="the file cannot be read on"):
        artifacts.write("model", Torn(b"other"))
    with pytest.raises(ArtifactsError, match="the file cannot be read on"):
        artifacts.write("new", Torn(b"other"))
    assert content(artifacts, "model") == b"whole"
    with pytest.raises(ArtifactNotFound):
        content(artifacts, "new")


def test_a_failed_upload_is_tried_again_from_its_beginning(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(5, "Input/output error"), OSError(116, "Stale file handle")]
    sent: list[bytes] = []
    place: Any = Bucket if "://" in artifacts.url else Folder
    write = place.write

    def failing(self: Any, key: str, body: io.BytesIO) -> None:
        sent.append(body.read(2))
        if failures:
            raise failures.pop()
        body.seek(0)
        write(self, key, body)

    monkeypatch.setattr(place, "write", failing)
    artifacts.patience = 10
    artifacts.write("model", io.BytesIO(b"whole"))
    assert sent == [b"wh"] * 3
    assert content(artifacts, "model") == b"whole"


@pytest.mark.parametrize("key", ["../out", "a/../../out", "/etc/passwd", "a//b", ".hidden", "a\nb", "", "a/", "C:\\a"])
def test_keys_cannot_leave_the_place(artifacts: Artifacts, key: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("not an artifact")
    with pytest.raises(ArtifactNotFound):
        artifacts.open_reader(key)
    with pytest.raises(ArtifactNotFound):
        artifacts.write(key, io.BytesIO(b"x"))
    with pytest.raises(ArtifactNotFound):
        artifacts.remove_folder(key)
    assert (tmp_path / "out").read_text() == "not an artifact"


def test_objects_are_below_the_prefix(bucket: str) -> None:
    artifacts = Artifacts(bucket, patience=0)
    artifacts.make()
    artifacts.write("checkpoints/a/0/epoch-0001.zip", io.BytesIO(b"x"))
    assert keys(bucket) == {f"mine/{MARKER}", "mine/checkpoints/a/0/epoch-0001.zip"}


def test_urls_are_stored_without_what_depends_on_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert artifacts_url("shared") == artifacts_url(f"file://{tmp_path}/shared/") == str(tmp_path / "shared")
    assert artifacts_url("run?1") == artifacts_url((tmp_path / "run?1").as_uri()) == str(tmp_path / "run?1")
    assert artifacts_url("s3://studies/") == "s3://studies"
    assert artifacts_url("s3://studies/a/b/") == "s3://studies/a/b"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "http://host/x",
        "sftp://host",
        "sftp://-oProxyCommand=x/y",
        "sftp://host/../x",
        "gs://Bad Bucket/x",
        "s3://",
        "s3://Bad_Bucket/x",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://bucket/x?endpoint=evil",
        "file://other-host/x",
        "file:///x?1",
        "file:///x#1",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="wanted a folder, file:///FOLDER, s3://BUCKET/PREFIX, gs://"):
        artifacts_url(url)


@pytest.mark.parametrize(
    ("start", "remedy"),
    [("s3://me", "AWS_ACCESS_KEY_ID"), ("az://me", "AZURE_STORAGE_ACCOUNT_KEY"), ("sftp://me", "a key of ~/.ssh")],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(start: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy) as refused:
        artifacts_url(f"{start}:{SECRET}@bucket/x")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(("kind", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs"), ("sftp", "sshfs")])
def test_without_its_package_the_extra_of_a_url_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs {package}: pip install 'pneumosearch\[{kind}\]'"):
        Artifacts(f"{kind}://bucket/x")


def test_sftp_server_whose_key_is_unknown_is_refused_at_once(sftp: str, tmp_path: Path) -> None:
    (tmp_path / "home" / ".ssh" / "known_hosts").write_text("")
    with pytest.raises(ArtifactsError, match="Host key is not trusted"):
        Artifacts(sftp, patience=3600).make()


def test_sftp_server_is_connected_to_again_where_its_connection_was_cut(ssh: Sftp) -> None:
    artifacts = Artifacts(ssh.url, patience=10)
    artifacts.make()
    ssh.cut()
    artifacts.write("model", io.BytesIO(b"whole"))
    ssh.cut()
    assert content(artifacts, "model") == b"whole"


@pytest.mark.parametrize(("user", "reason"), [("", "Could not connect"), (f"user:{SECRET}@", "credentials")])
def test_an_unreachable_server_is_told_in_one_line_after_a_bounded_time(
    bucket: str, monkeypatch: pytest.MonkeyPatch, user: str, reason: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        closed = server.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{user}127.0.0.1:{closed}")
    artifacts = Artifacts(bucket, patience=0.5)
    with pytest.raises(ArtifactsError, match=f"^artifacts in {bucket}: .*{reason}") as told:
        artifacts.write("model", io.BytesIO(b"x"))
    assert SECRET not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("bucket")
def test_what_no_waiting_mends_is_told_at_once() -> None:
    with pytest.raises(ArtifactsError, match="bucket does not exist"):
        Artifacts("s3://no-such-bucket", patience=3600).make()


def test_a_folder_that_is_not_mounted_is_not_written_to(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "shared"), patience=0)
    artifacts.make()
    (tmp_path / "shared" / MARKER).rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactsError, match="is it mounted"):
        artifacts.write("model", io.BytesIO(b"x"))
    with pytest.raises(ArtifactsError, match="mount or name the right place"):
        content(artifacts, "model")
    assert list((tmp_path / "shared").iterdir()) == []


def test_what_was_kept_before_the_study_had_a_place_is_found(artifacts: Artifacts, tmp_path: Path) -> None:
    own = Folder(tmp_path / "results" / "artifacts")
    own.write("model", io.BytesIO(b"early"))
    both = Artifacts(artifacts.url, patience=0, earlier=own)
    assert content(both, "model") == b"early"
    both.write("model", io.BytesIO(b"late"))
    assert (content(both, "model"), content(own, "model")) == (b"late", b"early")
