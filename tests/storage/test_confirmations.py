"""One reader of confirmations: which counts now, and what becomes of those whose file is missing."""

from pathlib import Path

import pytest

from pneumosearch.errors import StoreError
from pneumosearch.storage.confirmations import add_confirmation, confirmations, current_confirmation, next_number
from pneumosearch.storage.store import Store
from tests.support.fake_confirmation import a_confirmation
from tests.support.fakes import SPEC, a_description


@pytest.fixture
def searched(store: Store) -> Store:
    store.open_study("default", "search", "accuracy", SPEC, a_description())
    return store


def test_latest_confirmation_counts_and_of_one_moment_the_last(searched: Store) -> None:
    assert current_confirmation(searched, "default") is None
    days = {1: "2026-02-03", 2: "2026-02-05", 3: "2026-02-04", 4: "2026-02-05"}
    for number, day in days.items():
        assert next_number(searched, "default") == number
        add_confirmation(searched, "default", number, a_confirmation(time=f"{day}T00:00:00+00:00"))
    current = current_confirmation(searched, "default")
    assert current is not None
    assert current.number == 4
    assert [one.number for one in confirmations(searched, "default")] == [1, 3, 2, 4]


def test_confirmation_of_the_first_versions_has_no_number(searched: Store, tmp_path: Path) -> None:
    path = tmp_path / "confirmation.json"
    path.write_text(a_confirmation().model_dump_json(), encoding="utf-8")
    searched.add_artifact(searched.load_study("default"), path, "application/json")
    assert [one.number for one in confirmations(searched, "default")] == [1]
    assert next_number(searched, "default") == 2


def test_missing_confirmation_is_an_error_until_it_is_made_again(searched: Store) -> None:
    for number in (1, 2):
        add_confirmation(searched, "default", number, a_confirmation())
    searched.artifacts.remove(searched.study_artifacts("default")[0].artifact_id)
    with pytest.raises(StoreError, match="the artifact 'confirmation-.*' is missing; give its folder --results"):
        current_confirmation(searched, "default")
    assert len(confirmations(searched, "default", skip_missing=True)) == 1
    add_confirmation(searched, "default", next_number(searched, "default"), a_confirmation())
    assert [one.number for one in confirmations(searched, "default")] == [1, 2]
