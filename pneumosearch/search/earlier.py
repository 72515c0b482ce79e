"""What a study takes over from earlier ones: studies of the same store, or CSV files of reports."""

import csv
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.metrics import METRICS
from pneumosearch.records.attributes import EARLIER
from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.records.trial import TrialRecord
from pneumosearch.space import Scalar, Space
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec

#: Of an earlier study so many trials are taken over, evenly through its ranks: its record must fit into any store.
MAX_TRIALS: Final = 300

_WANTED: Final = "wanted a table that 'pneumosearch report --format csv' writes"
_NO_RESULT: Final = {"failed": "failed", "passed over": "over budget", "running": "not ended", "waiting": "not ended"}


def earlier_studies(store: Store, spec: StudySpec) -> tuple[EarlierStudy, ...]:
    """Return what a study took over when it began; of a new study, what it takes over now.

    A trial informs by the fields that both studies search, and by its rank among the trials of its own study: complete
    trials by their value, behind them those that stopped early, by their epochs and then by their AUC. Figures of
    different metrics, protocols or image sizes are never compared. A CSV file does not say what was searched, so that
    fields count, of studies too, where they differ between trials.

    Args:
        store: Where the study is, or begins, and the earlier studies that `spec` names.
        spec: The study.

    Raises:
        ConfigError: A file cannot be read, lacks columns, or has nothing in common with the space.
        StoreError: The store has no study of a name.
    """
    if not spec.learn_from:
        return ()
    begun = EARLIER.of(store.load_study(spec.name)) if spec.name in store.names() else None
    if begun is not None:
        return begun
    space = spec.search_space()
    return tuple(
        from_csv(Path(name), space) if name.lower().endswith(".csv") else from_study(name, store, space)
        for name in spec.learn_from
    )


def from_csv(path: Path, space: Space) -> EarlierStudy:
    """Return what a study with this space takes over from a CSV file of a report. Raises `ConfigError`."""
    return _overlap(str(path), _from_file(path), space)


def from_study(name: str, store: Store, space: Space) -> EarlierStudy:
    """Return what a study with this space takes over from a study of the store. Raises `ConfigError`, `StoreError`."""
    return _overlap(name, _from_store(name, store), space)


@dataclass(frozen=True)
class _Trial:
    """A trial of an earlier study, from wherever it was read."""

    config: Mapping[str, Any]
    state: str
    value: float | None  # larger is better
    epochs: int
    auc: float  # after those epochs, or after the low-resolution rung; 0 where none was measured
    repeats: bool  # it has the result of an earlier trial of the same configuration

    def unusable(self) -> str:
        """Say why the trial tells nothing, or nothing new; empty where it does."""
        if self.state in _NO_RESULT:
            return _NO_RESULT[self.state]
        if self.repeats:
            return "repeated another"
        measured = self.value is not None if self.state == "complete" else bool(self.epochs or self.auc)
        return "" if measured else "without a result"

    def merit(self) -> tuple[float, ...]:
        """Return what orders trials: a complete one before any that stopped, a longer training before a shorter."""
        return (1.0, 0.0, self.value) if self.value is not None else (0.0, float(self.epochs), self.auc)


def _from_store(name: str, store: Store) -> list[_Trial]:
    try:
        record = store.record(name)
    except StoreError as error:
        raise StoreError(f"learn_from: {error}; a file must end in .csv") from error
    if record.purpose != "search":
        raise ConfigError(f"learn_from: '{name}' is a {record.purpose}; wanted a search, or a CSV file")
    sign = _sign(record.metric)
    return [_from_record(trial, sign) for trial in record.trials]


def _from_record(trial: TrialRecord, sign: float) -> _Trial:
    epoch = trial.kept or (trial.screening and trial.screening.epoch)
    auc = epoch.evaluation("auc") if epoch else None
    value = None if trial.value is None else sign * trial.value
    config = trial.run.config.model_dump() if trial.run else {}
    return _Trial(config, trial.state, value, len(trial.history), auc or 0.0, trial.duplicate_of is not None)


def _from_file(path: Path) -> list[_Trial]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise ConfigError(f"learn_from: {path}: no such file; {_WANTED}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"learn_from: {path}: cannot be read ({error}); {_WANTED}") from error
    if not rows:
        raise ConfigError(f"learn_from: {path}: it has no trial; {_WANTED}")
    for column in ("state", "value", "epochs_run"):
        if column not in rows[0]:
            raise ConfigError(f"learn_from: {path}: no column '{column}'; {_WANTED}")
    sign = _sign_of_file(rows, path)
    return [_from_row(row, sign, f"learn_from: {path}: line {line}") for line, row in enumerate(rows, start=2)]


def _from_row(row: Mapping[str, str | None], sign: float, where: str) -> _Trial:
    value, epochs, state = (row.get(key) or "" for key in ("value", "epochs_run", "state"))
    auc = row.get("validation_auc") or row.get("screening_auc") or "0"
    try:
        measured = sign * float(value) if value else None
        reached, ranked = int(float(epochs or 0)), float(auc)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; {_WANTED}") from error
    if not np.isfinite([measured or 0.0, ranked]).all():
        raise ConfigError(f"{where}: value and validation_auc must be finite numbers, not {value} and {auc}")
    config = {name: _parsed(text) for name, text in row.items() if text is not None}
    return _Trial(config, state, measured, reached, ranked, bool(row.get("duplicate_of")))


def _parsed(text: str) -> Scalar:
    """Read a cell as the plain value that it was before it was written."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _sign_of_file(rows: list[dict[str, str]], path: Path) -> float:
    """Tell by the metric whether more is better. Files of earlier versions do not name it, but hold its column."""
    metric = rows[0].get("metric")
    if metric is not None and metric in METRICS:
        return _sign(metric)
    valued = [row for row in rows if row.get("value")]
    for column in ("validation_accuracy", "validation_auc"):
        if metric is None and all(row.get(column) == row["value"] for row in valued):
            return 1.0
    which = "no column 'metric'" if metric is None else f"unknown metric {metric!r}"
    known = ", ".join(name for name, kind in METRICS.items() if kind.use == "search")
    raise ConfigError(f"learn_from: {path}: {which}, so that nobody knows whether more is better; add one of {known}")


def _sign(metric: str) -> float:
    return 1.0 if METRICS[metric].direction == "maximize" else -1.0


def _overlap(source: str, trials: list[_Trial], space: Space) -> EarlierStudy:
    """Return the trials of an earlier study that lie in the space, with their ranks among all that have a result."""
    over = Counter(reason for trial in trials if (reason := trial.unusable()))
    usable = [trial for trial in trials if not trial.unusable()]
    shared = [name for name in space.dimensions if _differs(name, usable)]
    if not shared:
        searched = ", ".join(space.dimensions)
        raise ConfigError(
            f"learn_from: {source}: {len(usable)} trials with a result, and none of the searched fields differs "
            f"between them ({searched})"
        )
    found = []
    for trial, score in zip(usable, ranks([trial.merit() for trial in usable]), strict=True):
        values, outside = _inside({name: trial.config[name] for name in shared}, space)
        over.update([f"with {outside} outside the space"] if outside else [])
        found += [] if outside else [EarlierTrial(values=values, score=score)]
    if not found:
        raise ConfigError(f"learn_from: {source}: no trial inside the space ({_listed(over)})")
    kept = _evenly(found)
    over.update({f"beyond the {MAX_TRIALS} that are kept": len(found) - len(kept)} if len(found) > len(kept) else {})
    return EarlierStudy(source=source, trials=kept, passed_over=dict(over))


def _differs(name: str, trials: list[_Trial]) -> bool:
    """Tell whether all trials have the field, and not all the same value of it."""
    return all(name in trial.config for trial in trials) and len({trial.config[name] for trial in trials}) > 1


def _inside(values: Mapping[str, Any], space: Space) -> tuple[dict[str, Scalar], str]:
    """Return the values as the space writes them, or the first field whose value lies outside."""
    own: dict[str, Scalar] = {}
    for name, value in values.items():
        try:
            own[name] = space.dimensions[name].own(value)
        except (TypeError, ValueError):
            return {}, name
    return own, ""


def _evenly(trials: list[EarlierTrial]) -> tuple[EarlierTrial, ...]:
    """Return the trials best first, at most `MAX_TRIALS` evenly through the ranks, the best one among them."""
    ranked = sorted(trials, key=lambda trial: -trial.score)
    if len(ranked) <= MAX_TRIALS:
        return tuple(ranked)
    return tuple(ranked[round(position)] for position in np.linspace(0, len(ranked) - 1, MAX_TRIALS))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def ranks(merits: Sequence[tuple[float, ...]]) -> list[float]:
    """Return ranks from 0, the lowest merit, to 1; ties share the mean of theirs, and one alone has 0.5."""
    ordered = sorted(merits)
    if len(ordered) < 2:
        return [0.5] * len(ordered)
    sums = [bisect_left(ordered, merit) + bisect_right(ordered, merit) - 1 for merit in merits]
    return [total / 2 / (len(ordered) - 1) for total in sums]
