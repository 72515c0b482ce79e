"""Confirming a search: the baseline and the best on fresh seeds, judged by folds, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pneumosearch.cli.app import app
from pneumosearch.config import Fold, RunSpec, TrialConfig
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.inference.predict import PlainNetwork
from pneumosearch.metrics import best_threshold
from pneumosearch.search import objective as objective_module
from pneumosearch.storage.store import Store
from pneumosearch.training.loop import TrainingResult, predict, train
from tests.conftest import TINY
from tests.support.confirming import (
    Attempt,
    FakeNetwork,
    fake_train,
    kept,
    unrecorded,
)


def test_baseline_and_best_train_on_the_same_fresh_seeds_and_all_networks_are_kept(
    searched: Store, source: DataSource
) -> None:
    confirmation = Attempt(searched, source).confirmation()
    search = searched.record("tiny")
    best = [trial.number for trial in search.ranking() if trial.number]
    assert [candidate.trial for candidate in confirmation.candidates] == [0, *best[:2]]
    assert [candidate.role for candidate in confirmation.candidates] == ["baseline", "finalist", "finalist"]
    for candidate in confirmation.candidates:
        assert tuple(replicate.seed for replicate in candidate.replicates) == confirmation.seeds
    assert not {trial.run.seed for trial in search.trials if trial.run} & set(confirmation.seeds)
    replicates = searched.record("tiny-confirm")
    assert replicates.purpose == "confirm"
    assert replicates.baseline is None
    assert replicates.count("complete") == 6
    for number in range(6):  # more than a search keeps, and the worst among them
        assert searched.read_artifact("tiny-confirm", f"trial-{number}.keras", number)
    attributes = searched.load_study("tiny-confirm").get_trials()[4].user_attrs  # of the second seed
    assert attributes["replicate_of"] == {"study": "tiny", "trial": best[0]}
    assert attributes["replicate"] == 1


def test_confirmation_is_kept_with_the_search_and_counts_what_was_tried(searched: Store, source: DataSource) -> None:
    confirmation = Attempt(searched, source).confirmation()
    assert kept(searched) == [confirmation]
    test_images = source.manifest.part("test").images
    assert confirmation.images == tuple(image.name for image in test_images)
    assert confirmation.labels == tuple(image.label for image in test_images)
    assert confirmation.patients == tuple(image.patient for image in test_images)
    assert confirmation.verdict.n_searched == 3
    values = [trial.value or 0 for trial in (searched.record("tiny").ranking()[0], searched.record("tiny").trials[0])]
    assert confirmation.verdict.validation_gain == pytest.approx(values[0] - values[1])
    assert "validation images of other patients chose the epoch" in confirmation.trained_on
    expected = source.sealed_test(32, write_down=unrecorded).array.mean(axis=(1, 2)) / 255
    assert confirmation.candidates[0].replicates[0].probabilities == pytest.approx(expected)


def test_each_seed_is_judged_by_another_fold_and_all_development_images_judge_once(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: dict[float, list[int]] = {}

    def train(run: RunSpec, dataset: Any, *others: Any) -> TrainingResult:
        judged.setdefault(run.config.zoom, []).extend(dataset.evaluation.indices)
        assert not set(dataset.evaluation.indices) & set(dataset.train.indices)
        return fake_train(run, dataset, *others)

    monkeypatch.setattr(objective_module, "train", train)
    confirmation = Attempt(searched, source, top=1, seeds=6).confirmation()
    for candidate in confirmation.candidates:
        assert [replicate.fold for replicate in candidate.replicates] == [0, 1, 2, 3, 4, 0]
        of_one, n = judged[candidate.config.zoom], source.load("holdout", 32).train.labels.size
        assert sorted(of_one) == sorted([*range(n), *source.load("holdout", 32, fold=Fold(0, 5)).evaluation.indices])
    assert "4 of 5 folds that change from seed to seed" in confirmation.trained_on


def test_threshold_comes_from_the_copies_of_the_fold_that_judged(searched: Store, source: DataSource) -> None:
    for replicate in Attempt(searched, source, top=1).confirmation().candidates[1].replicates:
        dataset = source.load("holdout", 32, battery=True, fold=Fold(replicate.fold or 0, 5))
        assert dataset.battery is not None
        of_copies, of_plain = (
            best_threshold(images.labels[images.indices], predict(FakeNetwork(b"0.1"), images))
            for images in (dataset.battery, dataset.evaluation)
        )
        assert replicate.at_threshold.threshold == of_copies != of_plain


def test_other_images_than_the_searchs_are_refused(searched: Store, source: DataSource, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "others", n_images=160, seed=2)
    other = DataSource(read_manifest(tmp_path / "others"), tmp_path / "cache")
    with pytest.raises(StoreError, match="others: not the images of the search"):
        Attempt(searched, other).run()


@pytest.mark.slow
def test_kept_network_answers_as_the_trained_one(source: DataSource, tmp_path: Path) -> None:
    run = RunSpec(config=TrialConfig.checked({**TINY, "epochs": 1}, "test"))
    dataset = source.load("holdout", 32)
    result = train(run, dataset, tmp_path, lambda history: None)
    result.save(tmp_path / "kept.keras")
    trained = predict(result.model, dataset.evaluation)
    kept = PlainNetwork((tmp_path / "kept.keras").read_bytes())
    assert predict(kept, dataset.evaluation) == pytest.approx(trained, abs=1e-4)


STUDY_FILE = """
name = "tiny"
pruner = "none"
[fixed]
image_size = 32
width = 0.25
epochs = 1
[space]
zoom = { low = 0.0, high = 0.5 }
"""


@pytest.mark.slow
def test_search_is_confirmed_on_the_command_line(
    tmp_path: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PNEUMOSEARCH_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    (tmp_path / "tiny.toml").write_text(STUDY_FILE)
    run("study", "tiny.toml", "--trials", "2", "--data", str(phantoms), "--quiet")
    command = ("confirm", "--name", "tiny", "--top", "1", "--seeds", "2")
    stopped = run(*command, "--timeout", "0.001s")
    assert "stopped (the time is up) with 0 of 4 replicates; run the same command again to resume" in stopped.stderr

    first = run(*command, "--workers", "2")
    assert "PHANTOMS" in first.stderr
    assert "the baseline and 1 finalist on 2 seeds: 4 replicates; at the search's speed, the 4 to train" in first.stderr
    assert first.stdout.startswith("PHANTOMS")
    assert "replicate 4 of 4: trial 1, seed" in first.stderr
    assert "WARNING" not in first.stderr
    assert "the best of 1 configuration looks" in first.stdout
    assert "The test set was opened 1 time from this store" in first.stdout

    monkeypatch.setattr(DataSource, "sealed_test", None)
    again = run(*command)
    assert again.stdout == first.stdout
    summary = json.loads(run(*command, "--json").stdout)
    assert "images" not in summary
    assert "probabilities" not in summary["candidates"][0]["replicates"][0]
    assert summary["n_openings"] == 1
    assert json.loads(run("report", "--name", "tiny", "--json").stdout)["test_openings"] == 1
