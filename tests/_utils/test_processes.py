"""Processes that start early."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

SCRIPT = """
import time
from functools import partial
from pneumosearch._utils.processes import Helper

print("the script runs", flush=True)
Helper({}, partial(time.sleep, 0)).end()
print(__file__.rpartition("/")[2])
"""


def test_script_without_a_guard_is_not_run_again_by_the_processes_that_it_starts(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "the script runs\nscript.py\n"
    assert done.stderr == ""
