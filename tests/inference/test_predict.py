import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pneumosearch.cli.app import app
from pneumosearch.data.cache import load_pixels
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.data.scan import COPY_OF_FILE, HIDDEN
from pneumosearch.errors import ConfigError, DataError, StoreError
from pneumosearch.inference.export import export_trial, stored_classifier
from pneumosearch.inference.predict import Classifier, PlainNetwork, file_classifier, image_files, predictions
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from tests.conftest import TINY
from tests.support.fakes import SilentListener
from tests.support.networks import lite, weighing

SPEC: dict[str, object] = {
    "name": "tiny",
    "pruner": "none",
    "fixed": {**TINY, "epochs": 1, "equalization": "clahe"},
    "space": {"zoom": {"low": 0.0, "high": 0.5}},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """A results folder whose store holds a study of one trained trial."""
    folder = tmp_path_factory.mktemp("kept")
    store = Store(f"sqlite:///{folder}/pneumosearch.db", folder)
    source = DataSource(read_manifest(phantoms), folder / "cache")
    open_search(Session(store, source, SilentListener(), StopFlag()), checked_spec(SPEC, "test")).until(1)
    return folder


@pytest.fixture
def kept_store(kept: Path) -> Store:
    return Store(f"sqlite:///{kept}/pneumosearch.db", kept)


@pytest.fixture(scope="module")
def exported(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(f"sqlite:///{kept}/pneumosearch.db", kept)
    return export_trial(store, "tiny", 0, tmp_path_factory.mktemp("exported") / "model")


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def some_images(phantoms: Path, n: int = 3) -> list[Path]:
    return sorted((phantoms / "val").rglob("*.jpeg"))[:n]


@pytest.mark.slow
def test_images_are_read_as_in_training(kept_store: Store, phantoms: Path, tmp_path: Path) -> None:
    part = read_manifest(phantoms).part("development")
    cached = load_pixels(part, 32, "area", tmp_path, equalization="clahe")
    classifier = stored_classifier(kept_store, "tiny")
    assert classifier.equalization == "clahe"
    for image, pixels in list(zip(part.images, cached.array, strict=True))[:5]:
        assert np.array_equal(classifier.read(part.path(image)), pixels)


@pytest.mark.slow
def test_kept_exported_and_lite_networks_agree(kept_store: Store, exported: Path, phantoms: Path) -> None:
    classifier = stored_classifier(kept_store, "tiny")
    pixels = np.stack([classifier.read(path) for path in some_images(phantoms)])
    probabilities = classifier.probabilities(pixels)
    images = np.repeat((pixels[..., None] / 255).astype(np.float32), 3, axis=-1)
    assert lite(exported / "model.tflite", images) == pytest.approx(probabilities, abs=1e-5)
    for path in (exported, exported / "model.keras"):
        again = file_classifier(path)
        assert again.probabilities(pixels) == pytest.approx(probabilities, abs=1e-7)
        assert again.equalization == "clahe"


@pytest.mark.slow
def test_code_of_the_card_gives_the_same_probabilities_without_pneumosearch(
    kept_store: Store, exported: Path, phantoms: Path, tmp_path: Path
) -> None:
    classifier = stored_classifier(kept_store, "tiny")
    (image, *_) = some_images(phantoms)
    (expected,) = classifier.probabilities(classifier.read(image)[None])
    for path in (image, exported / "model.keras", exported / "model.tflite"):
        (tmp_path / ("chest.jpeg" if path == image else path.name)).write_bytes(path.read_bytes())
    reading, keras, lite = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    alone = "import sys; sys.modules['pneumosearch'] = None\n"
    code = f"{alone}{reading}{keras}print(probability)\n{lite}print(probability)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [float(line) for line in done.stdout.split()] == pytest.approx([expected] * 2, abs=1e-5)


@pytest.mark.slow
def test_predict_prints_every_format_draws_heat_and_goes_on_after_a_bad_file(
    kept: Path, phantoms: Path, tmp_path: Path
) -> None:
    good, (first, *_) = tmp_path / "good", some_images(phantoms)
    for folder in (good / "a", good / "b"):
        folder.mkdir(parents=True)
        (folder / "same.jpeg").write_bytes(first.read_bytes())
    bad = tmp_path / "bad.jpeg"
    bad.write_bytes(first.read_bytes()[:300])
    common = (good, bad, "--name", "tiny", "--results", kept)
    result = run("predict", *common, "--json", "--explain", tmp_path / "heat", code=1)
    assert "bad.jpeg: cannot be decoded" in result.stderr
    assert "which is not confirmed" in result.stderr
    told = json.loads(result.stdout)
    assert told["warning"] == "not for clinical use"
    assert len(told["predictions"]) == 2
    for row in told["predictions"]:
        assert row["decision"] == ("PNEUMONIA" if row["probability"] > told["threshold"] else "NORMAL")
    assert sorted(path.name for path in (tmp_path / "heat").iterdir()) == ["same-2.png", "same.png"]
    assert np.asarray(Image.open(tmp_path / "heat" / "same.png")).shape == (32, 32, 3)
    rows = list(csv.DictReader(io.StringIO(run("predict", *common, "--format", "csv", code=1).stdout)))
    assert [float(row["probability"]) for row in rows] == pytest.approx(
        [row["probability"] for row in told["predictions"]], abs=1e-6
    )
    long = good / ("long" * 20 + "-end.jpeg")
    long.write_bytes(first.read_bytes())
    table = run("predict", long, "--name", "tiny", "--results", kept).stdout
    assert "end.jpeg" in "".join(re.findall(r"│ (\S+)", table))
    assert "NORMAL" in table or "PNEUMONIA" in table


@pytest.mark.slow
def test_export_writes_a_folder_that_predict_reads(kept: Path, phantoms: Path, tmp_path: Path) -> None:
    target = tmp_path / "exported"
    out = run("export", "tiny", "0", target, "--results", kept, "--json").stdout
    assert json.loads(out)["files"] == ["README.md", "model.json", "model.keras", "model.tflite"]
    card = (target / "README.md").read_text()
    assert "PHANTOMS" in card
    assert "Not for clinical use" in card
    assert "Test images: not measured" in card
    assert "None" not in card
    told = run("predict", *some_images(phantoms), "--model", target, "--json")
    assert "trial 0 of 'tiny'" in told.stderr
    assert "trained on PHANTOMS" in told.stderr
    assert len(json.loads(told.stdout)["predictions"]) == 3
    result = run("export", "tiny", "0", target, "--results", kept, code=1)
    assert "exists and is not empty" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported"]


@pytest.mark.slow
def test_pictures_and_models_that_have_no_place_are_told(
    kept: Path, kept_store: Store, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    common: tuple[str | Path, ...] = ("predict", *some_images(phantoms, 1), "--name", "tiny", "--results", kept)
    assert "file: pictures cannot be written" in str(run(*common, "--explain", tmp_path / "file", code=1).exception)
    monkeypatch.chdir(tmp_path)
    for folder, message in ((Path("."), "is the current folder"), (Path("file"), "exists"), (Path(".."), "exists")):
        with pytest.raises(ConfigError, match=message):
            export_trial(kept_store, "tiny", 0, folder)
    with pytest.raises(StoreError, match="has no trial 7; it has 1"):
        export_trial(kept_store, "tiny", 7, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_description_of_another_network_is_told(exported: Path, tmp_path: Path) -> None:
    about = json.loads((exported / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**about, "input_size": 64}))
    (tmp_path / "model.keras").write_bytes((exported / "model.keras").read_bytes())
    with pytest.raises(ConfigError, match=r"model.json: input_size 64, but the network takes 32"):
        file_classifier(tmp_path)


@pytest.mark.parametrize(("threshold", "decision"), [(0.5, "PNEUMONIA"), (1.0, "NORMAL")])
def test_picture_shows_what_spoke_for_the_decision_at_the_threshold(
    threshold: float, decision: str, tmp_path: Path
) -> None:
    """What is bright speaks for pneumonia only, so that nothing is coloured where the threshold makes it normal."""
    weighing(1.0).save(tmp_path / "model.keras")
    networks = [PlainNetwork((tmp_path / "model.keras").read_bytes())]
    classifier = Classifier(networks, 8, "area", "none", threshold, "made by hand")
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "bright.png")
    (found,) = predictions(classifier, [tmp_path / "bright.png"], tmp_path / "heat")
    assert found.decision == decision
    picture = np.asarray(Image.open(tmp_path / "heat" / "bright.png"))
    assert (picture == 200).all() == (decision == "NORMAL")


def test_models_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.keras"
    nonsense.write_bytes(b"nonsense")
    for path, message in (
        (tmp_path / "missing.keras", "missing.keras: cannot be read"),
        (nonsense, "not a .keras file that can be loaded safely"),
        (tmp_path, "wanted a folder that 'export' wrote"),
    ):
        with pytest.raises(ConfigError, match=message):
            file_classifier(path)
    with pytest.raises(DataError, match="no such file"):
        image_files([tmp_path / "missing.png"])


def test_code_in_a_model_file_is_not_run(tmp_path: Path) -> None:
    from pneumosearch.network import backend

    backend.start()
    import keras

    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Lambda(lambda x: keras.ops.mean(x, axis=(1, 2, 3), keepdims=False)[:, None])(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "lambda.keras")
    with pytest.raises(ConfigError, match="not a .keras file that can be loaded safely"):
        file_classifier(tmp_path / "lambda.keras")


def test_network_of_another_form_is_refused(tmp_path: Path) -> None:
    from pneumosearch.network import backend

    backend.start()
    import keras

    for name, shape, units in (("oblong", (32, 16, 3), 1), ("two", (32, 32, 3), 2)):
        inputs = keras.Input(shape)
        keras.Model(inputs, keras.layers.Dense(units)(keras.layers.Flatten()(inputs))).save(tmp_path / f"{name}.keras")
        with pytest.raises(ConfigError, match=rf"{name}.keras: a network from .*wanted \(batch, size, size, 3\)"):
            file_classifier(tmp_path / f"{name}.keras")


def test_folder_is_read_once_without_hidden_files(phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms / "val", tmp_path / "x" / "val")
    shutil.copytree(phantoms / "val", tmp_path / "x" / "x" / "val")
    (tmp_path / "x" / "__MACOSX").mkdir()
    (tmp_path / "x" / "__MACOSX" / "._IM.jpeg").write_bytes(bytes(120))
    paths, passed_over = image_files([tmp_path / "x"])
    assert paths == sorted((tmp_path / "x" / "val").rglob("*.jpeg"))
    assert {each.reason: each.n for each in passed_over} == {COPY_OF_FILE: len(paths), HIDDEN: 1}
    named = tmp_path / "x" / "x" / "val" / paths[0].parent.name / paths[0].name
    assert image_files([named, paths[0]]).paths == [named, paths[0]]  # named ones are never passed over


@pytest.mark.slow
def test_images_unlike_those_of_the_training_are_named(exported: Path, phantoms: Path, tmp_path: Path) -> None:
    good = some_images(phantoms)[0]
    with Image.open(good) as image:
        grey = np.asarray(image.convert("L"))
    Image.fromarray(255 - grey).save(tmp_path / "negative.png")
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, grey.shape, dtype=np.uint8)).save(tmp_path / os.fsdecode(b"noise\xff.png"))
    result = run("predict", good, tmp_path, "--model", exported, "--json")
    rows = {Path(row["image"]).name: row["remarks"] for row in json.loads(result.stdout)["predictions"]}
    assert rows[good.name] == []
    assert any("negative" in remark for remark in rows["negative.png"])
    (noise,) = (name for name in rows if name.startswith("noise%FF~"))
    assert any("no chest X-ray" in remark for remark in rows[noise])
    assert f"{noise}: probably no chest X-ray" in result.stderr
    assert "no chest X-ray" in run("predict", tmp_path, "--model", exported, "--format", "csv").stdout


@pytest.mark.slow
def test_images_outside_the_families_are_named(exported: Path, phantoms: Path, tmp_path: Path) -> None:
    good = some_images(phantoms)[0]
    with Image.open(good) as image:
        grey = np.asarray(image.convert("L"))
    Image.fromarray(grey // 12).save(tmp_path / "dark.png")
    result = run("predict", tmp_path, "--model", exported, "--json")
    (row,) = json.loads(result.stdout)["predictions"]
    assert any(remark.startswith("exposure: brightness") for remark in row["remarks"])
    assert "dark.png: exposure: brightness" in result.stderr
    assert "| exposure | brightness |" in (exported / "README.md").read_text()


@pytest.mark.slow
def test_model_exported_before_families_were_known_tells_what_it_told(
    exported: Path, phantoms: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path / "old")
    about = json.loads((tmp_path / "old" / "model.json").read_text())
    del about["appearance"]["spans"]
    (tmp_path / "old" / "model.json").write_text(json.dumps(about))
    with Image.open(some_images(phantoms)[0]) as image:
        Image.fromarray(np.asarray(image.convert("L")) // 12).save(tmp_path / "dark.png")
    (found,) = predictions(file_classifier(tmp_path / "old"), [tmp_path / "dark.png"])
    assert any(remark.startswith("brightness ") for remark in found.remarks)


@pytest.mark.slow
def test_model_of_an_earlier_version_predicts_without_remarks(exported: Path, phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "old")
    about = json.loads((tmp_path / "old" / "model.json").read_text())
    for key in ("bits", "appearance"):
        del about[key]
    (tmp_path / "old" / "model.json").write_text(json.dumps(about))
    (found,) = predictions(file_classifier(tmp_path / "old"), some_images(phantoms, 1))
    assert found.probability is not None
    assert found.remarks == ()
