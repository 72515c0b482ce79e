"""Machines of our own, in network namespaces, one of which is cut off for a while."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.records import StudyRecord
from pneumosearch.store import Store
from tests.conftest import ROOT

NETWORK = "198.18.0"  # of RFC 2544, for tests: routed nowhere
PORT = 13013
TRIALS = 6
STUDY = """
name = "hosts"
sampler = "random"
pruner = "none"
[fixed]
image_size = 32
width = 0.25
units_1 = 16
epochs = 8
[space]
zoom = { low = 0.0, high = 0.5 }
"""


def can_make_hosts() -> bool:
    if sys.platform != "linux" or os.geteuid() or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        return False
    name = f"probe{secrets.token_hex(2)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return made.returncode == 0


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Hosts:
    """A switch and machines at it: each has a network, a name and process numbers of its own."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.mark = stack, secrets.token_hex(2)
        self.switch = self._namespace("switch")
        self._inside(self.switch, "ip", "link", "add", "switch", "type", "bridge")
        self._inside(self.switch, "ip", "link", "set", "switch", "up")

    def add(self, number: int) -> str:
        """Plug in a machine; return the name of its network namespace."""
        name, plug = self._namespace(f"host{number}"), f"plug{number}"
        run("ip", "link", "add", plug, "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._inside(self.switch, "ip", "link", "set", plug, "master", "switch", "up")
        self._inside(name, "ip", "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._inside(name, "ip", "link", "set", device, "up")
        return name

    def plugged(self, number: int, *, is_in: bool) -> None:
        """Pull the plug of a machine, or put it back."""
        self._inside(self.switch, "ip", "link", "set", f"plug{number}", "up" if is_in else "down")

    def start(self, host: str, folder: Path, *arguments: str, token: str) -> subprocess.Popen[bytes]:
        """Start a command of ours on a machine."""
        inside = f'hostname {host} && exec {sys.executable} -m pneumosearch "$@"'
        command = ["ip", "netns", "exec", host, "unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PNEUMOSEARCH_TOKEN": token}
        folder.mkdir(exist_ok=True)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "sh", "-c", inside, "sh", *arguments], cwd=folder, stdout=log, stderr=log, env=environment
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def _namespace(self, name: str) -> str:
        name = f"{name}-{self.mark}"
        run("ip", "netns", "add", name)
        self.stack.callback(run, "ip", "netns", "delete", name)
        return name

    def _inside(self, namespace: str, *command: str) -> None:
        run("ip", "netns", "exec", namespace, *command)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if not can_make_hosts():
        pytest.skip("no network namespaces: wants Linux, root, ip and unshare")
    with ExitStack() as stack:
        yield Hosts(stack)


def essence(record: StudyRecord) -> list[Any]:
    return [(t.number, t.state, t.value, t.run, [epoch.numbers() for epoch in t.history]) for t in record.trials]


def owners(store: Store) -> dict[int, str]:
    """Which machine trains each trial now, or did last."""
    trials = store.load_study("hosts").get_trials(deepcopy=False)
    return {trial.number: str((trial.user_attrs.get("owner") or {}).get("host")) for trial in trials}


def wait_until(condition: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.slow
def test_study_ends_whole_though_one_machine_is_cut_off_and_comes_back(
    hosts: Hosts, tmp_path: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    token, n, url = secrets.token_hex(16), str(TRIALS), f"grpc://{NETWORK}.1:{PORT}"
    machines = {number: hosts.add(number) for number in (1, 2, 3)}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "hosts.toml").write_text(STUDY)
    hosts.start(machines[1], tmp_path / "a", "serve", "--host", f"{NETWORK}.1", "--port", str(PORT), token=token)
    store = Store(f"sqlite:///{tmp_path}/a/results/pneumosearch.db", tmp_path / "a" / "results")
    shared = ["--data", str(phantoms), "--grace", "8s", "--storage", url]
    study = hosts.start(
        machines[1], tmp_path / "a", "study", "hosts.toml", "--trials", str(TRIALS), *shared, token=token
    )
    worker = ["worker", "--name", "hosts", "--wait", "2m", *shared]
    lost = hosts.start(machines[2], tmp_path / "b", *worker, token=token)
    hosts.start(machines[3], tmp_path / "c", *worker, token=token)
    on_lost = f"host2-{hosts.mark}"
    wait_until(lambda: any(on_lost in o for o in owners(store).values()) if store.names() else False, 180, "no trial")
    taken = [number for number, owner in owners(store).items() if on_lost in owner]
    hosts.plugged(2, is_in=False)
    wait_until(lambda: not any(on_lost in owners(store)[number] for number in taken[-1:]), 240, "nobody took it up")
    hosts.plugged(2, is_in=True)
    assert study.wait(300) == 0, (tmp_path / "a" / "log").read_text()
    assert lost.wait(300) == 0, (tmp_path / "b" / "log").read_text()
    twin = [sys.executable, "-m", "pneumosearch", "study", str(tmp_path / "a" / "hosts.toml"), "--trials", n]
    subprocess.run([*twin, "--data", str(phantoms), "--json"], cwd=tmp_path, check=True, capture_output=True)
    undisturbed = Store(f"sqlite:///{tmp_path}/results/pneumosearch.db", tmp_path / "results")
    assert essence(store.record("hosts")) == essence(undisturbed.record("hosts"))
