import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.test_hosts import hosts  # noqa: F401  a fixture


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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["trials"] >= 2
    assert sum(result["killed"].values()) == result["kills"] == 3
    assert [result[key] for key in ("trials_lost", "trials_repeated", "histories_differing")] == [0, 0, 0]
