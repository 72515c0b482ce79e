"""This machine as training processes see it: cores, accelerators and memory, and what a container allows of them."""

from pathlib import Path

import pytest

from pneumosearch._utils import hardware
from pneumosearch._utils.hardware import (
    PROCESS_MEMORY,
    environments,
    free_memory,
    memory_warning,
    quota_variables,
    usable_cores,
    visible_devices,
)


def test_cores_and_accelerators_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert environments(1) == [{}]
    assert [e["TF_NUM_INTRAOP_THREADS"] for e in environments(3, cores=8, devices=[])] == ["2", "2", "2"]
    assert environments(4, cores=2, devices=[])[0]["OMP_NUM_THREADS"] == "1"
    four = environments(4, cores=16, devices=["0", "1", "2"])
    assert [e["CUDA_VISIBLE_DEVICES"] for e in four] == ["0", "1", "2", "0"]
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in environments(2, cores=4, devices=[])[0]  # the user's own wins
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a,-1")
    assert visible_devices() == ["3", "GPU-5a"]


def test_processes_that_may_not_fit_into_memory_are_warned_of() -> None:
    free = free_memory()
    assert memory_warning(1) is None or free < PROCESS_MEMORY
    assert "is safer" in str(memory_warning(free // PROCESS_MEMORY + 2))


def test_quota_of_a_container_limits_cores_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in hardware.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "cpu_quota", lambda: 0.5)
    assert usable_cores() == 1
    assert quota_variables().get("TF_NUM_INTRAOP_THREADS", "1") == "1"  # none is needed on a machine of one core
    monkeypatch.setattr(hardware, "cpu_quota", lambda: 100_000.0)
    assert quota_variables() == {}


def test_memory_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory_left", lambda: PROCESS_MEMORY + 1)
    assert free_memory() <= PROCESS_MEMORY + 1
    assert "--workers 1 is safer" in str(memory_warning(2))


def test_devices_are_found_by_their_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    library = tmp_path / "libcuda.so.1"
    assert visible_devices(tmp_path, library) == []
    (tmp_path / "dxg").touch()
    assert visible_devices(tmp_path, library) == []  # the Windows Subsystem for Linux, with a GPU of another maker
    library.touch()
    assert visible_devices(tmp_path, library) == ["0"]
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible_devices(tmp_path, library) == ["2", "10"]
