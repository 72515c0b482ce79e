import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pneumosearch.cli.app import app
from pneumosearch.config import TrialConfig
from pneumosearch.data.augmentation import Augmentation
from pneumosearch.data.battery import BATTERY
from pneumosearch.data.protocols import DataSource
from pneumosearch.illustrations import curves, images
from pneumosearch.illustrations.activations import activations
from pneumosearch.illustrations.gallery import Subject, left_out, write_gallery
from pneumosearch.network import backend
from tests.conftest import TINY
from tests.support.fakes import a_history

CONFIG = TrialConfig.checked({**TINY}, "test")
DRAWN = {"intensity.png", "samples.png", "augmentations.png", "battery.png", "activations.svg", "iterations.svg"}
DRAWN |= {"accuracy.svg", "extremes.png"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    backend.start()
    from pneumosearch.network.model import plain_model

    path = tmp_path_factory.mktemp("network") / "network.keras"
    plain_model(CONFIG).save(path)
    return path.read_bytes()


def a_subject(source: DataSource, network: bytes | None) -> Subject:
    dataset = source.load("holdout", 32)
    return Subject(dataset, CONFIG, a_history(0.7, 0.8), network, dataset.description.n_train, "an <untrained> network")


def test_gallery_shows_all_figures_and_repeats_to_the_last_byte(
    source: DataSource, network: bytes, tmp_path: Path
) -> None:
    written = [write_gallery(a_subject(source, network), tmp_path / name) for name in ("one", "two")]
    assert written[0] == written[1]
    assert set(written[0]) == DRAWN | {"feature-maps.png", "dropout.svg", "gradients.svg", "index.html"}
    for name in written[0]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    page = (tmp_path / "one" / "index.html").read_text()
    assert page.count('src="data:image/') == len(written[0]) - 1
    for name in ("samples.png", "dropout.svg"):
        assert b64encode((tmp_path / "one" / name).read_bytes()).decode() in page
    assert page.count('alt="') == len(written[0]) - 1
    assert "PHANTOMS" in page
    assert "an &lt;untrained&gt; network" in page


def test_figures_that_need_a_network_are_left_out_without_one(source: DataSource, tmp_path: Path) -> None:
    subject = a_subject(source, None)
    assert left_out(subject) == ("feature-maps", "dropout")
    assert {*write_gallery(subject, tmp_path)} == DRAWN | {"gradients.svg", "index.html"}


def test_inside_are_the_blocks_and_the_first_dense_layer(network: bytes) -> None:
    from pneumosearch.inference.predict import PlainNetwork

    found = activations(PlainNetwork(network).model, np.full((32, 32), 100, np.uint8))
    assert [block.shape[:2] for block in found.blocks] == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    assert found.dense.shape == (TINY["units_1"],)


def test_dropout_keeps_the_share_that_the_rate_leaves() -> None:
    figure = images.dropout(np.ones(512, np.float32), 0.7, seed=1)
    whole, dropped = ([bar.get_height() for bar in axes.containers[0]] for axes in figure.axes)
    assert set(whole) == {1.0}
    kept = [height for height in dropped if height > 0]
    assert kept == pytest.approx([1 / 0.3] * len(kept), rel=1e-5)
    assert 0.2 < len(kept) / 512 < 0.4


def test_augmentations_begin_with_the_image_itself() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    figure = images.augmentations(pixels, Augmentation(TrialConfig()), seed=1)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 8
    assert np.array_equal(np.asarray(shown[0]), pixels)
    assert not np.array_equal(np.asarray(shown[1]), pixels)


def test_copies_of_the_battery_are_drawn_beside_the_image_itself() -> None:
    pixels = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    shown = {axes.get_title(): axes.images[0].get_array() for axes in images.battery(pixels).axes if axes.images}
    assert len(shown) == 1 + len(BATTERY)
    assert np.array_equal(np.asarray(shown["\nunchanged"]), pixels)
    assert np.array_equal(np.asarray(shown["brighter"]), BATTERY["brighter"].change(pixels))


def test_iterations_are_whole_batches() -> None:
    figure = curves.batches_and_epochs(4708, 32, 10)
    assert "4708/32 = 147.12; i/e = 1470/10 = 147" in figure.axes[0].get_title()


def test_relation_has_the_number_of_images_that_the_training_ran_over(source: DataSource, tmp_path: Path) -> None:
    """Under the "original" protocol more than those that are drawn, which never are of the test folder."""
    write_gallery(replace(a_subject(source, None), n_train=5216), tmp_path)
    assert "5216 images in batches of" in (tmp_path / "index.html").read_text()


def test_small_network_learns_the_rings() -> None:
    figure = curves.learning_by_gradients(232)
    losses = np.asarray(figure.axes[0].lines[0].get_ydata())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
def test_figures_are_drawn_without_a_study_and_what_is_missing_is_told(phantoms: Path, tmp_path: Path) -> None:
    arguments = ["figures", str(tmp_path / "drawn"), "--data", str(phantoms), "--results", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    told = json.loads(result.stdout)
    assert told["left_out"] == ["feature-maps", "dropout"]
    assert "left out: feature-maps, dropout; no trained network was found" in result.stderr
    assert all((tmp_path / "drawn" / name).exists() for name in told["files"])
