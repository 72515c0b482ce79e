"""What is left to train in a study, and which process trains it: trials are claimed, reclaimed and resumed here.

Optuna only ever begins a trial: `study.ask` takes up none that another process left, and knows no number of trials that
a study shall have in all.

Other processes end their trials without the study's lock. So what must agree is counted in one reading of the trials,
and whether others are at work is asked before what they may have left.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.records.attributes import CONTINUES, FAILURE, PASSED_OVER, n_epochs
from pneumosearch.records.trial import is_baseline
from pneumosearch.search.leases import MAX_CLAIMS, Leases, claim
from pneumosearch.search.proposers import Proposer
from pneumosearch.storage.optuna_private import running_trial


@dataclass
class _Ended:
    """Counts the configurations whose training has ended or stopped.

    What has ended does not change: it remembers the trials before the first that has not ended.
    """

    _n_seen: int = 0
    _seen: set[int] = field(default_factory=set)  # of these, the numbers of those that count

    def count(self, trials: Sequence[FrozenTrial]) -> int:
        """Return their number among all trials of a study, which are in order of number."""
        for trial in itertools.takewhile(lambda trial: trial.state.is_finished(), trials[self._n_seen :]):
            _add(trial, self._seen)
            self._n_seen += 1
        numbers = set(self._seen)
        for trial in trials[self._n_seen :]:
            _add(trial, numbers)
        return len(numbers)


def _add(trial: FrozenTrial, numbers: set[int]) -> None:
    """Add the number of a trial that counts, in place of that of the earlier trial that it resumes."""
    numbers.discard(CONTINUES.stored(trial))
    if (trial.state.is_finished() or CONTINUES.on(trial)) and not PASSED_OVER.on(trial):
        numbers.add(trial.number)


@dataclass(frozen=True)
class Claims:
    """The trials of a study that a process may train. Hold the study's lock while you ask.

    Args:
        study: With the sampler and the pruner that the proposer relies on.
        proposer: Proposes new trials.
        leases: Tell which running trials nobody trains.
        goal: So many configurations the study trains in all.
    """

    study: optuna.Study
    proposer: Proposer
    leases: Leases
    goal: int = 0
    _ended: _Ended = field(default_factory=_Ended, init=False, repr=False, compare=False)

    def next(self) -> optuna.Trial:
        """Claim the trial to train: one whose lease has expired, else one to resume, else a new one.

        Raises:
            NothingToPropose: The space is exhausted.
        """
        frozen = next(self._reclaimable(), None)
        if frozen is None:
            if self._only_finalist_left():
                self.proposer.propose_finalist()
            else:
                self.proposer.propose()
            trial = self.study.ask()  # takes what is enqueued first
        else:
            trial = running_trial(self.study, frozen)
        epochs = n_epochs(trial)
        if claim(trial, epochs) > MAX_CLAIMS:
            fail(
                self.study,
                trial,
                f"taken up {MAX_CLAIMS} times after epoch {epochs}, and each time its process was lost",
            )
            return self.next()
        self.proposer.label(trial)
        return trial

    def any_left(self) -> bool:
        """Tell whether a trial can be claimed now."""
        return self._search_goes_on() or self._only_finalist_left()

    def _search_goes_on(self) -> bool:
        return any(self._reclaimable()) or self._resumption_waits() or self._room() or self.proposer.resumes()

    def _only_finalist_left(self) -> bool:
        """Tell whether the search is over, and has no complete trial beside the baseline that it could have."""
        if not self.goal or self.trained_elsewhere() or self._search_goes_on():
            return False
        return self.proposer.lacks_finalist()

    def done(self) -> bool:
        """Tell whether nothing is left to train, and no other process trains a trial that may leave something."""
        return not self.trained_elsewhere() and not self.any_left()

    def trained_elsewhere(self) -> bool:
        """Tell whether another process trains a trial now."""
        return any(not self.leases.expired(trial) for trial in self._running())

    def n_ended(self) -> int:
        """Count the configurations whose training has ended or stopped; those over budget do not count."""
        return self._ended.count(self.study.get_trials(deepcopy=False))

    def defers(self, trial: optuna.Trial | FrozenTrial) -> bool:
        """Tell whether `trial` is the baseline and there are other trials that go first."""
        return is_baseline(trial) and self.proposer.defers_baseline() and self._room()

    def _room(self) -> bool:
        """Tell whether there are new configurations to begin."""
        if self.proposer.exhausted:
            return False
        trials = self.study.get_trials(deepcopy=False)
        running = (trial for trial in trials if trial.state == TrialState.RUNNING)
        return self._ended.count(trials) + sum(not CONTINUES.on(trial) for trial in running) < self.goal

    def _running(self) -> list[FrozenTrial]:
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return list(filter(self.proposer.concerns, running))

    def _resumption_waits(self) -> bool:
        """Tell whether a resumption is enqueued: the process that enqueued it may have been killed right then."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return any(map(CONTINUES.on, waiting))

    def _reclaimable(self) -> Iterator[FrozenTrial]:
        """Yield the running trials that nobody trains, without a baseline that waits for others."""
        for frozen in self._running():
            if self.leases.expired(frozen) and not self.defers(frozen):
                yield frozen


def fail(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    """End a trial as failed, with its reason in one line."""
    FAILURE.set(trial, reason)
    study.tell(trial, state=TrialState.FAIL)
