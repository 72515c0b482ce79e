"""What the dashboard does and does not do to studies."""

import io
import json
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import create_trial
from optuna_dashboard import get_note, save_note

from pneumosearch.dashboard.server import pages, write_note
from pneumosearch.storage.confirmations import add_confirmation, confirmations
from pneumosearch.storage.optuna_private import study_id
from pneumosearch.storage.store import Store, add_test_opening
from tests.support.fake_confirmation import a_confirmation
from tests.support.fakes import SPEC, a_description


@pytest.fixture
def store(store: Store) -> Store:
    """A search, a confirmed one with its replicates, and a study of somebody's own."""
    for name in ("plain", "mine", "mine-confirm"):
        purpose: Any = "confirm" if name.endswith("-confirm") else "search"
        study = store.open_study(name, purpose, "accuracy", SPEC, a_description())
        study.add_trial(create_trial(value=0.5))
    add_test_opening(store.load_study("mine-confirm"), None, "confirmation of 'mine'", "fedcba9876543210")
    add_confirmation(store, "mine", 1, a_confirmation(study="mine"))
    optuna.create_study(storage=store.storage, study_name="foreign")
    return store


def numbers(store: Store) -> dict[str, int]:
    return {study.study_name: study_id(study) for study in store.storage.get_all_studies()}


def ask(store: Store, method: str, path: str, app: Any = None, **content: Any) -> tuple[int, Any]:
    body = json.dumps(content).encode()
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_TYPE": "application/json"}
    environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    setup_testing_defaults(environ)
    told: list[str] = []
    answer = b"".join((app or pages(store))(environ, lambda status, *_: told.append(status)))
    return int(told[0].split()[0]), json.loads(answer or b"{}")


@pytest.mark.parametrize("name", ["mine", "plain"])
def test_a_study_keeps_its_name_and_the_answer_says_why(store: Store, name: str) -> None:
    before = numbers(store)
    status, answer = ask(store, "POST", f"/api/studies/{before[name]}/rename", study_name="other")
    assert (status, numbers(store)) == (403, before)
    assert "its confirmation and its checkpoints would be lost" in answer["reason"]
    assert len(confirmations(store, "mine")) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mine", "has a confirmation, or replicates for one, 'mine-confirm'"),
        ("mine-confirm", "the record of when the test images were opened"),
    ],
)
def test_what_a_confirmation_needs_is_not_deleted(store: Store, name: str, reason: str) -> None:
    before = numbers(store)
    status, answer = ask(store, "DELETE", f"/api/studies/{before[name]}")
    assert (status, numbers(store)) == (403, before)
    assert reason in answer["reason"]
    assert len(confirmations(store, "mine")) == 1


def test_the_test_images_that_a_study_opened_stay_on_record(store: Store) -> None:
    add_test_opening(store.load_study("plain"), 0, "original", "fedcba9876543210")
    assert ask(store, "DELETE", f"/api/studies/{numbers(store)['plain']}")[0] == 403
    assert len(store.test_openings(a_description())) == 2


@pytest.mark.parametrize("name", ["plain", "foreign"])
def test_other_studies_can_be_deleted(store: Store, name: str) -> None:
    assert ask(store, "DELETE", f"/api/studies/{numbers(store)[name]}")[0] == 204
    assert name not in numbers(store)


def test_a_confirmation_is_not_deleted_by_itself(store: Store) -> None:
    [meta] = get_all_artifact_meta(store.load_study("mine"))
    status, answer = ask(store, "DELETE", f"/api/artifacts/{numbers(store)['mine']}/{meta.artifact_id}")
    assert (status, answer["reason"]) == (403, "'confirmation-1.json' is the confirmation of study 'mine'.")
    assert len(confirmations(store, "mine")) == 1


def test_a_note_above_the_report_stays(store: Store) -> None:
    write_note(store, "plain")
    study = store.load_study("plain")
    first = get_note(study)
    assert first.startswith("# Study plain\n")
    assert "stay if they are above its heading" in first
    status, _ = ask(store, "PUT", f"/api/studies/{numbers(store)['plain']}/note", body=f"Mine.\n{first}", version=2)
    assert status == 204
    for _ in range(2):
        write_note(store, "plain")
        assert get_note(study) == f"Mine.\n\n{first}"
    save_note(study, "Only mine: # Study plain is good.")
    write_note(store, "plain")
    assert get_note(study) == f"Only mine: # Study plain is good.\n\n{first}"
