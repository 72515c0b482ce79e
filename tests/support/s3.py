"""A server of the S3 protocol on this machine, as tests need it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

SECRET = "hush-hush-hush-hush"  # noqa: S105  of a server that lets in everyone


def s3_environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client() -> Any:
    """Of the server that the environment names."""
    import boto3

    return boto3.client("s3")


def make_bucket() -> str:
    """Make a bucket; return the URL of a prefix in it."""
    name = f"bucket-{uuid4().hex[:12]}"
    client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return f"s3://{name}/mine"


def keys(url: str) -> set[str]:
    """All keys of the bucket of a URL, of whatever prefix."""
    found = client().list_objects_v2(Bucket=url.split("/")[2])
    return {entry["Key"] for entry in found.get("Contents", ())}


@contextmanager
def s3_server(folder: Path) -> Iterator[int]:
    """Run moto's server on a free port, and skip the test where it is not installed."""
    if find_spec("moto") is None or find_spec("boto3") is None:
        pytest.skip("no S3 server: boto3 and moto[server] are not installed")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("moto's server does not start")
