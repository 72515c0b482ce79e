"""Networks of a store at work elsewhere: the confirmed ensemble, model cards. The networks are built, not trained."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pneumosearch.cli.app import app
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.confirm.replicates import plan_confirmation
from pneumosearch.confirm.run import confirm
from pneumosearch.data.cache import load_pixels
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.inference.export import export_trial, stored_classifier
from pneumosearch.inference.predict import PlainNetwork, file_classifier, predictions
from pneumosearch.network import backend
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.search import objective as objective_module
from pneumosearch.search.rerun import rerun_trial
from pneumosearch.search.runner import Outcome, open_search, train_once
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.loop import TrainingResult
from pneumosearch.workers.work import Limits, Work
from tests.conftest import TINY
from tests.support.fakes import SilentListener, a_history
from tests.support.networks import lite

pytestmark = pytest.mark.slow

SMALLEST = {**TINY, "n_blocks": 2, "epochs": 1, "head": "mean"}
SPEC = checked_spec(
    {"name": "tiny", "pruner": "none", "fixed": SMALLEST, "space": {"zoom": {"low": 0.0, "high": 0.5}}}, "test"
)


class UntrainedResult(TrainingResult):
    def save(self, path: Path) -> None:
        import keras

        from pneumosearch.network.model import plain_model

        keras.utils.set_random_seed(round(1e6 * self.history[-1].train_loss))
        plain_model(self.config).save(path)


def untrained(run: RunSpec, dataset: Any, folder: Path, on_epoch: Callable[[Any], None], *_: Any) -> TrainingResult:
    """Pretend to train; the seed of the network goes by way of the loss."""
    (epoch,) = a_history(0.9 - run.config.zoom / 5, evaluated=dataset.evaluated)
    folder.mkdir(parents=True, exist_ok=True)
    history = (epoch.model_copy(update={"train_loss": run.seed % 1000 / 1e6}),)
    on_epoch(history)
    return UntrainedResult(run.config, history, None, 123)


@pytest.fixture(scope="module", autouse=True)
def _no_training() -> Iterator[None]:
    backend.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective_module, "train", untrained)
        patch.setattr(objective_module, "learning_curves", lambda history, path, title: path.touch())
        yield


def a_session(store: Store, phantoms: Path) -> Session:
    source = DataSource(read_manifest(phantoms), store.results / "cache")
    return Session(store, source, SilentListener(), StopFlag())


def test_study_without_a_network_is_told_what_to_do(
    store: Store, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = open_search(a_session(store, phantoms), SPEC)
    with pytest.raises(StoreError, match="'tiny' has no complete trial yet; run 'pneumosearch study --name tiny'"):
        stored_classifier(store, "tiny")
    search.until(1)
    monkeypatch.setattr(Store, "network", lambda *arguments: None)
    message = "trial 0, the best of 'tiny', keeps no network; 'pneumosearch rerun tiny 0' .*; the study keeps none"
    with pytest.raises(StoreError, match=message):
        stored_classifier(store, "tiny")
    where = ["--storage", store.url, "--results", str(store.results), "--data", str(phantoms)]
    result = CliRunner().invoke(app, ["figures", str(store.results / "drawn"), "--name", "tiny", *where])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "left out: feature-maps, dropout" in result.stderr
    assert "'pneumosearch rerun tiny 0' trains it again and keeps it in 'tiny-reruns'" in result.stderr


def trained_here(session: Session, work: Work) -> Outcome:
    return work.train(session, Limits())


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> tuple[Store, Confirmation]:
    """A store whose search of ten trials is confirmed with two seeds of the baseline and the best."""
    folder = tmp_path_factory.mktemp("confirmed")
    store = Store(f"sqlite:///{folder}/pneumosearch.db", folder)
    session = a_session(store, phantoms)
    open_search(session, SPEC).until(10)
    plan = plan_confirmation(store.record("tiny"), top=1, n_seeds=2)
    confirmation = confirm(session, plan, trained_here, say=lambda text: None, warn=lambda text: None)
    assert confirmation is not None
    return store, confirmation


def test_confirmed_winner_answers_as_the_mean_of_its_seeds_at_its_threshold(
    confirmed: tuple[Store, Confirmation], phantoms: Path
) -> None:
    store, confirmation = confirmed
    winner = confirmation.candidates[1]
    classifier = stored_classifier(store, "tiny")
    assert classifier.threshold == winner.ensemble_at_threshold.threshold
    assert "2 seeds, confirmed" in classifier.about
    assert "PHANTOMS" in classifier.about
    names = [phantoms / name for name in confirmation.images]
    found = [one.probability for one in predictions(classifier, names)]
    first, second = (np.array(replicate.probabilities) for replicate in winner.replicates)
    assert not np.allclose(first, second, atol=1e-4)
    assert found == pytest.approx((first + second) / 2, abs=1e-6)


def test_ensemble_that_lost_a_network_is_told(
    confirmed: tuple[Store, Confirmation], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, confirmation = confirmed
    gone = confirmation.candidates[1].replicates[1].trial
    network = Store.network
    monkeypatch.setattr(
        Store, "network", lambda self, study, number: None if number == gone else network(self, study, number)
    )
    with pytest.raises(StoreError, match=r"1 of 2 networks of tiny \d are gone; 'pneumosearch confirm --name tiny'"):
        stored_classifier(store, "tiny")


def test_card_of_a_replicate_has_its_test_figures_and_that_of_its_candidate_those_of_the_others(
    confirmed: tuple[Store, Confirmation], tmp_path: Path
) -> None:
    store, confirmation = confirmed
    winner = confirmation.candidates[1]
    replicate = winner.replicates[1]
    folder = export_trial(store, "tiny-confirm", replicate.trial, tmp_path / "replicate")
    card = (folder / "README.md").read_text()
    assert (
        f"32 test images (opening 1 from its store), this network at threshold {replicate.at_threshold.threshold:.4f}"
        in card
    )
    assert f"{replicate.at_threshold.accuracy:.1%}" in card
    assert file_classifier(folder).threshold == replicate.at_threshold.threshold
    folder = export_trial(store, "tiny", winner.trial, tmp_path / "candidate")
    card = (folder / "README.md").read_text()
    assert "2 networks of this configuration with other seeds, not\n  this network itself" in card
    assert f"mean accuracy {winner.at_half['accuracy'].mean:.1%}" in card
    assert file_classifier(folder).threshold == winner.ensemble_at_threshold.threshold


def test_trial_without_a_network_can_be_had_by_a_rerun(
    confirmed: tuple[Store, Confirmation], phantoms: Path, tmp_path: Path
) -> None:
    store, _ = confirmed
    record = store.record("tiny")
    (number, *_) = [t.number for t in record.ranking() if store.network("tiny", t.number) is None]
    with pytest.raises(StoreError) as caught:
        export_trial(store, "tiny", number, tmp_path / "out")
    assert f"'pneumosearch rerun tiny {number}' trains it again and keeps it in 'tiny-reruns'" in str(caught.value)
    assert "kept are those of " in str(caught.value)
    assert rerun_trial(a_session(store, phantoms), record, number)
    with pytest.raises(StoreError, match="trial 0 of 'tiny-reruns', the same training, does"):
        export_trial(store, "tiny", number, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    assert (export_trial(store, "tiny-reruns", 0, tmp_path / "out") / "model.keras").exists()


def test_network_of_the_original_protocol_reads_images_as_it_was_trained(
    store: Store, phantoms: Path, tmp_path: Path
) -> None:
    run = RunSpec(config=TrialConfig.checked({**SMALLEST, "equalization": "standardize"}, "test"), protocol="original")
    train_once(a_session(store, phantoms), "baseline-original", "baseline", run)
    part = read_manifest(phantoms).part("development")
    cached = load_pixels(part, 32, "nearest", tmp_path / "cache", equalization="standardize")
    folder = export_trial(store, "baseline-original", 0, tmp_path / "out")
    for classifier in (stored_classifier(store, "baseline-original"), file_classifier(folder)):
        for image, pixels in list(zip(part.images, cached.array, strict=True))[:5]:
            assert np.array_equal(classifier.read(part.path(image)), pixels)
    card = (folder / "README.md").read_text()
    assert "resized by nearest neighbour" in card
    assert "INTER_NEAREST_EXACT" in card
    reading = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert reading
    names: dict[str, Any] = {}
    exec(reading[1].replace('"chest.jpeg"', repr(str(part.path(part.images[0])))), names)  # noqa: S102 - of the card that was just written
    assert np.array_equal(names["image"][0, :, :, 0], np.float32(cached.array[0]) / 255)
    assert "- Test images, which also selected the epoch: accuracy" in card
    assert "not measured" not in card


def test_exported_network_knows_what_it_was_judged_by_at_its_own_size(
    store: Store, phantoms: Path, tmp_path: Path
) -> None:
    size = {"image_size": SMALLEST["image_size"]}
    fixed = {key: value for key, value in SMALLEST.items() if key not in size}
    asked = {"name": "sizes", "pruner": "none", "battery": True, "fixed": fixed, "others": size}
    spec = checked_spec({**asked, "space": {"zoom": {"low": 0.0, "high": 0.5}}}, "test")
    open_search(a_session(store, phantoms), spec).until(2)
    classifier = file_classifier(export_trial(store, "sizes", 1, tmp_path / "out"))
    spans = classifier.appearance.spans if classifier.appearance else None
    assert spans
    assert spans.side == classifier.size == 32  # the study's own description is of the baseline's 150
    assert spans.brightness.copies
    assert "| exposure | brightness |" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    "changes", [{"head": "flatten", "n_blocks": 5}, {"convolution": "plain", "n_blocks": 4}], ids=str
)
def test_lite_networks_of_other_shapes_agree(changes: dict[str, object], tmp_path: Path) -> None:
    import keras

    from pneumosearch.inference.export import tflite
    from pneumosearch.network.model import plain_model

    keras.utils.set_random_seed(1)
    plain_model(TrialConfig.checked({**SMALLEST, **changes}, "test")).save(tmp_path / "model.keras")
    network = PlainNetwork((tmp_path / "model.keras").read_bytes())
    (tmp_path / "model.tflite").write_bytes(tflite(network.model))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.uint8)
    images = np.asarray(np.repeat(pixels / 255, 3, axis=-1), dtype=np.float32)
    assert lite(tmp_path / "model.tflite", images) == pytest.approx(network.predict_on_batch(pixels)[:, 0], abs=1e-5)
