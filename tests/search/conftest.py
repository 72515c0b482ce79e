"""Searches without trainings and without pictures."""

from pathlib import Path

import pytest

from pneumosearch.search import objective as objective_module
from pneumosearch.storage.store import Store
from tests.support.machines import Hosts
from tests.support.searching import fake_train


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures of the learning curves, which take longer than the rest of a trial with a fake training."""
    monkeypatch.setattr(objective_module, "learning_curves", lambda history, path, title: path.touch())


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)


@pytest.fixture
def host(tmp_path: Path) -> Hosts:
    """Make machines by their names: each has a results folder of its own."""

    def make(name: str, url: str | None = None) -> Store:
        database = f"sqlite:///{tmp_path}/store.db"
        found = Store(database, tmp_path / name, artifacts=url or str(tmp_path / "shared"))
        assert found.shared_artifacts is not None
        found.shared_artifacts.patience = 0
        found.shared_artifacts.make()
        return found

    return make
