"""Machines of our own, in network namespaces, one of which is cut off for a while."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.records.trial import StudyRecord
from pneumosearch.storage.store import Store
from tests.conftest import ROOT
from tests.support.hosts import NETWORK, Hosts, NoHosts, network

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


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(network())
        except NoHosts as error:
            pytest.skip(str(error))
        yield made


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PNEUMOSEARCH_TOKEN": token}
    machines = {number: hosts.add(number) for number in (1, 2, 3)}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "hosts.toml").write_text(STUDY)
    hosts.start(
        machines[1], tmp_path / "a", "serve", "--host", f"{NETWORK}.1", "--port", str(PORT), environment=environment
    )
    store = Store(f"sqlite:///{tmp_path}/a/results/pneumosearch.db", tmp_path / "a" / "results")
    shared = ["--data", str(phantoms), "--grace", "8s", "--storage", url]
    study = hosts.start(
        machines[1], tmp_path / "a", "study", "hosts.toml", "--trials", str(TRIALS), *shared, environment=environment
    )
    worker = ["worker", "--name", "hosts", "--wait", "2m", *shared]
    lost = hosts.start(machines[2], tmp_path / "b", *worker, environment=environment)
    hosts.start(machines[3], tmp_path / "c", *worker, environment=environment)
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
