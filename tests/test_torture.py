import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_study_killed_at_random_moments_equals_its_undisturbed_twin() -> None:
    """Three kills; `scripts/torture` does more."""
    command = [sys.executable, "scripts/torture.py", "--kills", "3", "--trials", "2", "--seed", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.pop("trials") >= 2
    assert result == {"kills": 3, "trials_lost": 0, "trials_repeated": 0, "histories_differing": 0}
