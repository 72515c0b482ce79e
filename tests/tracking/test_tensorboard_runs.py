"""Runs of TensorBoard, read back by its own library."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.storage.store import Store
from pneumosearch.tracking.tensorboard_runs import TensorBoardRuns
from tests.conftest import ROOT
from tests.support.fakes import a_trial
from tests.support.logged import begun_study


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = EventAccumulator(str(folder))
    run.Reload()
    return run


def figures(folder: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.util.tensor_util import make_ndarray

    return [(e.step, round(float(make_ndarray(e.tensor_proto)), 6)) for e in read(folder).Tensors(tag)]


def run_of(folder: Path, number: int) -> Path:
    [found] = folder.glob(f"tiny-*/trial-{number:04d}")
    return found


def test_trial_has_epochs_final_figures_picture_and_hyperparameters(tmp_path: Path, store: Store) -> None:
    runs = TensorBoardRuns(tmp_path / "runs", begun_study(store))
    runs.write(a_trial(1, 0.7, state="running", zoom=0.2))
    runs.write(a_trial(1, 0.7, 0.9, state="running", zoom=0.2))
    runs.write(a_trial(1, 0.7, 0.9, zoom=0.2))
    runs.close()
    folder = run_of(tmp_path / "runs", 1)
    assert figures(folder, "validation/accuracy") == [(1, 0.7), (2, 0.9)]
    assert figures(folder, "final/value") == [(2, 0.9)]
    assert figures(folder, "final/validation_auc") == [(2, 0.9)]
    tags = read(folder).Tags()
    assert tags["images"] == ["learning curves"]
    assert {"_hparams_/session_start_info", "_hparams_/session_end_info", "about"} <= set(tags["tensors"])


def test_hyperparameters_that_vary_are_shown(tmp_path: Path, store: Store) -> None:
    from tensorboard.plugins.hparams import metadata

    runs = TensorBoardRuns(tmp_path, begun_study(store))
    runs.write(a_trial(0, state="running"))
    runs.close()
    content = read(run_of(tmp_path, 0)).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    begun = metadata.parse_session_start_info_plugin_data(content)
    assert begun.group_name == "trial 0"
    assert begun.hparams["dropout_1"].number_value == 0.7
    assert "image_size" not in begun.hparams  # the same in all trials


def test_resumed_trial_goes_on_in_its_run_without_doubled_epochs(tmp_path: Path, store: Store) -> None:
    study = begun_study(store)
    first = TensorBoardRuns(tmp_path, study)
    first.write(a_trial(0, 0.6, 0.7, state="running"))
    first.close()
    for _ in range(2):
        later = TensorBoardRuns(tmp_path, study)
        later.write(a_trial(0, 0.6, 0.7, 0.8))
        later.close()
    assert figures(run_of(tmp_path, 0), "train/loss") == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert len(figures(run_of(tmp_path, 0), "final/value")) == 1


def test_file_of_a_killed_process_whose_last_record_is_cut_off_is_gone_on_with(tmp_path: Path, store: Store) -> None:
    study = begun_study(store)
    first = TensorBoardRuns(tmp_path, study)
    first.write(a_trial(0, 0.6, 0.7, state="running"))
    first.close()
    [file] = run_of(tmp_path, 0).iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    later = TensorBoardRuns(tmp_path, study)
    later.write(a_trial(0, 0.6, 0.7))
    later.close()
    assert figures(run_of(tmp_path, 0), "validation/accuracy") == [(1, 0.6), (2, 0.7)]


def test_folder_that_cannot_be_written_is_an_error_and_the_next_attempt_writes_all(
    tmp_path: Path, store: Store
) -> None:
    (tmp_path / "runs").write_text("a file")
    runs = TensorBoardRuns(tmp_path / "runs", begun_study(store))
    with pytest.raises(OSError, match="runs"):
        runs.write(a_trial(0, 0.6, state="running"))
    (tmp_path / "runs").unlink()
    runs.write(a_trial(0, 0.6, 0.7))
    runs.close()
    assert figures(run_of(tmp_path / "runs", 0), "validation/accuracy") == [(1, 0.6), (2, 0.7)]


def test_writing_imports_no_tensorflow(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from pneumosearch.storage.store import Store
from pneumosearch.tracking.tensorboard_runs import TensorBoardRuns
from tests.support.fakes import a_trial
from tests.support.logged import begun_study

folder = Path({str(tmp_path)!r})
study = begun_study(Store(f"sqlite:///{{folder}}/store.db", folder / "results"), 1)
for state in ("running", "complete"):  # the second one reads what is there
    TensorBoardRuns(folder / "runs", study).write(a_trial(0, 0.6, 0.7, state=state))
print({{"tensorflow", "keras"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
