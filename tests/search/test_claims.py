import os
from collections.abc import Callable
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.records.attributes import OWNER
from pneumosearch.search.claims import Claims
from pneumosearch.search.leases import Leases, identity
from pneumosearch.search.proposers import SamplerProposer
from pneumosearch.search.pruners import PromotingPruner

GOAL = 4


class StudyOfOthers(optuna.Study):
    """A study in which another process ends its trial right after the trials were read for the `moment`-th time."""

    def __init__(self, moment: int, ends: Callable[[], None], pruner: optuna.pruners.BasePruner) -> None:
        whole = optuna.create_study()
        super().__init__(whole.study_name, whole._storage, pruner=pruner)
        self.moment, self.ends = moment, ends

    def get_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        trials = super().get_trials(*arguments, **options)
        self.moment -= 1
        if self.moment == 0:
            self.ends()
        return trials


def claims_while_another_ends(moment: int, pruner: optuna.pruners.BasePruner | None = None) -> Claims:
    """A study of which all trials are begun; another process has the last one, and ends it at the moment given."""

    def ends() -> None:
        study.tell(last, 0.9)

    study = StudyOfOthers(moment, ends, pruner or optuna.pruners.NopPruner())
    for _ in range(GOAL - 1):
        trial = study.ask({"zoom": optuna.distributions.FloatDistribution(0, 1)})
        trial.report(0.5, 1)
        study.tell(trial, state=TrialState.PRUNED)
    last = study.ask()
    OWNER.set(last, identity(psutil.Process(os.getppid())))  # a process that lives
    return Claims(study, SamplerProposer(study), Leases(), GOAL)


@pytest.mark.parametrize("moment", range(1, 8))
def test_no_trial_is_begun_beyond_the_goal_whenever_the_last_one_ends(moment: int) -> None:
    assert not claims_while_another_ends(moment).any_left()


@pytest.mark.parametrize("moment", range(1, 8))
def test_study_is_not_done_before_what_the_last_trial_leaves_is_counted(moment: int) -> None:
    claims = claims_while_another_ends(moment, PromotingPruner((1, 3), reduction_factor=2))
    assert not claims.done()  # while the last one trains, and after it, as the best stopped trial may then go on
