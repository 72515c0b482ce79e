"""The test folder: shut until all replicates are there, and each opening counted."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from pneumosearch.config import Equalization
from pneumosearch.confirm import test_access as opening_module
from pneumosearch.confirm.test_access import most_wrong
from pneumosearch.data.cache import load_pixels
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import DataError
from pneumosearch.report.summary import study_summary
from pneumosearch.search.session import StopFlag
from pneumosearch.storage.store import Store
from tests.support.confirming import Attempt, kept, unrecorded


def test_pictures_of_confident_mistakes_are_kept(searched: Store, source: DataSource) -> None:
    confirmation = Attempt(searched, source).confirmation()
    p = np.array(confirmation.candidates[1].replicates[0].probabilities)
    wrong = most_wrong(confirmation.labels, p)
    assert wrong
    stem = Path(confirmation.images[wrong[0]]).stem
    picture = searched.read_artifact("tiny", f"wrong-01-{stem}.png")
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert searched.read_artifact("tiny", f"wrong-13-{stem}.png") is None


def test_most_confident_mistakes_come_first_and_are_few() -> None:
    assert most_wrong([0, 0, 1, 1, 1], np.array([0.6, 0.99, 0.9, 0.05, 0.5])) == [1, 3, 0, 4]
    assert len(most_wrong([0] * 50, np.ones(50))) == 12


def test_test_folder_is_opened_only_when_every_replicate_is_there(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sealed(self: DataSource, size: int, equalization: str, write_down: Any) -> None:
        record = searched.record("tiny-confirm")
        raise DataError(f"opened with {record.count('complete')} replicates, {len(record.test_openings)} recorded")

    monkeypatch.setattr(DataSource, "sealed_test", sealed)
    with pytest.raises(DataError, match="opened with 6 replicates, 1 recorded"):
        Attempt(searched, source).run()
    assert kept(searched) == []
    monkeypatch.undo()


def test_other_seeds_and_finalists_reuse_replicates_and_are_another_opening(
    searched: Store, source: DataSource
) -> None:
    first = Attempt(searched, source, top=1, seeds=1)
    assert first.confirmation().n_openings == 1
    assert first.warned == []
    second = Attempt(searched, source, top=2, seeds=2)
    assert second.confirmation().n_openings == 2
    assert second.plan.seeds[:1] == first.plan.seeds
    assert len(second.said) == 1 + 6 - 2 + 1  # cost, replicates, and who was named
    assert second.warned == ["the test images were opened before: this is opening 2 from this store"]
    assert [one.n_openings for one in kept(searched)] == [1, 2]
    summary = study_summary(searched.record("tiny"))
    assert summary["test_openings"] == 2
    why = summary["test_opening_log"][0]["why"]
    assert why.startswith("confirmation of 'tiny': baseline, trial ")
    assert why.endswith(f"; seeds {first.plan.seeds[0]}, in turn on 5 folds")


def test_opening_that_was_cut_short_counts_once(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(opening_module, "compared", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Attempt(searched, source).run()
    again = Attempt(searched, source)
    assert again.confirmation().n_openings == 1
    assert (len(again.said), again.warned) == (1, [])  # who was named; nothing is trained


def test_opening_that_is_interrupted_goes_on(searched: Store, source: DataSource) -> None:
    Attempt(searched, source).confirmation()
    other = Attempt(searched, source, top=1)
    other.warned = Interrupting(other.stop)
    assert other.run() is None
    assert len(kept(searched)) == 1
    assert Attempt(searched, source, top=1).confirmation().n_openings == 2


class Interrupting(list[str]):
    """Presses Ctrl-C when the opening is told."""

    def __init__(self, stop: StopFlag) -> None:
        self.stop = stop

    def append(self, text: str) -> None:
        self.stop.reason = "interrupted"


def test_sealed_test_shrinks_as_the_holdout_protocol_does(source: DataSource, tmp_path: Path) -> None:
    part = source.manifest.part("test")
    for equalization in get_args(Equalization):
        area = load_pixels(part, 40, "area", tmp_path, equalization=equalization)
        assert np.array_equal(source.sealed_test(40, equalization, write_down=unrecorded).array, area.array)
        assert source.load("holdout", 40, equalization).description.interpolation == "area"
