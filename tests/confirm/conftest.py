"""A search to confirm."""

import numpy as np
import pytest

from pneumosearch.confirm import test_access as opening_module
from pneumosearch.data.protocols import DataSource
from pneumosearch.search import objective as objective_module
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from tests.support.confirming import SPEC, FakeNetwork, fake_train
from tests.support.fakes import SilentListener


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)
    monkeypatch.setattr(objective_module, "learning_curves", lambda history, path, title: path.touch())
    monkeypatch.setattr(opening_module, "PlainNetwork", FakeNetwork)
    monkeypatch.setattr(opening_module, "grad_cam", lambda model, pixels, ill: np.zeros(pixels.shape, np.float32))


@pytest.fixture
def searched(fake: None, store: Store, source: DataSource) -> Store:
    """A store with a search of the baseline and three other configurations."""
    open_search(Session(store, source, SilentListener(), StopFlag()), SPEC).until(4)
    return store
