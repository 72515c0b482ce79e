"""A study as its runs in a tool need it."""

from dataclasses import dataclass
from functools import cached_property

from pneumosearch.errors import StoreError
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import explained
from pneumosearch.studyfile import StudySpec


@dataclass(frozen=True)
class LoggedStudy:
    """A study whose trials are logged, and where its files are.

    Args:
        store: That holds it.
        spec: What it searches.
    """

    store: Store
    spec: StudySpec

    @property
    def name(self) -> str:
        """Of the study in its store."""
        return self.spec.name

    @cached_property
    def key(self) -> str:
        """Its name and when its first trial began: another study of the same name has another key.

        Raises:
            StoreError: No trial has begun.
        """
        study = self.store.load_study(self.name)
        with explained(self.store.url):
            begun = [trial.datetime_start for trial in study.get_trials(deepcopy=False) if trial.datetime_start]
        if not begun:
            raise StoreError(f"study '{self.name}': no trial has begun")
        return f"{self.name}-{min(begun):%Y%m%d-%H%M%S}"

    @property
    def varied(self) -> frozenset[str]:
        """The hyperparameters that differ between its trials."""
        return frozenset((*self.spec.search_space().dimensions, *self.spec.others))

    def picture(self, number: int) -> bytes | None:
        """Return the learning curves of an ended trial as PNG; None where there are none."""
        return self.store.read_artifact(self.name, "learning-curves.png", number)

    def network(self, number: int) -> bytes | None:
        """Return the kept network of an ended trial as a `.keras` file; None where none is kept."""
        return self.store.network(self.name, number)
