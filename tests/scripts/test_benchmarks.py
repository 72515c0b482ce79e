"""Measurements whose figures are published: what they compute from trainings that are known."""

import json
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.augmentation import augmentation
from benchmarks.fidelity import fidelity
from benchmarks.laboratory import laboratory
from benchmarks.learning import apart
from benchmarks.norm_statistics import norm_statistics
from benchmarks.policies import Recorded
from benchmarks.precision import FIGURES, comparison, precision
from benchmarks.remarks import remarks
from pneumosearch.storage.store import Store
from tests.support.fakes import a_trial


def test_precisions_are_compared_seed_by_seed_at_the_kept_epoch() -> None:
    float32 = [a_trial(0, 0.80, 0.90), a_trial(1, 0.70, 0.94)]
    bfloat16 = [a_trial(0, 0.92, 0.80), a_trial(1, 0.94, 0.60)]
    row = comparison(float32, bfloat16, FIGURES["kept accuracy"])
    assert (row["float32"], row["bfloat16"]) == pytest.approx((0.92, 0.93))
    assert row["difference"] == pytest.approx(0.01)
    # Differences of 0.02 and 0: deviation 0.01414, error 0.01, and Student's quantile of one degree of freedom.
    assert (row["from"], row["to"]) == pytest.approx((0.01 - 0.12706, 0.01 + 0.12706), abs=1e-5)
    assert row["deviation within"] == pytest.approx(((0.0008 + 0.0002) / 2) ** 0.5)


def test_remarks_are_counted_on_patients_that_did_not_train_and_on_strange_pictures(phantoms: Path) -> None:
    app = typer.Typer()
    app.command()(remarks)
    done = CliRunner().invoke(app, ["--data", str(phantoms), "--size", "32", "--every", "40", "--json"])
    rows = {row["pictures"]: row for row in json.loads(done.stdout)["rows"]}
    new = rows.pop("new images")
    assert new["of"] > 100
    assert int(new["remarks, judged by the battery"].split()[0]) < 0.2 * new["of"]
    assert "(100.0%), exposure" in rows["levels times 0.25"]["remarks, not judged"]
    assert all(0 < row["of"] < new["of"] for row in rows.values())


def test_each_change_is_timed_beside_the_published_ones() -> None:
    app = typer.Typer()
    app.command()(augmentation)
    found = json.loads(CliRunner().invoke(app, ["--images", "20", "--rounds", "1", "--size", "32", "--json"]).stdout)
    assert {"published", "crop", "jpeg", "mixup", "all"} <= found["cpu_ms_an_image"].keys()
    assert all(value > 0 for value in found["cpu_ms_an_image"].values())
    assert found["of"] == "phantoms"


def test_laboratory_trains_no_kind_of_phantoms_twice_and_averages_over_seeds(tmp_path: Path) -> None:
    path = tmp_path / "laboratory.csv"
    figures = "0.90,0.95,0.70,0.99,0.20,0.80,9.0"
    path.write_text(
        "planted,images,seed,last_validation,validation,test,test_sensitivity,test_specificity,test_auc,cpu_s\n"
        f"none,150,232,{figures}\nborder,150,232,{figures}\n"
    )
    before = path.read_text()
    app = typer.Typer()
    app.command()(laboratory)
    arguments = ["--shift", "border", "--seeds", "1", "--output", str(path)]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert [run["planted"] for run in found["runs"]] == ["none", "border"]
    assert path.read_text() == before
    assert "0.95" in CliRunner().invoke(app, arguments).stdout


@pytest.mark.slow
def test_precision_trains_both_and_goes_on_with_its_store(phantoms: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(precision)
    command = ["--data", str(phantoms), "--output", str(tmp_path / "out"), "--epochs", "2", "--size", "32", "--json"]
    first = json.loads(CliRunner().invoke(app, [*command, "--seeds", "2"]).stdout)
    more = json.loads(CliRunner().invoke(app, [*command, "--seeds", "3"]).stdout)
    trials = Store(f"sqlite:///{tmp_path}/out/trials.db", tmp_path / "out").record("precision").trials
    runs = [trial.run for trial in trials if trial.run]
    order = [(0, "float32"), (0, "bfloat16"), (1, "float32"), (1, "bfloat16"), (2, "float32"), (2, "bfloat16")]
    assert [(run.seed, run.precision) for run in runs] == order
    assert first["seeds"] == 2
    losses = [trial.history[-1].train_loss for trial in trials]
    assert losses[0] != losses[1]
    assert more["best AUC"]["float32"] == pytest.approx(
        sum(max(epoch.validation_auc or 0 for epoch in trial.history) for trial in trials[0::2]) / 3
    )


def test_fidelity_of_results_in_the_same_and_in_opposite_order(tmp_path: Path) -> None:
    def write(name: str, accuracies: list[float]) -> Path:
        rows = [
            {
                "trial": seed,
                "seed": seed,
                "epoch": epoch,
                "validation_auc": value,
                "validation_accuracy": value,
                "validation_precise_auc": accuracy,
                "validation_loss": (2 - accuracy) / epoch,
            }
            for seed, accuracy in enumerate([0.1, *accuracies])  # the first one is the baseline's
            for epoch, value in ((1, 1 - accuracy), (2, accuracy))
        ]
        pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    full = write("full.csv", [0.6, 0.7, 0.8, 0.9])
    cheap = write("cheap.csv", [0.6, 0.7, 0.8, 0.9])
    app = typer.Typer()
    app.command()(fidelity)
    told = json.loads(CliRunner().invoke(app, [str(cheap), str(full), "--json"]).stdout)["rows"]
    by_epoch = {row["epoch"]: row for row in told if row["seen"] == "accuracy"}
    assert (by_epoch[1]["kept"], by_epoch[2]["kept"]) == pytest.approx((-1, 1))
    assert by_epoch[2]["n"] == 4
    assert {row["seen"] for row in told} == {"auc", "accuracy", "loss", "precise_auc"}  # as far as recorded
    assert next(row for row in told if row["seen"] == "precise_auc")["kept"] == pytest.approx(1)
    by_auc = CliRunner().invoke(app, [str(cheap), str(full), "--metric", "precise_auc", "--json"]).stdout
    assert [row["kept"] for row in json.loads(by_auc)["rows"] if row["seen"] == "auc"] == pytest.approx([-1, 1])


def test_replay_takes_what_the_pruner_sees_from_another_table_as_far_as_it_goes(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text("[space]\nzoom = { low = 0.0, high = 0.5 }\n")
    rows = [
        {"seed": 7, "epoch": epoch, "zoom": 0.25, "seconds": 1.0}
        | {"validation_accuracy": 0.8 + epoch / 100, "validation_loss": 1 / epoch, "validation_auc": 0.9}
        for epoch in (1, 2)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "curves.csv", index=False)
    seen = pd.DataFrame([{"seed": 7, "epoch": 1, "validation_precise_auc": 0.5}, {"seed": 8, "epoch": 1}])
    seen.to_csv(tmp_path / "seen.csv", index=False)
    recorded = Recorded.read(tmp_path / "curves.csv", study, "auc", tmp_path / "seen.csv", "precise_auc")
    assert recorded.curves == [[pytest.approx((0.81, 1.0, 0.5)), pytest.approx((0.82, 0.5, 0.9))]]
    assert recorded.values == [0.9]
    assert recorded.places.tolist() == [[0.5]]


def test_searches_are_replayed_with_either_kind_of_batch_norm_statistics(tmp_path: Path) -> None:
    rows = [
        {
            "trial": trial,
            "epoch": epoch,
            "validation_accuracy": 0.7,
            "validation_precise_accuracy": 0.95 if epoch < 3 else 0.96,
            "validation_precise_auc": 0.9 + trial / 100,  # the baseline, trial 0, is the worst
        }
        for trial in range(6)
        for epoch in (1, 2, 3)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "curves.csv")
    app = typer.Typer()
    app.command()(norm_statistics)
    command = [str(tmp_path / "curves.csv"), "--epochs", "40", "--seeds", "8", "--json"]
    told = json.loads(CliRunner().invoke(app, command).stdout)
    moving, either, precise = told["searches"]
    assert (moving["% after 40"], moving["epochs to 95 %"]) == (pytest.approx(70), None)
    assert precise["epochs to 95 %"] == 2  # the first epoch is the baseline's
    assert 4 <= precise["epochs to 96 %"] <= 8  # one of the four that came to the rung goes on
    assert either["epochs to 95 %"] >= precise["epochs to 95 %"]
    assert told["n_curves"] == 6


def test_recorded_curves_play_an_earlier_study_which_lacks_those_of_the_new_one(tmp_path: Path) -> None:
    rows = [
        {"seed": n, "epoch": 1, "validation_accuracy": value, "validation_loss": 1 - value, "validation_auc": value}
        | {"seconds": 1.0, "zoom": zoom}
        for n, (zoom, value) in enumerate([(0.3, 0.7), (0.1, 0.9), (0.2, 0.8)])
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "curves.csv", index=False)
    study_file = tmp_path / "study.toml"
    study_file.write_text('name = "s"\n[space]\nzoom = { low = 0.0, high = 0.5 }\n')
    recorded = Recorded.read(tmp_path / "curves.csv", study_file)
    earlier = recorded.as_study([0, 1, 2])
    assert [(trial.values, trial.score) for trial in earlier.trials] == [
        ({"zoom": 0.3}, 0.0),
        ({"zoom": 0.1}, 1.0),
        ({"zoom": 0.2}, 0.5),
    ]
    rest = recorded.only([2, 0])
    assert (rest.values, rest.places.tolist()) == ([0.8, 0.7], [[0.4], [0.6]])
    assert [trial.values for trial in apart(earlier, rest).trials] == [{"zoom": 0.1}]
