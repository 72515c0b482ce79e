"""What a tool is told of a trial: parameters, figures of each epoch, final figures, and words."""

import time
from typing import Final

from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.records.trial import TrialRecord

#: How a trial ended; the others are still to run, or run.
ENDED: Final = ("complete", "pruned", "failed", "passed over")


def parameters(trial: TrialRecord) -> dict[str, bool | int | float | str]:
    """Return all hyperparameters, and the seed, protocol and precision; none of a trial that has not begun."""
    if trial.run is None:
        return {}
    run = trial.run
    return {
        **run.config.model_dump(mode="json"),
        "seed": run.seed,
        "protocol": run.protocol,
        "precision": run.precision,
    }


def epoch_figures(epoch: EpochMetrics) -> dict[str, float]:
    """Return the figures of an epoch, such as `validation/accuracy`. Accuracies are fractions in [0, 1], times in s."""
    return {_grouped(name): float(value) for name, value in _measured(epoch).items()}


def final_figures(trial: TrialRecord) -> dict[str, float]:
    """Return the figures of an ended trial: `final/value`, the study's metric, and those that it is judged by."""
    figures: dict[str, float | None] = {"final/value": trial.value, "final/parameters": trial.n_parameters}
    if trial.judged is not None:
        figures |= {f"final/{name}": value for name, value in _measured(trial.judged).items()}
        figures |= {"final/epoch": trial.judged.epoch, "final/seconds": trial.seconds}
    if trial.screening is not None:
        figures |= {f"screening/{name}": value for name, value in _measured(trial.screening.epoch).items()}
    return {name: float(value) for name, value in figures.items() if value is not None}


def words(trial: TrialRecord) -> dict[str, str]:
    """Return what is known of a trial besides its figures, as far as there is any."""
    about = {
        "changes": ", ".join(f"{k}={v}" for k, v in trial.run.config.changes().items()) if trial.run else "",
        "failure": trial.failure,
        "passed_over": trial.passed_over,
        "duplicate_of": trial.duplicate_of,
        "continues": trial.continues,
        "data": trial.data.fingerprint if trial.data else None,
        **{f"version.{package}": version for package, version in trial.versions.items()},
    }
    return {key: str(value) for key, value in about.items() if value not in (None, "")}


def ended_at(trial: TrialRecord) -> dict[int, float]:
    """Return when each epoch ended, in s since 1970, as if the last one ended now."""
    moment, moments = time.time(), {}
    for epoch in reversed(trial.history):
        moments[epoch.epoch] = moment
        moment -= epoch.seconds
    return moments


def _measured(epoch: EpochMetrics) -> dict[str, float]:
    return epoch.model_dump(exclude_none=True, exclude={"epoch"})


def _grouped(name: str) -> str:
    """Put the images that a figure is of before a slash, by which both tools group."""
    images, _, rest = name.partition("_")
    return f"{images}/{rest}" if images in ("train", "validation", "test") else name
