"""Which threshold holds elsewhere: 0.5, that of validation, or that of its copies under the battery."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pandas as pd
import typer

from benchmarks.common import in_points
from pneumosearch._utils.atomic import replacing
from pneumosearch.config import RunSpec
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource, ImageSet
from pneumosearch.errors import ConfigError
from pneumosearch.inference.predict import PlainNetwork
from pneumosearch.metrics import best_threshold, score
from pneumosearch.storage.store import Store, add_test_opening
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.training.loop import predict

_STUDY: Final = "selection"  # as `selection-runs` names it


def thresholds(
    folder: Annotated[Path, typer.Argument(help="Folder of the runs of `selection-runs`: its table without `.csv`.")],
    data: Annotated[Path, typer.Option(help="The phantoms of these runs.")],
    output: Annotated[Path, typer.Option(help="CSV file to write: one row a network and rule.")],
) -> None:
    """Judge the networks of `selection-runs` on the phantoms' test folder at thresholds that three rules choose.

    The rules: 0.5; the best balanced accuracy on validation, and that threshold only where it is above 0.5; the best
    balanced accuracy on the copies of validation images under the battery. Prints the means over networks of accuracy,
    balanced accuracy and specificity in the test folder, and the difference from 0.5 in points with its 95% interval.

    Example: scripts/bench thresholds results/selection/machine --data machine --output results/selection/machine-at.csv
    """
    source = DataSource(read_manifest(data), folder / "cache")
    if source.manifest.kind != "phantoms":
        raise ConfigError(f"{data}: these are no phantoms; the test folder of other images stays sealed")
    rows = list(_rows(Store(sqlite_url(folder / "runs.db"), folder), source))
    with replacing(output) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")
    print(json.dumps({"runs": str(folder), **summary(pd.DataFrame(rows))}, indent=1))


def summary(rows: pd.DataFrame) -> dict[str, dict[str, float | list[float]]]:
    """Return for each rule the means over networks, and the paired difference of its accuracies from those at 0.5."""
    figures = ("balanced_accuracy", "accuracy")
    tables = {name: rows.pivot(index="trial", columns="rule", values=name) for name in figures}
    rules = list(dict.fromkeys(rows.rule))
    means = rows.groupby("rule")[["threshold", "accuracy", "balanced_accuracy", "specificity"]].mean()
    return {
        rule: {
            **{name: round(float(value), 4) for name, value in means.loc[rule].items()},
            **{f"{name} over 0.5, points": in_points(table[rule] - table["half"]) for name, table in tables.items()},
        }
        for rule in rules
    }


def _rows(store: Store, source: DataSource) -> Iterator[dict[str, float | str]]:
    study = store.load_study(_STUDY)
    for trial in store.record(_STUDY).trials:
        content = store.network(_STUDY, trial.number)
        if content is None or trial.run is None:
            continue
        config = trial.run.config
        test = source.sealed_test(
            config.image_size,
            config.equalization,
            write_down=partial(add_test_opening, study, trial.number, "thresholds"),
        )
        labels = np.array([image.label for image in test.part.images], dtype=np.float32)
        network = PlainNetwork(content)
        probabilities = predict(network, ImageSet(test.array, labels, np.arange(len(labels))))
        for rule, threshold in _chosen(network, source, trial.run).items():
            at = score(labels, probabilities, threshold=threshold)
            yield {
                "trial": trial.number,
                "rule": rule,
                "threshold": threshold,
                "accuracy": at.accuracy,
                "balanced_accuracy": at.balanced_accuracy,
                "sensitivity": at.sensitivity,
                "specificity": at.specificity,
            }


def _chosen(network: PlainNetwork, source: DataSource, run: RunSpec) -> dict[str, float]:
    """Return the threshold of each rule, by validation images alone."""
    config = run.config
    dataset = source.load("holdout", config.image_size, config.equalization, battery=True, fold=run.judging_fold)
    validation = _best(network, dataset.evaluation)
    copies = _best(network, dataset.battery) if dataset.battery else 0.5
    return {"half": 0.5, "validation": validation, "raised": max(0.5, validation), "copies": copies}


def _best(network: PlainNetwork, images: ImageSet) -> float:
    return best_threshold(images.labels[images.indices], predict(network, images))
