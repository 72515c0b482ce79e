"""What a person sees while a search runs."""

import pytest

from pneumosearch.cli.live.study import StudyView
from pneumosearch.config import RunSpec
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search.events import DeviceFound
from tests.support.fakes import a_history, a_study, a_trial


def test_trials_of_other_processes_are_counted_once_they_are_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    looks: list[int] = []
    first, others, ours = a_trial(0, 0.8), a_trial(1, 0.95), a_trial(2, 0.7)

    def look() -> StudyRecord:
        looks.append(1)
        return a_study(first) if len(looks) == 1 else a_study(first, others, ours)

    with StudyView("images", 8, "accuracy", quiet=False) as view:
        view.show_earlier(look)
        view.trial_started(ours.number, RunSpec())
        view.trial_ended(ours)  # number 1 is nobody's that this process knows of
    said = capsys.readouterr().err
    assert "3 of 8 trials (3 complete, 0 pruned, 0 failed); best accuracy 0.9500 (trial 1)" in said
    assert len(looks) == 2


def test_deferred_baseline_is_told_and_goes_on_with_its_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyView("images", 8, "accuracy", quiet=False) as view:
        view.trial_started(0, RunSpec())
        view.epoch_ended(0, a_history(0.7))
        view.trial_deferred(0)
        view.trial_started(1, RunSpec())
        view.trial_started(0, RunSpec())
        for history in (a_history(0.7), a_history(0.7, 0.8)):  # as a checkpoint gives them
            view.epoch_ended(0, history)
    said = capsys.readouterr().err.splitlines()
    waits = "trial 0 waits after epoch 1 until another is complete"
    assert said.index(waits) < said.index("trial 1: the baseline")
    assert said.count("trial 0: the baseline") == 2
    assert [line.split(": train")[0] for line in said if ": epoch" in line] == ["trial 0: epoch 1", "trial 0: epoch 2"]


def test_store_is_not_asked_again_where_nobody_else_is_at_the_study() -> None:
    looks: list[int] = []

    def look() -> StudyRecord:
        looks.append(1)
        return a_study(a_trial(0, 0.8))

    with StudyView("images", 3, "accuracy", quiet=True) as view:
        view.show_earlier(look)
        for trial in (a_trial(1, 0.7), a_trial(2, 0.9)):
            view.trial_started(trial.number, RunSpec())
            view.trial_ended(trial)
    assert len(looks) == 1
    assert len(view.records) == 3


def test_device_is_shown_once_and_an_idle_gpu_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyView("images", 8, "accuracy", quiet=False) as view:
        for _ in range(2):  # one process after the other
            view(DeviceFound("the processor, 2 threads", "a GPU is visible, but not used"))
    said = capsys.readouterr().err.splitlines()
    assert said == ["training on the processor, 2 threads", "warning: a GPU is visible, but not used"]
