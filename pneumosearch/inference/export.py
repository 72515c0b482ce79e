"""From the store to models that work elsewhere: the confirmed ensemble, and a folder with a network of plain Keras."""

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from pneumosearch._utils.jinja import template
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.appearance import spanned
from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.inference.predict import (
    ABOUT_FILE,
    MODEL_FILE,
    WARNING,
    Classifier,
    ModelAbout,
    PlainNetwork,
    on_phantoms,
)
from pneumosearch.intervals import wilson_interval
from pneumosearch.network.backend import versions
from pneumosearch.records.confirmation import Candidate, Confirmation, Replicate
from pneumosearch.records.dataset import DataDescription
from pneumosearch.records.trial import REPLICATES, RERUNS, StudyRecord, TrialRecord
from pneumosearch.storage.confirmations import confirmations, current_confirmation
from pneumosearch.storage.store import Store

TFLITE_FILE: Final = "model.tflite"
CARD_FILE: Final = "README.md"
_CARD_TEMPLATE: Final = "model_card.md.j2"


def stored_classifier(store: Store, name: str) -> Classifier:
    """Return the confirmed winner's seed ensemble of a study, or, while nothing is confirmed, its best trial's network.

    Raises:
        StoreError: No such study, or it keeps no network.
    """
    current = current_confirmation(store, name)
    if current:
        return _ensemble(store, current.confirmation)
    record = store.record(name)
    for trial in record.ranking():
        content = store.network(name, trial.number)
        if content is not None and trial.run:
            of_fold = f", trained on the first of its {trial.run.n_folds} folds" if trial.folds else ""
            about = f"trial {trial.number} of '{name}'{of_fold}, which is not confirmed; threshold 0.5"
            return _classifier([content], trial.run.config, _data_of(trial, record), 0.5, about)
    if best := record.ranking():
        todo = how_to_have_network(store, record, best[0])
        raise StoreError(f"trial {best[0].number}, the best of '{name}', keeps no network; {todo}")
    raise StoreError(f"study '{name}' has no complete trial yet; run 'pneumosearch study --name {name}' first")


def _classifier(
    contents: list[bytes], config: TrialConfig, data: DataDescription, threshold: float, about: str
) -> Classifier:
    networks = [PlainNetwork(content) for content in contents]
    form = config.image_size, data.interpolation, config.equalization
    about += on_phantoms(data.kind)
    return Classifier(networks, *form, threshold, about, data.bits, data.appearance, data.classes, data.fingerprint)


def _ensemble(store: Store, confirmation: Confirmation) -> Classifier:
    winner, study = confirmation.candidates[confirmation.verdict.winner], confirmation.replicates_study
    found = [store.network(study, replicate.trial) for replicate in winner.replicates]
    contents = [content for content in found if content is not None]
    if len(contents) < len(found):
        raise StoreError(
            f"study '{study}': {len(found) - len(contents)} of {len(found)} networks of {winner.label} are gone; "
            f"'pneumosearch confirm --name {confirmation.study}' trains them again"
        )
    about = f"{winner.label}, {len(found)} seeds, confirmed {confirmation.time[:10]}; threshold from validation"
    threshold = winner.ensemble_at_threshold.threshold
    record = store.record(study)
    data = _data_of(record.trial(winner.replicates[0].trial), record)
    return _classifier(contents, winner.config, data, threshold, about)


def _data_of(trial: TrialRecord, record: StudyRecord) -> DataDescription:
    """Return the description of the images as the trial saw them: at its size, and judged as it was."""
    own = trial.data
    return own if own is not None and own.appearance is not None else record.data


def export_trial(store: Store, study: str, number: int, folder: Path) -> Path:
    """Write a trial's kept network to a new folder, whole or not at all, and return that folder.

    It holds `model.keras` (plain layers, loads without pneumosearch), `model.tflite`, `model.json` (what `predict
    --model` reads) and `README.md` (a model card). Of a trial with folds it is the network of the first.

    Raises:
        StoreError: No such trial, or it keeps no network.
        ConfigError: The folder holds something already, or cannot be written.
    """
    record = store.record(study)
    trial = record.trial(number)
    content = store.network(study, trial.number)
    if trial.run is None or content is None:
        raise StoreError(f"trial {number} of '{study}' keeps no network; {how_to_have_network(store, record, trial)}")
    target = folder.resolve()
    if target == Path.cwd():
        raise ConfigError(f"{folder}: is the current folder, which cannot be replaced; name a new folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{folder}: exists and is not empty; name a new folder")
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        _write(temporary, content, record, trial, _confirmed(store, record, trial))
        if target.is_dir():
            target.rmdir()
        temporary.rename(target)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def what_network(store: Store, study: str, number: int) -> str | None:
    """Say which of a trial's networks is kept; None where it trained one only."""
    run = store.record(study).trial(number).run
    return None if run is None or len(run.trainings) == 1 else f"the network of the first of {run.n_folds} folds"


def how_to_have_network(store: Store, record: StudyRecord, trial: TrialRecord) -> str:
    """Say which stored trial is the same training; if none is, how to train it again and which trials keep networks."""
    reruns = record.name + RERUNS
    for other in (record, *([store.record(reruns)] if reruns in store.names() else [])):
        for one in other.trials:
            if one.run and one.run == trial.run and store.network(other.name, one.number) is not None:
                return f"trial {one.number} of '{other.name}', the same training, does"
    kept = [str(t.number) for t in record.ranking() if store.network(record.name, t.number) is not None]
    there = f"kept are those of {', '.join(kept)}" if kept else "the study keeps none"
    if not trial.history:
        return there
    return f"'pneumosearch rerun {record.name} {trial.number}' trains it again and keeps it in '{reruns}'; {there}"


def _write(
    folder: Path,
    content: bytes,
    record: StudyRecord,
    trial: TrialRecord,
    confirmed: tuple[Confirmation, Candidate, Replicate | None] | None,
) -> None:
    run = trial.run
    if run is None:
        raise StoreError(f"trial {trial.number} of '{record.name}' was never started")
    (folder / MODEL_FILE).write_bytes(content)
    (folder / TFLITE_FILE).write_bytes(tflite(PlainNetwork(content).model))
    threshold, source = _threshold(confirmed)
    about = ModelAbout(
        study=record.name,
        trial=trial.number,
        config=run.config,
        input_size=run.config.image_size,
        interpolation=record.data.interpolation,
        equalization=run.config.equalization,
        threshold=threshold,
        threshold_from=source,
        labels=record.data.classes,
        fingerprint=record.data.fingerprint,
        kind=record.data.kind,
        bits=record.data.bits,
        appearance=_data_of(trial, record).appearance,
        versions=trial.versions or versions(),
    )
    (folder / ABOUT_FILE).write_text(about.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(_card(about, record, trial, run, confirmed), encoding="utf-8")


def tflite(model: Any) -> bytes:
    """Convert a network of plain Keras layers to TensorFlow Lite: (1, size, size, 3) float32 in [0, 1] to (1, 1).

    Raises:
        ConfigError: Keras runs on another backend than TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"KERAS_BACKEND={keras.backend.backend()}: TensorFlow Lite needs tensorflow")
    import tensorflow as tf

    with contextlib.redirect_stdout(io.StringIO()):  # the converter says where it keeps its working files
        return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def _confirmed(
    store: Store, record: StudyRecord, trial: TrialRecord
) -> tuple[Confirmation, Candidate, Replicate | None] | None:
    """Return the newest confirmation that knows the trial: as a candidate, or as one of its replicates."""
    is_replicate = record.purpose == "confirm"
    name = record.name.removesuffix(REPLICATES)
    if name not in store.names():
        return None
    for _, confirmation in reversed(confirmations(store, name)):
        for candidate in confirmation.candidates:
            if not is_replicate and candidate.trial == trial.number:
                return confirmation, candidate, None
            for replicate in candidate.replicates:
                if is_replicate and replicate.trial == trial.number:
                    return confirmation, candidate, replicate
    return None


def _threshold(confirmed: tuple[Confirmation, Candidate, Replicate | None] | None) -> tuple[float, str]:
    if confirmed is None:
        return 0.5, "0.5: nothing is confirmed"
    _, candidate, replicate = confirmed
    if replicate is not None:
        return replicate.at_threshold.threshold, "chosen on validation images for this network"
    mean = candidate.ensemble_at_threshold.threshold
    return mean, f"chosen on validation images, mean over {len(candidate.replicates)} replicates"


def _card(
    about: ModelAbout,
    record: StudyRecord,
    trial: TrialRecord,
    run: RunSpec,
    confirmed: tuple[Confirmation, Candidate, Replicate | None] | None,
) -> str:
    confirmation, candidate, replicate = confirmed or (None, None, None)
    return template(_CARD_TEMPLATE).render(
        about=about,
        record=record,
        trial=trial,
        kept=trial.kept,
        run=run,
        validation=_validation(record, trial),
        confirmation=confirmation,
        candidate=candidate,
        replicate=replicate,
        changes=_changes(run.config),
        classes=record.data.classes,
        own=record.data.shown_as == "own images",
        spans=about.appearance.spans if about.appearance else None,
        spanned=spanned(about.appearance),
        warning=WARNING,
        percent=_percent,
        model_file=MODEL_FILE,
        tflite_file=TFLITE_FILE,
    )


def _validation(record: StudyRecord, trial: TrialRecord) -> tuple[float, float, float] | None:
    """Return the accuracy on the images that judged, with its 95% Wilson interval."""
    if trial.kept is None:
        return None
    accuracy, n = trial.kept.evaluation("accuracy"), record.data.n_evaluation
    return accuracy, *wilson_interval(round(accuracy * n), n)


def _changes(config: TrialConfig) -> str:
    return ", ".join(f"{name} = {value}" for name, value in config.changes().items()) or "nothing: it is the baseline"


_percent: Callable[[float], str] = "{:.1%}".format
