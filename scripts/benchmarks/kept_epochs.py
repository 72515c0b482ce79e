"""Which epoch of a training to keep: each epoch judged by what a rule sees, and by the test folder of phantoms."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import typer

from benchmarks.common import in_points
from benchmarks.selection_runs import drawn, run_of
from pneumosearch._utils.atomic import replacing
from pneumosearch.config import RunSpec
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource, ImageSet
from pneumosearch.errors import ConfigError
from pneumosearch.metrics import METRICS, score
from pneumosearch.records.epoch import History
from pneumosearch.training.loop import KEPT_WEIGHTS_FILE, predict, train

#: What an epoch may be chosen by; "last" takes the last one.
RULES: Final = ("loss", "last", "accuracy", "auc", "shift_loss", "shift_accuracy", "shift_auc", "worst_family")
_KEPT_NOW: Final = "loss"
_TRUTH: Final = ("true_accuracy", "true_balanced_accuracy")


def kept_epochs(
    output: Annotated[Path, typer.Argument(help="CSV file to write: one row an epoch.")],
    data: Annotated[Path, typer.Option(help="Phantoms, whose test folder says the truth of each epoch.")],
    study: Annotated[Path, typer.Option(help="Study file whose space the configurations are drawn from.")],
    configurations: Annotated[int, typer.Option(min=3, help="How many, the baseline included.")] = 40,
    size: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 64,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.")] = 8,
) -> None:
    """Train random configurations, judge every epoch on the phantoms' test folder, and compare rules to keep one.

    Prints for each rule the mean over trainings of what the epoch that it keeps is worth in the test folder, and the
    difference from the lowest validation loss in points with its 95% interval. Interrupted runs go on with the same
    command.

    Example: scripts/bench kept-epochs results/selection/epochs.csv --data machine --study studies/selection.toml
    """
    source = DataSource(read_manifest(data), output.with_suffix(""))
    if source.manifest.kind != "phantoms":
        raise ConfigError(f"{data}: these are no phantoms; the test folder of other images stays sealed")
    rows = pd.read_csv(output).to_dict("records") if output.exists() else []
    there = {row["configuration"] for row in rows}
    for number, config in enumerate(drawn(study, configurations, {"image_size": size, "epochs": epochs})):
        if number not in there:
            run = run_of(config.model_copy(update={"keep": "last"}), 0, folds=False)
            rows += [{"configuration": number, **row} for row in _epochs(run, source)]
            with replacing(output) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")
    print(json.dumps({"epochs": str(output), **summary(pd.DataFrame(rows))}, indent=1))


def _epochs(run: RunSpec, source: DataSource) -> Iterator[dict[str, Any]]:
    """Train a run that keeps each epoch in its turn; yield the figures of its epochs and what they are worth."""
    size, equalization = run.config.image_size, run.config.equalization
    test = source.sealed_test(size, equalization, write_down=lambda _: print("phantoms' test read", file=sys.stderr))
    labels = np.array([image.label for image in test.part.images], dtype=np.float32)
    images = ImageSet(test.array, labels, np.arange(len(labels)))
    dataset = source.load("holdout", size, equalization, stress=run.stress, battery=run.battery)
    with TemporaryDirectory() as name:
        folder = Path(name)

        def copied(history: History) -> None:
            shutil.copyfile(folder / KEPT_WEIGHTS_FILE, folder / f"{len(history)}.weights.h5")

        result = train(run, dataset, folder, copied)
        for epoch in result.history:
            result.model.load_weights(folder / f"{epoch.epoch}.weights.h5")
            yield {**epoch.numbers(), **score(labels, predict(result.model, images)).as_dict("true")}


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Return for each rule what the epochs that it keeps are worth, in the mean and beside the lowest loss."""
    trainings = [own for _, own in rows.groupby("configuration")]
    kept = {rule: pd.DataFrame([own.loc[_kept(own, rule), list(_TRUTH)] for own in trainings]) for rule in RULES}
    best = pd.DataFrame([own[list(_TRUTH)].max() for own in trainings])
    return {
        "trainings": len(trainings),
        "best epoch": {name: round(float(best[name].mean()), 4) for name in _TRUTH},
        **{
            rule: {
                name: [
                    round(float(own[name].mean()), 4),
                    *in_points(own[name].to_numpy() - kept[_KEPT_NOW][name].to_numpy()),
                ]
                for name in _TRUTH
            }
            for rule, own in kept.items()
        },
    }


def _kept(own: pd.DataFrame, rule: str) -> Any:
    if rule == "last":
        return own.epoch.idxmax()
    seen = own[f"validation_{rule}"]
    return seen.idxmin() if METRICS[rule].direction == "minimize" else seen.idxmax()
