"""Random configurations, each trained on several seeds and judged by every criterion: what a choice could go by."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import optuna
import pandas as pd
import typer

from pneumosearch._utils.atomic import replacing
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ConfigError
from pneumosearch.inference.predict import PlainNetwork
from pneumosearch.metrics import score
from pneumosearch.network.backend import resolved_precision
from pneumosearch.records.epoch import kept_epoch
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search.repetitions import N_FOLDS
from pneumosearch.search.runner import train_once
from pneumosearch.search.samplers import derived_seed
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store, add_test_opening
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import read_study_file

_DRAWING_SEED: Final = 20
_STUDY: Final = "selection"
_BATCH: Final = 256


def selection_runs(
    output: Annotated[Path, typer.Argument(help="CSV file to write; a store of the runs lies beside it.")],
    data: Annotated[Path, typer.Option(help="Images. The test folder is read only where they are phantoms.")],
    study: Annotated[Path, typer.Option(help="Study file whose space the configurations are drawn from.")],
    configurations: Annotated[int, typer.Option(min=3, help="How many, the baseline included.")] = 40,
    repeats: Annotated[
        int, typer.Option(min=1, help="Trainings of each, on other seeds and folds, as `confirm` repeats.")
    ] = 3,
    size: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 64,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.")] = 8,
    brightness: Annotated[
        bool, typer.Option(help="Train each a second time, judged by the brightness split; rows without it get it.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Stop after so many seconds; the same command goes on.")] = 1e9,
) -> None:
    """Train random configurations and write one row a training: configuration, all figures of the kept epoch, truth.

    The truth is the accuracy on the test folder, which is looked at on phantoms only. A run that was interrupted goes
    on with the same command.

    Example: scripts/bench selection-runs results/selection/phantoms.csv --data shifted --study studies/robust.toml
    """
    configs = list(drawn(study, configurations, {"image_size": size, "epochs": epochs}))
    folder = output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    store, source = Store(sqlite_url(folder / "runs.db"), folder), DataSource(read_manifest(data), folder / "cache")
    session = Session(store, source, lambda event: None, StopFlag.after(timeout))
    rows = pd.read_csv(output).to_dict("records") if output.exists() else []
    written = {(row["configuration"], row["seed"]): row for row in rows}
    for repeat, (number, config) in itertools.product(range(repeats), enumerate(configs)):
        run = run_of(config, repeat, folds=repeats > 1)
        row = written.get((number, run.seed))
        if row is None:
            figures = _judged(session, run)
            if figures is None:
                break
            row = {"configuration": number, "seed": run.seed, **config.changes(), **figures}
            rows.append(row)
        if brightness and pd.isna(row.get("brightness_auc")):
            on_extremes = _on_extremes(session, run)
            if on_extremes is None:
                break
            row.update(on_extremes)
        _write(output, rows)


def drawn(study: Path, n: int, fixed: dict[str, int]) -> Iterator[TrialConfig]:
    """Yield the baseline, then random points of the space, no two alike, all with the `fixed` fields."""
    space = read_study_file(study).search_space(str(study))
    sampler = optuna.samplers.RandomSampler(seed=_DRAWING_SEED)
    drawing = optuna.create_study(sampler=sampler)
    drawing.enqueue_trial(space.baseline())
    seen: set[TrialConfig] = set()
    for _ in range(100 * n):
        config = TrialConfig.checked({**space.suggest(drawing.ask()).model_dump(), **fixed}, str(study))
        if config not in seen:
            yield config
            seen.add(config)
        if len(seen) == n:
            return
    raise ConfigError(f"{study}: the space has fewer than {n} configurations")


def run_of(config: TrialConfig, repeat: int, *, folds: bool) -> RunSpec:
    """Return the run of a configuration that is judged by everything; with folds, each repeat by another one."""
    return RunSpec(
        config=config,
        seed=derived_seed(_DRAWING_SEED, repeat),
        precision=resolved_precision("auto"),
        stress=True,
        battery=True,
        precise=True,
        fold=repeat % N_FOLDS if folds else None,
        n_folds=N_FOLDS if folds else None,
    )


def _judged(session: Session, run: RunSpec) -> dict[str, float] | None:
    """Train a run and return its figures; None where the session stopped first."""
    trial = train_once(session, _STUDY, "search", run)
    return None if trial is None else {**_figures(run, trial), **_truth(session, trial)}


def _on_extremes(session: Session, run: RunSpec) -> dict[str, float] | None:
    """Train a run on the brightness split and return its figures there; None where the session stopped first."""
    judged = {"protocol": "brightness", "fold": None, "n_folds": None, "stress": False, "battery": False}
    trial = train_once(session, "selection-brightness", "search", run.model_copy(update=judged))
    if trial is None:
        return None
    kept = kept_epoch(trial.history, run.config.keep)
    return {"brightness_accuracy": kept.evaluation("accuracy"), "brightness_auc": kept.evaluation("auc")}


def _figures(run: RunSpec, trial: TrialRecord) -> dict[str, float]:
    """Return all figures of the epoch whose weights are kept; its learning rate is not that of the configuration."""
    epoch = kept_epoch(trial.history, run.config.keep)
    figures = {**epoch.numbers(), "epoch_seconds": epoch.seconds}
    return {f"epoch_{name}" if name == "learning_rate" else name: value for name, value in figures.items()}


def _truth(session: Session, trial: TrialRecord) -> dict[str, float]:
    """Judge a kept network by the test folder of phantoms; of other images nothing is read."""
    content = session.store.network(_STUDY, trial.number)
    if session.source.manifest.kind != "phantoms" or content is None or trial.run is None:
        return {}
    study, config = session.store.load_study(_STUDY), trial.run.config
    test = session.source.sealed_test(
        config.image_size,
        config.equalization,
        write_down=lambda fingerprint: add_test_opening(study, trial.number, "truth of the laboratory", fingerprint),
    )
    network, labels = PlainNetwork(content), [image.label for image in test.part.images]
    starts = range(0, len(labels), _BATCH)
    probabilities = [network.predict_on_batch(test.array[start : start + _BATCH, ..., None]) for start in starts]
    return score(labels, np.concatenate(probabilities)).as_dict("true")


def _write(output: Path, rows: list[dict[str, Any]]) -> None:
    with replacing(output) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")
