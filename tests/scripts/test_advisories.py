"""Looking up vulnerabilities in a stored copy of the advisories."""

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from advisories import look_up, main, pinned
from tests.conftest import ROOT


def an_advisory(*events: dict[str, str], versions: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": "Flask_Login"}
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = {"package": package, "ranges": ranges, "versions": list(versions)}
    return {"id": "PYSEC-1", "summary": "Lets anyone in.", "modified": "2026-01-02", "affected": [affected], **fields}


def hits(version: str, advisory: dict[str, Any]) -> bool:
    return bool(look_up({"flask-login": Version(version)}, [advisory]))


@pytest.mark.parametrize(
    ("version", "is_hit"),
    [("0.9", False), ("1.0", True), ("1.10", True), ("2.0rc1", True), ("2.0", False), ("3.1", True), ("4.0", False)],
)
def test_ranges_are_followed_in_the_order_of_versions(version: str, is_hit: bool) -> None:
    events = ({"introduced": "3.0"}, {"last_affected": "3.5"}, {"fixed": "2.0"}, {"introduced": "1.0"})
    assert hits(version, an_advisory(*events)) is is_hit


def test_a_range_without_an_end_holds_all_later_versions_and_a_strange_version_none() -> None:
    assert hits("99", an_advisory({"introduced": "0"}))
    assert hits("99", an_advisory({"introduced": "0"}, {"fixed": "as of May"})) is True
    assert hits("1.5", an_advisory(versions=("1.4", "1.5.0", "unknown")))
    assert not hits("1.6", an_advisory(versions=("1.4", "1.5.0", "unknown")))


def test_withdrawn_advisories_and_those_of_other_packages_are_none_of_ours() -> None:
    everything = an_advisory({"introduced": "0"})
    assert not hits("1", everything | {"withdrawn": "2026-02-01"})
    assert not look_up({"flask": Version("1")}, [everything])
    everything["affected"][0]["package"]["ecosystem"] = "npm"
    assert not hits("1", everything)


def test_constraints_of_the_project_are_read_whole() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    versions = pinned(ROOT / "constraints.txt")
    assert len(versions) == len(lines) > 100
    assert str(versions["optuna"]) in next(line for line in lines if line.startswith("optuna=="))


def a_database(path: Path, *advisories: dict[str, Any]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for number, advisory in enumerate(advisories):
            archive.writestr(f"A-{number}.json", json.dumps(advisory))
    return str(path)


def test_findings_are_told_with_their_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "constraints.txt").write_text("# pinned\nFlask.Login==1.2 # a comment\n\nclick==8.0\n")
    database = a_database(tmp_path / "all.zip", an_advisory({"introduced": "1"}, {"fixed": "1.3"}))
    assert main(str(tmp_path / "constraints.txt"), database) == 1
    said = capsys.readouterr()
    assert said.out == "flask-login 1.2: PYSEC-1: Lets anyone in. (fixed in 1.3)\n"
    assert said.err == "2 packages, 1 advisories to 2026-01-02, 1 found\n"


@pytest.mark.parametrize("content", [b"", b"no zip", b"[]"])
def test_what_is_no_database_is_never_taken_for_an_empty_one(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.zip"
    path.write_bytes(content)
    if content == b"[]":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("A.json", "[]")
    assert main(str(ROOT / "constraints.txt"), str(path)) == 2
    assert f"error: {path}: wanted a zip file of advisories" in capsys.readouterr().err


def test_script_looks_up_without_the_network(tmp_path: Path) -> None:
    database = a_database(tmp_path / "all.zip", an_advisory({"introduced": "0"}))
    command = [str(ROOT / "scripts" / "check-dependencies"), "--database"]
    done = subprocess.run([*command, database], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "1 advisories to 2026-01-02, 0 found" in done.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
