"""What training processes are to train: a search, or the replicates of a confirmation; either can be pickled.

Optuna's `study.optimize` knows one objective and one study, and would have to be told anew what each process trains.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.records.confirmation import WantedReplicates
from pneumosearch.records.trial import REPLICATES
from pneumosearch.search.final_round import repeat_finalists
from pneumosearch.search.leases import GRACE
from pneumosearch.search.repeating import repeat
from pneumosearch.search.repetitions import as_wanted
from pneumosearch.search.runner import MAX_FAILURES, Outcome, open_search
from pneumosearch.search.session import Session
from pneumosearch.storage.confirmations import wanted_of
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec

#: Trials that a process trains before the next one takes its place. Starting one takes a few seconds.
TRIALS_A_PROCESS: Final = 10


class Limits(NamedTuple):
    """When a process stops, whatever it trains."""

    max_failures: int = MAX_FAILURES  # when this many trials in a row fail alike; of a replicate, its own
    trials_a_process: int = TRIALS_A_PROCESS
    grace: float = GRACE  # seconds without a heartbeat after which trials of other machines are reclaimed


class Work(Protocol):
    """What training processes are to train."""

    @property
    def study(self) -> str:
        """Name of the study whose trials they train; those of another one come as `Repeating`."""

    @property
    def n(self) -> int:
        """How many trials it is at least, with those that have ended."""

    def check(self, workers: int) -> None:
        """Raise `ConfigError` where so many processes cannot train it at once."""

    def train(self, session: Session, limits: Limits) -> Outcome:
        """Train in this process until nothing is left, or the limits or the session stop it.

        Raises:
            PneumosearchError: Data or storage cannot be used, or too many trials fail alike.
        """

    def n_ended(self, store: Store) -> int:
        """Count what is trained, as the outcome of `train` does."""


@dataclass(frozen=True)
class Search:
    """A search, and the repetitions of its finalists.

    Args:
        spec: The study.
        n_trials: Of the study in all.
    """

    spec: StudySpec
    n_trials: int

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.spec.name

    @property
    def n(self) -> int:
        """Trials of the study in all; promotions and repetitions come on top."""
        return self.n_trials

    def check(self, workers: int) -> None:
        """Raise `ConfigError` for more than one process with an engine that is for one."""
        if workers > 1 and self.spec.engine == "keras-tuner":
            raise ConfigError("--workers: KerasTuner proposes to one process at a time; use engine = 'optuna', or 1")

    def train(self, session: Session, limits: Limits) -> Outcome:
        """Train trials, and when the search is over, the repetitions."""
        at_most = limits.trials_a_process
        run = open_search(session, self.spec, max_failures=limits.max_failures, grace=limits.grace)
        outcome = run.until(self.n_trials, at_most=at_most)
        if not outcome.done or not self.spec.finalists:
            return outcome
        given = {"max_failures": limits.max_failures, "at_most": at_most}
        return repeat_finalists(session, self.spec.finalists, self.study, outcome, grace=limits.grace, **given)

    def n_ended(self, store: Store) -> int:
        """Count the trials that have ended."""
        record = store.record(self.study)
        return sum(record.count(state) for state in ("complete", "pruned", "failed"))


@dataclass(frozen=True)
class Replicates:
    """The replicates of a confirmation.

    Args:
        study: Name of the search.
        wanted: Which, and on which seeds.
    """

    study: str
    wanted: WantedReplicates

    @property
    def n(self) -> int:
        """How many they are."""
        return len(self.wanted.candidates) * len(self.wanted.seeds)

    def check(self, workers: int) -> None:
        """Accept any number of processes."""

    def train(self, session: Session, limits: Limits) -> Outcome:
        """Train replicates that are missing."""
        plan, at_most = as_wanted(session.store.record(self.study), self.wanted), limits.trials_a_process
        return repeat(session, plan, max_failures=limits.max_failures, grace=limits.grace, at_most=at_most)

    def n_ended(self, store: Store) -> int:
        """Count the replicates that are trained."""
        runs = as_wanted(store.record(self.study), self.wanted).runs
        complete = (trial for trial in store.record(self.study + REPLICATES).trials if trial.state == "complete")
        return len(runs.keys() & {trial.run for trial in complete})


def joined_work(store: Store, name: str, **given: object) -> Search | Replicates:
    """Return what the study of this name trains, as the command that began it wrote it down.

    Args:
        store: That holds it.
        name: Of a search, or NAME-confirm for the confirmation of one.
        given: Settings of the command that joins a search, such as `timeout`.

    Raises:
        StoreError: There is none, it is neither, or no confirmation has begun.
    """
    record = store.record(name)
    if record.purpose == "confirm":
        search = name.removesuffix(REPLICATES)
        wanted = wanted_of(store, name)
        if wanted is None:
            raise StoreError(f"no confirmation of '{search}' has begun; 'pneumosearch confirm --name {search}' does")
        return Replicates(search, wanted)
    if record.purpose != "search":
        raise StoreError(f"'{name}' is a {record.purpose}; only a search or its confirmation can be joined")
    goal = store.goal(name)
    return Search(checked_spec({**record.spec, "name": name, "trials": goal, **given}, f"study '{name}'"), goal)
