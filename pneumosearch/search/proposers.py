"""Who proposes the configurations of a study: Optuna's sampler here, another library in a module of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import CONTINUES, EXHAUSTED, RUN
from pneumosearch.search.pruners import PromotingPruner, Promotion


class NothingToPropose(Exception):
    """Every configuration of the space was proposed before."""


class Proposer:
    """Proposes what a study trains next; without more, it proposes nothing and resumes nothing.

    It reads results from the study itself: after an interruption it proposes what it would have proposed without one.
    """

    @property
    def exhausted(self) -> str:
        """Why there is nothing more to propose; empty while there is."""
        return ""

    def concerns(self, trial: FrozenTrial) -> bool:
        """Tell whether a running trial is one that it proposes: others are neither reclaimed nor waited for."""
        return True

    def resumes(self) -> bool:
        """Tell whether the next proposal resumes a stopped trial."""
        return False

    def propose(self) -> None:
        """Enqueue the next trial, unless one waits already or the study's sampler draws it.

        Raises:
            NothingToPropose: There is none.
        """
        raise NothingToPropose

    def lacks_finalist(self) -> bool:
        """Tell whether no trial but the baseline is complete, and a stopped trial could be."""
        return False

    def propose_finalist(self) -> None:
        """Enqueue the resumption of the best stopped trial."""

    def label(self, trial: optuna.Trial) -> None:
        """Add to a trial that begins, or goes on, what the proposer says of it."""

    def resumable(self) -> set[int]:
        """Return the numbers of the stopped trials that are most likely to be resumed: their checkpoints are kept."""
        return set()

    def defers_baseline(self) -> bool:
        """Tell whether the baseline lets others go first, now that it was trained so far."""
        return False


@dataclass(frozen=True)
class OneRun(Proposer):
    """Lets the study begin a trial that is given this run, and resume one that had it."""

    run: RunSpec

    def concerns(self, trial: FrozenTrial) -> bool:
        """Tell whether a trial has this run."""
        return RUN.of(trial) == self.run

    def propose(self) -> None:
        """Enqueue nothing: the trial gets its run when it is there."""


@dataclass(frozen=True)
class SamplerProposer(Proposer):
    """Resumes the trials that the study's pruner promotes, and lets the study's sampler draw the others.

    Args:
        study: With its sampler and pruner.
        control: Values of the trial after the baseline; None where the sampler draws that too.
    """

    study: optuna.Study
    control: Mapping[str, Any] | None = None

    @property
    def exhausted(self) -> str:
        """What the sampler left in the study when it had nothing more to propose."""
        return EXHAUSTED.of(self.study) or ""

    def resumes(self) -> bool:
        """Tell whether the pruner promotes a trial."""
        return bool(self._promotions())

    def propose(self) -> None:
        """Enqueue the control or the best promotion, unless one waits: the process that enqueued it may be gone."""
        trials = self.study.get_trials(deepcopy=False)
        if self.control is not None and [trial.state != TrialState.WAITING for trial in trials] == [True]:
            self.study.enqueue_trial(dict(self.control))
            return
        if any(trial.state == TrialState.WAITING and CONTINUES.on(trial) for trial in trials):
            return
        for promotion in self._promotions()[:1]:
            self._enqueue(promotion)

    def lacks_finalist(self) -> bool:
        """Tell whether the pruner has let no trial but the baseline through, and stopped one at a rung."""
        return self._finalist() is not None

    def propose_finalist(self) -> None:
        """Enqueue the resumption of the best trial that the pruner stopped."""
        finalist = self._finalist()
        if finalist is not None:
            self._enqueue(finalist)

    def _finalist(self) -> Promotion | None:
        pruner = self._pruner
        return pruner.finalist(self.study) if pruner else None

    def _enqueue(self, promotion: Promotion) -> None:
        self.study.enqueue_trial(promotion.params, user_attrs=promotion.attributes())

    def resumable(self) -> set[int]:
        """Return the numbers of the stopped trials that the pruner is most likely to promote."""
        pruner = self._pruner
        return pruner.kept(self.study) if pruner else set()

    def defers_baseline(self) -> bool:
        """Tell whether the pruner lets others go first."""
        pruner = self._pruner
        return pruner is not None and pruner.defers_baseline(self.study)

    def _promotions(self) -> list[Promotion]:
        pruner = self._pruner
        return pruner.promotions(self.study) if pruner else []

    @property
    def _pruner(self) -> PromotingPruner | None:
        pruner = self.study.pruner
        return pruner if isinstance(pruner, PromotingPruner) else None
