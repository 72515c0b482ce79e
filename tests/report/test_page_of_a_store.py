"""The page of a study in a store: which confirmation and pictures it takes, how it is written, what is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from optuna.artifacts import upload_artifact
from optuna.trial import TrialState, create_trial

from pneumosearch.errors import PneumosearchError, StoreError
from pneumosearch.inference.export import stored_classifier
from pneumosearch.report.latest_confirmation import (
    latest_confirmation,
    misclassified_images,
)
from pneumosearch.report.page import write_page
from pneumosearch.storage.store import Store
from tests.support.fake_confirmation import a_confirmation
from tests.support.fakes import a_description
from tests.support.pages import SEARCHED, SMALL_SPEC, Elements, a_png, a_search


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with the trials of `a_search`."""
    record = a_search()
    study = store.open_study("default", "search", "accuracy", SMALL_SPEC, a_description())
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    for trial in record.trials:
        attributes = {
            "run": trial.run.model_dump(mode="json") if trial.run else None,
            "history": [epoch.model_dump() for epoch in trial.history],
            "versions": {"python": "3.11.7"},
            **({"failure": trial.failure} if trial.failure else {}),
        }
        study.add_trial(create_trial(state=states[trial.state], value=trial.value, user_attrs=attributes))
    return store


def _keep(store: Store, tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    study = store.load_study("default")
    upload_artifact(artifact_store=store.artifacts, file_path=str(path), study_or_trial=study)


def test_the_newest_confirmation_counts_with_its_own_pictures(filled: Store, tmp_path: Path) -> None:
    assert latest_confirmation(filled, "default") is None
    assert misclassified_images(filled, "default") == []
    for number, day in ((2, 9), (1, 8)):
        confirmation = a_confirmation(time=f"2026-02-0{day}T00:00:00+00:00")
        _keep(filled, tmp_path, f"confirmation-{number}.json", confirmation.model_dump_json().encode())
    for name in ("wrong-02-im-0001-2.png", "wrong-01-im-0005-2.png", "wrong-01-im-0007.png", "wrong-01-else-2.png"):
        _keep(filled, tmp_path, name, a_png())
    _keep(filled, tmp_path, "wrong-03-im-0002-2.png", b"<svg onload=alert(1)>")
    newest = latest_confirmation(filled, "default")
    assert newest is not None
    assert newest.time.startswith("2026-02-09")
    assert [image.position for image in misclassified_images(filled, "default")] == [5, 1]


def test_an_unreadable_confirmation_is_an_error_and_not_taken_for_none(filled: Store, tmp_path: Path) -> None:
    _keep(filled, tmp_path, "confirmation-1.json", b"{}")
    with pytest.raises(StoreError, match=r"confirmation-1\.json: no confirmation of this version"):
        latest_confirmation(filled, "default")
    with pytest.raises(StoreError, match=r"confirmation-1\.json: no confirmation of this version"):
        stored_classifier(filled, "default")
    elsewhere = Store(filled.url, tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"elsewhere/artifacts: the artifact 'confirmation-1\.json' is missing"):
        latest_confirmation(elsewhere, "default")
    with pytest.raises(StoreError, match=r"the artifact 'confirmation-1\.json' is missing"):
        stored_classifier(elsewhere, "default")


def test_confirmation_of_other_images_is_an_error(filled: Store, tmp_path: Path) -> None:
    other = a_confirmation().model_copy(update={"fingerprint": "f" * 16})
    _keep(filled, tmp_path, "confirmation-1.json", other.model_dump_json().encode())
    for read in (latest_confirmation, stored_classifier):
        with pytest.raises(StoreError, match=r"confirmation-1\.json: it confirms a study of other images"):
            read(filled, "default")


def test_page_is_written_completely_or_not_at_all(filled: Store, tmp_path: Path) -> None:
    _keep(filled, tmp_path, "confirmation-1.json", a_confirmation().model_dump_json().encode())
    path = tmp_path / "pages" / "page.html"
    write_page(filled, "default", path, top=3)
    assert "Confirmed: better than the baseline" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(PneumosearchError, match="cannot be written"):
        write_page(filled, "default", path / "below-a-file.html", top=3)


def test_page_without_pictures_names_the_images(filled: Store, tmp_path: Path) -> None:
    _keep(filled, tmp_path, "confirmation-1.json", a_confirmation().model_dump_json().encode())
    _keep(filled, tmp_path, "wrong-01-im-0005.png", a_png())
    for pictures in (True, False):
        write_page(filled, "default", tmp_path / "page.html", top=3, pictures=pictures)
        elements = Elements((tmp_path / "page.html").read_text(encoding="utf-8"))
        assert sum(image["alt"].startswith("Test image") for image in elements.attributes("img")) == pictures
        assert "im-0005" in elements.text
        assert ("without pictures" in elements.text) != pictures


_LOADED = """
import sys
from pneumosearch.cli import main
sys.argv[0] = "pneumosearch"
try:
    main()
finally:
    print("LOADED", *sorted({"tensorflow", "keras", "matplotlib", "jinja2"} & sys.modules.keys()), file=sys.stderr)
"""


def _report(store: Store, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--storage", store.url, "--results", str(store.results)]
    command = [sys.executable, "-c", _LOADED, "report", *where, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_report_writes_the_page_and_prints_its_path(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    done = _report(filled, "--html", str(path))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"{path}: written" in done.stderr
    assert "LOADED jinja2 matplotlib" in done.stderr
    elements = Elements(path.read_text(encoding="utf-8"))
    assert elements.attributes("title")
    assert len(elements.attributes("svg")) >= 4 + len(SEARCHED)


def test_the_plain_report_loads_nothing_for_figures(filled: Store) -> None:
    done = _report(filled)
    assert done.returncode == 0
    assert done.stderr.split() == ["LOADED"]


def test_a_page_and_another_form_at_once_are_refused(filled: Store, tmp_path: Path) -> None:
    done = _report(filled, "--html", str(tmp_path / "page.html"), "--json")
    assert done.returncode == 1
    assert "--html excludes --json" in done.stderr
    assert not (tmp_path / "page.html").exists()
