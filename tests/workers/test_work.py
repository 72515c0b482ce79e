"""What can be joined, and what is said of the rest."""

import pytest

from pneumosearch.errors import StoreError
from pneumosearch.records import attributes
from pneumosearch.records.confirmation import WantedReplicates
from pneumosearch.storage.store import Store
from pneumosearch.workers.work import Replicates, joined_work
from tests.support.fakes import SPEC, a_description


def test_confirmation_is_joined_when_it_has_begun(store: Store) -> None:
    study = store.open_study("tiny-confirm", "confirm", "accuracy", SPEC, a_description())
    with pytest.raises(StoreError, match=r"no confirmation of 'tiny' has begun; 'pneumosearch confirm --name tiny'"):
        joined_work(store, "tiny-confirm")
    wanted = WantedReplicates(candidates=(0, 3), seeds=(7, 8, 9), n_folds=5)
    attributes.WANTED.set(study, wanted)
    work = joined_work(store, "tiny-confirm")
    assert work == Replicates("tiny", wanted)
    assert isinstance(work, Replicates)
    assert work.n == 6
    study.set_user_attr(attributes.WANTED.key, {"candidates": [0], "later": 1})
    with pytest.raises(StoreError, match="study 'tiny-confirm': not as this version writes it"):
        joined_work(store, "tiny-confirm")


def test_reruns_cannot_be_joined(store: Store) -> None:
    store.open_study("tiny-reruns", "rerun", "accuracy", SPEC, a_description())
    with pytest.raises(StoreError, match="'tiny-reruns' is a rerun; only a search or its confirmation can be joined"):
        joined_work(store, "tiny-reruns")
