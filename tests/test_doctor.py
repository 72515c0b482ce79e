"""The examination of a machine before a study."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pneumosearch import doctor
from pneumosearch.doctor import Finding, examine, worst
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from tests.support.terminal import Terminal


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "device_in_words", lambda: "the processor, 2 threads")
    monkeypatch.setattr(doctor, "idle_gpu_warning", lambda: None)


def of(findings: list[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


def examined(folder: Path, data: Path | None, storage: str | None = None) -> list[Finding]:
    return examine(data, storage or sqlite_url(folder / "pneumosearch.db"), folder)


def test_machine_that_is_ready_has_no_error_and_nothing_is_made(phantoms: Path, tmp_path: Path) -> None:
    findings = examined(tmp_path / "results", phantoms)
    assert worst(findings) != "error"
    assert "train" in of(findings, "images").text
    assert "not there yet" in of(findings, "store").text
    assert not list(tmp_path.rglob("*.db"))


def test_store_that_is_there_is_reached(store: Store, phantoms: Path, tmp_path: Path) -> None:
    assert of(examined(tmp_path, phantoms, store.url), "store").text.endswith("reached")


@pytest.mark.parametrize("storage", ["postgresql://me:hush@127.0.0.1:9/studies", "nonsense"])
def test_store_that_cannot_be_reached_is_an_error_without_the_password(
    phantoms: Path, tmp_path: Path, storage: str
) -> None:
    found = of(examined(tmp_path, phantoms, storage), "store")
    assert found.state == "error"
    assert found.remedy
    assert "hush" not in found.text


def test_missing_images_are_an_error_and_no_images_a_warning(tmp_path: Path) -> None:
    assert of(examined(tmp_path, tmp_path / "nowhere"), "images").state == "error"
    assert of(examined(tmp_path, None), "images").state == "warning"


def test_too_little_disk_is_an_error_and_too_little_memory_a_warning(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(doctor, "free_memory", lambda: 1000)
    findings = examined(tmp_path, phantoms)
    assert of(findings, "disk").state == "error"
    assert of(findings, "cores and memory").state == "warning"


def test_idle_gpu_and_a_backend_that_does_not_start_are_told(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "idle_gpu_warning", lambda: "a GPU is visible, but tensorflow trains on the processor")
    assert of(examined(tmp_path, phantoms), "device").state == "warning"

    def broken() -> str:
        raise ImportError("libcudart.so.12: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor, "device_in_words", broken)
    found = of(examined(tmp_path, phantoms), "backend")
    assert found.state == "error"
    assert found.text == "Keras does not start: ImportError: libcudart.so.12: cannot open shared object file"


def test_command_prints_a_table_or_json_and_its_exit_code_says_whether_a_study_could_run(
    phantoms: Path, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path)
    out, _ = terminal.call("doctor", "--data", str(phantoms))
    assert "cores and memory" in out
    out, _ = terminal.call("doctor", "--data", "nowhere", "--json", code=1)
    assert '"state": "error"' in out
