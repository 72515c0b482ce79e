"""What a machine may do to a study, done for real."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_commands import TINY_STUDY
from tests.support.terminal import Terminal


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False)
    if not made or made.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write to a file until there is no room for another kilobyte; always ends with an `OSError`."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


@pytest.mark.slow
def test_full_disk_stops_the_study_with_one_line_and_it_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path, phantoms: Path
) -> None:
    """The disk fills up after the first epoch of the baseline, and has room again later."""
    terminal, ballast = Terminal(tmp_path), small_disk / "ballast"
    (tmp_path / "tiny.toml").write_text(TINY_STUDY)
    command = ("study", "tiny.toml", "--trials", "2", "--data", str(phantoms), "--results", str(small_disk))
    process = terminal.start(*command)
    assert process.stderr is not None
    next(line for line in process.stderr if "epoch 1" in line)
    with pytest.raises(OSError, match="No space left"):
        fill(ballast)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.count("error:") == 1
    assert "No space left on device" in err or "disk is full" in err
    ballast.unlink()
    terminal.run(*command)
    report = terminal.json("report", "--name", "tiny", "--results", str(small_disk))
    assert [trial["state"] for trial in report["trials"]] == ["complete", "complete"]
