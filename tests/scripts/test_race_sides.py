"""The sides of the live race: our commands, and the peers' own scripts."""

import json
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.live_data import prepare, race_spec
from benchmarks.live_judging import judge
from benchmarks.live_sides import EPOCHS_FILE, SIDES, Peer
from pneumosearch.default_study import default_study
from pneumosearch.studyfile import read_study_file
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "searched"),
    [("keras-tuner-bayesian-our-training", {"zoom", "batch_size"}), ("pneumosearch-default", None)],
)
def test_command_of_our_sides_is_understood(
    phantoms: Path, study_file: Path, tmp_path: Path, side: str, searched: set[str] | None
) -> None:
    course = prepare(phantoms, race_spec(read_study_file(study_file), None), 1.0, tmp_path / "course")
    command = SIDES[side].command(course, 3, tmp_path)
    done = subprocess.run(
        [*command, "--dry-run", "--json", "--trials", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["study"] == "race"
    assert {*plan["space"]} == (searched or {*default_study(phantoms=True).space})


@pytest.mark.slow
def test_script_of_each_peer_trains_and_records_a_trial(
    phantoms: Path, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, as each is mostly the start of TensorFlow."""
    course = prepare(phantoms, race_spec(read_study_file(study_file), None), 1.0, tmp_path / "course")
    monkeypatch.setenv("RACE_STARTED", str(time.time()))
    peers = [side for side in SIDES.values() if isinstance(side, Peer) and side.missing is None]
    assert len(peers) >= 4
    running = {}
    for side in peers:
        (tmp_path / side.name / "work").mkdir(parents=True)
        command = [*side.command(course, 1, tmp_path / side.name), "--trials", "1"]
        running[side] = subprocess.Popen(
            command, cwd=ROOT / "scripts", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    for side, process in running.items():
        output, _ = process.communicate()
        assert process.returncode == 0, output.decode()
        folder = tmp_path / side.name
        lines = [json.loads(line) for line in (folder / EPOCHS_FILE).read_text().splitlines()]
        assert [(line["trial"], line["epoch"]) for line in lines] == [(0, 1), (0, 2)]
        assert all(0.0 <= line["val_accuracy"] <= 1.0 and line["val_loss"] > 0.0 for line in lines)
        assert 0.0 < lines[0]["seconds"] < lines[1]["seconds"]
        watch = side.watch(folder)
        assert watch.failures() == 0
        watch.look(3600.0)
        (kept,) = watch.keep([3600.0])
        assert kept.values["image_size"] == 32
        (folder / "summary.json").write_text(json.dumps({"incumbents": [asdict(kept)]}))
        judge(course, folder)
        (judged,) = json.loads((folder / "judged.json").read_text())
        assert judged["accuracy"] == pytest.approx(lines[kept.epoch - 1]["val_accuracy"])  # read as in training
        assert 0.0 <= judged["worst_family"] <= judged["shift_accuracy"] <= 1.0


def test_failures_of_keras_tuner_are_counted(tmp_path: Path) -> None:
    for number, text in enumerate(('{"status": "INVALID"}', '{"status": "COMPLETED"}', '{"status": "FAI')):
        folder = tmp_path / "work" / "random" / f"trial_{number}"
        folder.mkdir(parents=True)
        (folder / "trial.json").write_text(text)
    assert SIDES["keras-tuner-random"].watch(tmp_path).failures() == 1


@pytest.mark.slow
def test_network_of_the_peers_is_the_published_one() -> None:
    from benchmarks.peers.network import build_network
    from pneumosearch.config import TrialConfig
    from pneumosearch.network import backend

    backend.start()
    from pneumosearch.network.model import plain_model

    config = TrialConfig(width=0.5, filters_3=32, units_2=8, batch_norm_momentum=0.9)
    theirs, ours = build_network(config.model_dump()), plain_model(config)
    assert [weight.shape for weight in theirs.trainable_variables] == [w.shape for w in ours.trainable_variables]
    rates = [[layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"] for model in (theirs, ours)]
    assert rates[0] == rates[1]
    norms = [layer for model in (theirs, ours) for layer in model.layers if "BatchNorm" in type(layer).__name__]
    assert [norm.momentum for norm in norms] == [0.9] * 8
