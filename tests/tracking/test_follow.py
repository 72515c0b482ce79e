"""From the events of a study to its runs in other tools."""

from pathlib import Path

import pytest

from pneumosearch.errors import ConfigError
from pneumosearch.search.events import DeviceFound, EpochEnded, TrialDeferred, TrialEnded, TrialStarted
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec
from pneumosearch.tracking import follow
from pneumosearch.tracking.follow import followed
from pneumosearch.tracking.logged_study import LoggedStudy
from pneumosearch.tracking.tensorboard_runs import TensorBoardRuns
from tests.support.fakes import a_history, a_trial
from tests.support.logged import begun_study
from tests.tracking.test_tensorboard_runs import figures, run_of


def test_events_become_runs(tmp_path: Path, store: Store) -> None:
    spec = StudySpec(name="tiny", log=(f"tensorboard:{tmp_path}/runs",))
    begun_study(store, 3, spec)
    said, trial = list[str](), a_trial(1, 0.6, 0.8)
    assert trial.run is not None
    with followed(store, spec, said.append) as follower:
        follower.catch_up([a_trial(0, 0.7), a_trial(2, 0.5, state="running")])  # which another process trains
        for event in (
            DeviceFound("the processor"),
            TrialStarted(1, trial.run),
            EpochEnded(1, a_history(0.6)),
            TrialDeferred(1),
            TrialStarted(1, trial.run),
            EpochEnded(1, a_history(0.6, 0.8)),
            EpochEnded(1, a_history(0.1, 0.2, 0.3), fold=1),  # the epochs of a run are those of the first fold
            TrialEnded(trial),
        ):
            follower(event)
    assert said == []
    assert figures(run_of(tmp_path / "runs", 0), "final/value") == [(1, 0.7)]
    assert figures(run_of(tmp_path / "runs", 1), "validation/accuracy") == [(1, 0.6), (2, 0.8)]
    assert not list((tmp_path / "runs").glob("*/trial-0002"))


def test_study_without_log_is_followed_by_nobody(store: Store) -> None:
    with followed(store, StudySpec(), pytest.fail) as follower:
        follower(TrialEnded(a_trial(0, 0.7)))


def test_broken_tool_is_said_at_once_and_what_is_not_written_at_the_end(tmp_path: Path, store: Store) -> None:
    (tmp_path / "runs").write_text("a file")
    spec = StudySpec(name="tiny", log=(f"tensorboard:{tmp_path}/runs",))
    begun_study(store, 1, spec)
    said = list[str]()
    with followed(store, spec, said.append) as follower:
        follower(TrialEnded(a_trial(0, 0.7)))
    first, last = said
    assert first.startswith(f"warning: --log tensorboard:{tmp_path}/runs: ")
    assert first.endswith("; training goes on")
    assert last.endswith("1 trial is not written; the same command again writes them")


def test_tool_that_is_not_installed_is_refused_before_anything_begins(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "find_spec", lambda module: None)
    with (
        pytest.raises(ConfigError, match=r"--log mlflow:http://h: needs mlflow: pip install 'pneumosearch\[mlflow\]'"),
        followed(store, StudySpec(log=("mlflow:http://h",)), print),
    ):
        pass


@pytest.mark.parametrize("text", ["wandb:there", "tensorboard:", "runs"])
def test_study_file_names_known_tools(text: str) -> None:
    with pytest.raises(ConfigError, match="study.toml: log"):
        checked_spec({"log": [text]}, "study.toml")


def test_log_is_no_part_of_what_a_study_is() -> None:
    assert StudySpec(log=("tensorboard:runs",)).identity() == StudySpec().identity()
    assert "log" not in StudySpec().identity()


def test_study_that_has_not_begun_has_no_key(store: Store) -> None:
    study = begun_study(store, 0)
    with pytest.raises(Exception, match="no trial has begun"):
        TensorBoardRuns(Path("nowhere"), LoggedStudy(store, study.spec)).write(a_trial(0, 0.5))
