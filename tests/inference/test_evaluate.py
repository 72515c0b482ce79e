"""Evaluation on labelled folders, by a network that answers with the brightness of an image."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.labelled import read_labelled
from pneumosearch.data.manifest import read_manifest
from pneumosearch.errors import DataError, StoreError
from pneumosearch.inference.evaluate import evaluate
from pneumosearch.inference.known_images import KnownImages, known_images, of_model, of_study
from pneumosearch.inference.predict import Classifier
from pneumosearch.inference.scoring import figures, scored
from pneumosearch.records.classes import PUBLISHED_CLASSES
from pneumosearch.report.evaluation import evaluation_lines, evaluation_summary, evaluation_tables, page
from pneumosearch.storage.store import Store
from tests.support.fakes import SPEC, a_description

OWN = ("OK", "<b>SICK")


class Brightness:
    """A network, as a classifier uses it."""

    def predict_on_batch(self, pixels: PixelArray) -> Any:
        return pixels.mean(axis=(1, 2)) / 255


def a_classifier(threshold: float = 0.5, **given: Any) -> Classifier:
    return Classifier([Brightness()], 8, "area", "none", threshold, "a fake", **given)  # type: ignore[list-item]


def draw(folder: Path, *levels: int, suffix: str = "png") -> None:
    """Write an image of each grey level."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, level in enumerate(levels):
        image = np.full((9, 9), level, np.uint8)
        image[0, 0] = number  # no two files are equal
        cv2.imwrite(str(folder / f"p{number // 2}-{level}-{number}.{suffix}"), image)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    draw(folder / "siteA" / "OK", 10, 20, 30, 200)
    draw(folder / "siteA" / "<b>SICK", 240, 230, 40)
    draw(folder / "siteB" / "<b>SICK", 225, 235)
    return folder


def test_figures_are_those_of_a_confirmation_with_an_interval_each(elsewhere: Path) -> None:
    found, images = evaluate(a_classifier(classes=OWN), read_labelled(elsewhere, OWN, r"(p\d+)-"), None)
    total = found.total.at_half
    scores = scored(images.labels, images.probabilities, 0.5)
    for name in ("accuracy", "sensitivity", "specificity", "balanced_accuracy", "auc"):
        interval = getattr(total, name)
        assert interval.value == pytest.approx(getattr(scores, name)), name
        assert 0 <= interval.low <= interval.value <= interval.high <= 1, name
    assert (total.accuracy.low, total.accuracy.high) == (scores.accuracy_low, scores.accuracy_high)
    assert total.specificity is not None
    assert total.specificity.value == 0.75
    assert (found.total.counts, found.total.patients) == ({"OK": 4, "<b>SICK": 5}, 2)
    site_a, site_b = found.groups
    assert (site_a.name, site_b.name, site_b.counts) == ("siteA", "siteB", {"OK": 0, "<b>SICK": 2})
    assert site_b.at_half.sensitivity is not None
    assert (site_b.at_half.specificity, site_b.at_half.auc, site_b.at_half.balanced_accuracy) == (None, None, None)
    assert found.total.at_threshold is None


def test_own_threshold_is_a_second_table(elsewhere: Path) -> None:
    found, _ = evaluate(a_classifier(0.1, classes=OWN), read_labelled(elsewhere, OWN), None)
    half, own = evaluation_tables(found)
    assert [row[0] for row in own.rows] == [row[0] for row in half.rows] == ["all images", "siteA", "siteB"]
    assert found.total.at_threshold is not None
    assert found.total.at_threshold.sensitivity is not None
    assert found.total.at_threshold.sensitivity.value == 1.0


def test_unreadable_images_are_named_and_left_out(elsewhere: Path) -> None:
    (elsewhere / "siteB" / "<b>SICK" / "bad.png").write_bytes(b"no image")
    (elsewhere / "siteB" / "<b>SICK" / "gone.png").symlink_to(elsewhere / "nowhere")
    found, _ = evaluate(a_classifier(classes=OWN), read_labelled(elsewhere, OWN), None)
    assert sorted(found.unreadable) == ["siteB/<b>SICK/bad.png", "siteB/<b>SICK/gone.png"]
    assert sum(found.total.counts.values()) == 9


def test_page_and_words_take_the_names_and_escape_them(elsewhere: Path) -> None:
    labelled = read_labelled(elsewhere, OWN)
    found, images = evaluate(a_classifier(0.4, classes=("HEALTHY", "TB")), labelled, None)
    text = page(found, images)
    assert "<b>SICK" not in text
    assert "predicted TB" in text
    assert "OK stands for HEALTHY, &lt;b&gt;SICK stands for TB" in text
    assert str(elsewhere.parent) not in text
    assert any("is unknown" in line for line in evaluation_lines(found))
    assert evaluation_summary(found)["total"]["counts"] == {"HEALTHY": 4, "TB": 5}


def a_study_folder(folder: Path) -> Path:
    for split, first in (("train", 0), ("test", 100)):
        draw(folder / split / "NORMAL", *range(first, first + 30))
        draw(folder / split / "PNEUMONIA", *range(first + 50, first + 80))
    return folder


def known_of(folder: Path) -> KnownImages:
    return known_images(folder, PUBLISHED_CLASSES)


def test_sealed_test_folder_is_refused_by_content_wherever_it_lies(tmp_path: Path) -> None:
    study = a_study_folder(tmp_path / "study")
    copy = tmp_path / "copy" / "hospital"
    shutil.copytree(study / "test", copy)
    for number, path in enumerate(sorted(copy.rglob("*.png"))):
        path.rename(path.with_name(f"other-{number}.png"))
    for folder in (copy, study, study / "test"):
        with pytest.raises(DataError, match="60 of its .* are in the sealed test folder of the study .*; only 'pneumo"):
            evaluate(a_classifier(), read_labelled(folder, PUBLISHED_CLASSES), known_of(study))


def test_a_few_sealed_images_are_passed_over_and_those_of_the_training_are_told(tmp_path: Path) -> None:
    study, folder = a_study_folder(tmp_path / "study"), tmp_path / "folder"
    shutil.copytree(study / "train", folder / "seen")
    draw(folder / "new" / "NORMAL", *range(200, 220))
    draw(folder / "new" / "PNEUMONIA", *range(220, 240))
    sealed = sorted((study / "test" / "NORMAL").iterdir())[:3]
    for path in sealed:
        shutil.copy(path, folder / "new" / "NORMAL")
    found, _ = evaluate(a_classifier(), read_labelled(folder, PUBLISHED_CLASSES), known_of(study))
    assert found.sealed == tuple(f"new/NORMAL/{path.name}" for path in sealed)
    assert (found.n_sealed, found.total.trained_on, sum(found.total.counts.values())) == (3, 60, 100)
    assert {group.name: group.trained_on for group in found.groups} == {"new": 0, "seen": 60}
    lines = " ".join(evaluation_lines(found))
    assert "60 of the 100 images trained the network or chose it (60 in seen)" in lines
    assert "3 images of the study's sealed test folder were passed over" in lines


def test_study_whose_images_are_gone_asks_for_them(store: Store, tmp_path: Path) -> None:
    folder = a_study_folder(tmp_path / "study")
    fingerprint = read_manifest(folder).part("development").fingerprint
    data = a_description(fingerprint=fingerprint).model_copy(update={"folder": str(folder)})
    store.open_study("s", "search", "accuracy", SPEC, data)
    assert of_study(store, "s", None).fingerprint == fingerprint
    other = a_study_folder(tmp_path / "other")
    draw(other / "train" / "NORMAL", 255)
    assert of_study(store, "s", other).folder == folder
    moved = folder.rename(tmp_path / "moved")
    assert of_study(store, "s", moved).folder == moved
    with pytest.raises(StoreError, match="its sealed test images cannot be recognised; give --data, or export"):
        of_study(store, "s", None)


def test_exported_network_finds_the_images_of_its_study_where_it_can(store: Store, tmp_path: Path) -> None:
    folder = a_study_folder(tmp_path / "study")
    fingerprint = read_manifest(folder).part("development").fingerprint
    classifier = a_classifier(fingerprint=fingerprint)
    data = a_description(fingerprint=fingerprint).model_copy(update={"folder": str(folder)})
    store.open_study("s", "search", "accuracy", SPEC, data)
    for found in (of_model(classifier, None, store), of_model(classifier, folder, None)):
        assert found is not None
        assert len(found.sealed) == len(found.development) == 60
    assert of_model(classifier, None, None) is None
    assert of_model(classifier, tmp_path / "nowhere", None) is None
    assert of_model(a_classifier(), folder, store) is None  # it does not say what it was trained on


def test_one_image_has_figures() -> None:
    found = figures([1], np.array([0.7]), ["p"], 0.5)
    assert (found.accuracy.value, found.specificity, found.brier) == (1.0, None, None)
    assert found.log_loss.low == found.log_loss.high == pytest.approx(-np.log(0.7))
