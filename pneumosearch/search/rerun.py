"""Training a stored trial again, and comparing the two histories."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumosearch._utils.hardware import thread_variables
from pneumosearch.data.names import path_of
from pneumosearch.errors import StoreError
from pneumosearch.records.attributes import RERUN_OF, Origin
from pneumosearch.records.trial import RERUNS, StudyRecord, TrialRecord
from pneumosearch.search.runner import train_once
from pneumosearch.search.session import Session


@dataclass(frozen=True)
class RerunComparison:
    """A stored trial and its rerun. A pruned trial is compared over the epochs that it ran."""

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
        for before, after in zip(self.original.history, self.again.history, strict=False):
            for name, value in before.numbers().items():
                if after.numbers().get(name) != value:
                    return f"epoch {before.epoch}: {name} {value!r}, now {after.numbers().get(name)!r}"
        return None

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
            "epochs": len(self.original.history),
            "identical": self.identical,
            "first_difference": self.first_difference,
            "other_versions": self.other_versions,
            "history": [epoch.model_dump() for epoch in self.again.history],
        }

    def verdict(self) -> str:
        """Say the result in words."""
        head = f"trial {self.original.number} of '{self.study}', {len(self.original.history)} epochs: "
        if self.identical:
            return head + "equal to the last digit"
        versions = ", ".join(f"{name} {then} then, {now} now" for name, (then, now) in self.other_versions.items())
        return f"{head}differs ({self.first_difference})" + (f"; versions differ: {versions}" if versions else "")


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
    config = original.run.config
    found = session.source.described(original.run.protocol, config.image_size, config.equalization)
    if found.fingerprint != original.data.fingerprint:
        raise StoreError(f"{found.folder}: not the images of that trial ({original.data.folder}); give --data")
    name, about = record.name + RERUNS, RERUN_OF.entry(Origin(study=record.name, trial=number))
    again = train_once(session, name, "rerun", original.run, about)
    return RerunComparison(record.name, original, again) if again else None


def stored_folder(record: StudyRecord) -> Path | None:
    """Return the data folder that a study was trained on, where it is still there."""
    folder = path_of(record.data.folder)
    return folder if folder.is_dir() else None
