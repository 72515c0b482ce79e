"""A search to confirm."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pneumosearch.confirm import test_access as opening_module
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.search import objective as objective_module
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from tests.support.confirming import SPEC, FakeNetwork, fake_train
from tests.support.fakes import SilentListener


def install(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(objective_module, "train", fake_train)
    patch.setattr(objective_module, "learning_curves", lambda history, path, title: path.touch())
    patch.setattr(opening_module, "PlainNetwork", FakeNetwork)
    patch.setattr(opening_module, "grad_cam", lambda model, pixels, ill: np.zeros(pixels.shape, np.float32))


@pytest.fixture(scope="session")
def search_folder(tmp_path_factory: pytest.TempPathFactory, phantoms: Path, cache_dir: Path) -> Path:
    """The store of a search of the baseline and three other configurations. Tests get copies."""
    folder = tmp_path_factory.mktemp("searched")
    source = DataSource(read_manifest(phantoms), cache_dir)
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        session = Session(a_store(folder), source, SilentListener(), StopFlag())
        open_search(session, SPEC).until(4)
    return folder


def a_store(folder: Path) -> Store:
    return Store(sqlite_url(folder / "store.db"), folder / "results")


@pytest.fixture
def searched(search_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a search of the baseline and three other configurations, and fakes for what is trained now."""
    install(monkeypatch)
    shutil.copytree(search_folder, tmp_path, dirs_exist_ok=True)
    return a_store(tmp_path)
