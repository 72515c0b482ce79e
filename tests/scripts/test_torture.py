import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.scripts.test_hosts import hosts  # noqa: F401  a fixture
from tests.support import victims


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--workers", "2"],
        ["--workers", "2", "--storage", "postgresql"],
        ["--workers", "2", "--storage", "grpc"],
        ["--workers", "2", "--executor", "ray"],
        ["--workers", "2", "--executor", "hosts", "--storage", "grpc"],
    ],
)
def test_study_killed_at_random_moments_equals_its_undisturbed_twin(options: list[str], request: Any) -> None:
    """Three kills; `scripts/torture` does more."""
    if "postgresql" in options:
        request.getfixturevalue("postgres")  # or the test is skipped
    if "ray" in options:
        pytest.importorskip("ray")
    if "hosts" in options:
        request.getfixturevalue("hosts")
    command = [sys.executable, "scripts/torture.py", "--kills", "3", "--trials", "2", "--seed", "1", "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=840
        )
    except subprocess.TimeoutExpired as late:  # before pytest's own limit, which would not tell how far it came
        pytest.fail(f"not ended after {late.timeout:.0f} s: {(late.stderr or b'').decode()}")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["trials"] >= 2
    assert sum(result["killed"].values()) == result["kills"] == 3
    assert [result[key] for key in ("trials_lost", "trials_repeated", "histories_differing")] == [0, 0, 0]


def test_command_that_stops_writing_is_ended_and_says_in_which_lines_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(victims, "LONGEST_SILENCE", 3.0)
    code = "import time\ndef waits_for_ever(): time.sleep(600)\nwaits_for_ever()"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=log, env=victims.ENVIRONMENT)
    with pytest.raises(victims.Stuck, match="in waits_for_ever"):
        victims.ended(process, tmp_path, "log")
    assert process.returncode is not None


def test_study_that_fails_again_and_again_is_told_with_its_last_line(tmp_path: Path) -> None:
    disturbed = victims.LocalVictims(tmp_path, 1, None, random.Random(1))  # noqa: S311  of moments
    with pytest.raises(victims.Stuck, match=r"5 times in a row\n(.|\n)*torture\.toml"):
        disturbed.disturb(kills=1, trials=1, patience=60.0)  # as there is no such file
    assert not disturbed.done
