"""The incumbent of a run at a time: the network that the side would give to whoever stopped it then.

Of a peer it is the epoch with the highest validation accuracy so far, of any trial, finished or not: its weights are on
the disk. Of pneumosearch it is the first complete trial in the ranking of `report`, by the study's metric among those
above the floor, at the epoch that it keeps: a trial keeps its network when it is complete. With the default study that
is the best by `worst_family`, and not the one of the highest validation accuracy, which the race follows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pneumosearch.records.trial import StudyRecord, TrialRecord, ranked

NETWORKS: Final = "networks"  # folder of incumbents that are not judged yet
JUDGED: Final = "judged.json"

Line = Mapping[str, Any]  # of an epoch


@dataclass(frozen=True)
class Incumbent:
    """An incumbent whose network is kept."""

    after_s: float
    trial: int
    epoch: int
    network: str  # file in `NETWORKS`
    values: Mapping[str, Any]  # hyperparameters; of pneumosearch, those that are not the published ones


def epoch_lines(path: Path) -> list[Line]:
    """Return the lines of a file of epochs; a killed process may leave part of its last one, which does not count."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def leading_epoch(lines: Sequence[Line], seconds: float) -> Line | None:
    """Return the first epoch of the highest validation accuracy within these seconds; None before the first epoch."""
    there = sorted((line for line in lines if line["seconds"] <= seconds), key=lambda line: line["seconds"])
    return max(there, key=lambda line: line["val_accuracy"], default=None)


def leading_trial(record: StudyRecord, complete: Mapping[int, float], seconds: float) -> TrialRecord | None:
    """Return the first trial in the study's ranking within these seconds.

    Args:
        record: The study, as it ended.
        complete: {number of a trial: seconds after which it was complete}.
        seconds: Time of the ranking; without a complete trial by then, the result is None.
    """
    there = [trial for trial in record.trials if complete.get(trial.number, float("inf")) <= seconds]
    return next(iter(ranked(there, record.metric, record.floor)), None)
