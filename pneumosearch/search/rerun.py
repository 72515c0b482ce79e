"""Training a stored trial again, and comparing the two histories."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumosearch._utils.hardware import thread_variables
from pneumosearch.data.names import path_of
from pneumosearch.errors import StoreError
from pneumosearch.records.attributes import RERUN_OF, Origin
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import RERUNS, StudyRecord, TrialRecord
from pneumosearch.search.runner import train_once
from pneumosearch.search.session import Session


@dataclass(frozen=True)
class RerunComparison:
    """A stored trial and its rerun, on all folds. A pruned trial is compared over the epochs that it ran."""

    study: str
    original: TrialRecord
    again: TrialRecord

    @property
    def identical(self) -> bool:
        """Whether every number of every epoch is equal to the last digit."""
        return self.first_difference is None

    @property
    def first_difference(self) -> str | None:
        """The first number that differs, in words."""
        pairs = zip(self.original.histories, self.again.histories, strict=False)
        return next((found for fold, pair in enumerate(pairs) if (found := _first_difference(fold, *pair))), None)

    @property
    def other_versions(self) -> dict[str, tuple[str | None, str | None]]:
        """Versions that differ between the two: {name: (then, now)}."""
        then, now = self.original.versions, self.again.versions
        return {k: (then.get(k), now.get(k)) for k in sorted(then.keys() | now.keys()) if then.get(k) != now.get(k)}

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {
            "study": self.study,
            "trial": self.original.number,
            "epochs": self.original.n_epochs,
            "identical": self.identical,
            "first_difference": self.first_difference,
            "other_versions": self.other_versions,
            "history": [epoch.model_dump() for epoch in self.again.history],
            "folds": [[epoch.model_dump() for epoch in history] for history in self.again.folds],
        }

    def verdict(self) -> str:
        """Say the result in words."""
        head = f"trial {self.original.number} of '{self.study}', {self.original.n_epochs} epochs: "
        if self.identical:
            return head + "equal to the last digit"
        versions = ", ".join(f"{name} {then} then, {now} now" for name, (then, now) in self.other_versions.items())
        return f"{head}differs ({self.first_difference})" + (f"; versions differ: {versions}" if versions else "")


def _first_difference(fold: int, original: History, again: History) -> str | None:
    """Say in words which number of a training differs first."""
    where = f"fold {fold + 1}, " if fold else ""
    for before, after in zip(original, again, strict=False):
        for name, value in before.numbers().items():
            if after.numbers().get(name) != value:
                return f"{where}epoch {before.epoch}: {name} {value!r}, now {after.numbers().get(name)!r}"
    return None


def rerun_trial(session: Session, record: StudyRecord, number: int) -> RerunComparison | None:
    """Train trial `number` again from its configuration and seed, as a trial of `NAME-reruns` that keeps its network.

    Returns:
        The comparison, or None where the session stopped before the end.

    Raises:
        StoreError: No such trial, it never ended an epoch, or the images are not those it saw.
    """
    original = record.trial(number)
    if original.run is None or original.data is None or not original.history:
        raise StoreError(f"trial {number} of '{record.name}' never finished an epoch: there is nothing to compare")
    threads = original.versions.get("threads", "")
    if threads.isdecimal():  # another number adds up in another order
        os.environ.update(thread_variables(int(threads)))
    config, first = original.run.config, original.run.trainings[0]
    found = session.source.described(first.protocol, config.image_size, config.equalization, first.judging_fold)
    if found.fingerprint != original.data.fingerprint:
        raise StoreError(f"{found.folder}: not the images of that trial ({original.data.folder}); give --data")
    name, about = record.name + RERUNS, RERUN_OF.entry(Origin(study=record.name, trial=number))
    again = train_once(session, name, "rerun", original.run, about)
    return RerunComparison(record.name, original, again) if again else None


def stored_folder(record: StudyRecord) -> Path | None:
    """Return the data folder that a study was trained on, where it is still there."""
    folder = path_of(record.data.folder)
    return folder if folder.is_dir() else None
