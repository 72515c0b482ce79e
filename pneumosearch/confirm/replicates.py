"""Which configurations a confirmation trains again, on which seeds, and their training."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from pneumosearch.config import RunSpec
from pneumosearch.errors import StoreError, TrainingError
from pneumosearch.records.finalists import best_with_control
from pneumosearch.records.trial import StudyRecord, TrialRecord, is_baseline
from pneumosearch.search.events import PartsDone, Repeating, TrialEnded, TrialEvent, TrialStarted
from pneumosearch.search.repeating import open_repetitions
from pneumosearch.search.repetitions import Repetitions, fresh_seeds_of, run_of, wanted_replicates
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session
from pneumosearch.storage.confirmations import set_wanted
from pneumosearch.storage.store import Store
from pneumosearch.workers.work import Replicates, Work

Say = Callable[[str], None]

#: Trains until nothing of the work is left, or the session stops it.
Train = Callable[[Session, Work], Outcome]


@dataclass(frozen=True)
class ConfirmationPlan(Repetitions):
    """What a confirmation trains, before it trains: the baseline first, then the finalists, best first."""

    def label(self, trial: TrialRecord) -> str:
        """Name a candidate in messages."""
        if is_baseline(trial):
            return "baseline"
        return f"trial {trial.number}" + " (the control)" * (trial == self.record.control)

    def cost(self, there: Collection[RunSpec]) -> str:
        """Say what is trained beside what is `there`, and how long that took in the search."""
        left = [trial for run, (trial, _) in self.runs.items() if run not in there]
        minutes = sum(epoch.seconds for trial in left for epoch in trial.history) / 60
        before = f", {len(self.runs) - len(left)} of them there" if len(left) < len(self.runs) else ""
        sizes = {"finalist": len(self.candidates) - 1, "seed": len(self.seeds), "replicate": len(self.runs)}
        finalists, seeds, replicates = (f"{n} {name}" + "s" * (n != 1) for name, n in sizes.items())
        return (
            f"the baseline and {finalists} on {seeds}: {replicates}{before}; at the search's speed, the {len(left)} to "
            f"train take about {max(1, round(minutes))} min one after the other"
        )

    def why(self) -> str:
        """Say for the log of openings what the test images are read for."""
        names = ", ".join(self.label(trial) for trial in self.candidates)
        folds = "" if self.n_folds is None else f", in turn on {self.n_folds} folds"
        return f"confirmation of '{self.record.name}': {names}; seeds {', '.join(map(str, self.seeds))}{folds}"


def plan_confirmation(record: StudyRecord, top: int, n_seeds: int, *, control: bool = True) -> ConfirmationPlan:
    """Choose the baseline and the `top` best other configurations by validation, and `n_seeds` seeds none has seen.

    Args:
        record: The search.
        top: So many finalists at most.
        n_seeds: So many seeds.
        control: Confirm the study's control too, wherever it ranks, if it has one that is complete.

    Raises:
        StoreError: No search, one that the test images judged, or too little of it is complete.
    """
    if record.purpose != "search":
        raise StoreError(f"'{record.name}' is a {record.purpose}; only a search can be confirmed")
    if record.spec.get("protocol") == "original":
        raise StoreError(f"study '{record.name}' was judged by the test images; search with protocol holdout")
    baseline, *finalists = _candidates(record)
    if not finalists:
        raise StoreError(f"study '{record.name}' has no complete trial besides the baseline; search on, then confirm")
    chosen = best_with_control(finalists, top, record.control if control else None)
    return ConfirmationPlan(record, (baseline, *chosen), fresh_seeds_of(record, n_seeds))


def as_begun(store: Store, plan: ConfirmationPlan) -> ConfirmationPlan:
    """Return the plan without folds where some of its replicates were trained without them, by an earlier version."""
    without = replace(plan, n_folds=None)
    begun = {trial.run for trial in _replicates(store, plan)}
    return plan if begun.isdisjoint(without.runs) else without


def _candidates(record: StudyRecord) -> list[TrialRecord]:
    """Return the baseline and all other complete configurations, best first, each once."""
    baseline = record.baseline
    if baseline is None or baseline.run is None or baseline.state != "complete":
        raise StoreError(f"the baseline of study '{record.name}' is not complete: there is nothing to compare with")
    different = {baseline.run.config: baseline}
    for trial in record.ranking():
        different.setdefault(run_of(trial).config, trial)
    return list(different.values())


def finished_replicates(store: Store, plan: ConfirmationPlan) -> dict[RunSpec, TrialRecord]:
    """Return the replicates of the plan that are trained and whose network is kept, by their run."""
    runs = plan.runs
    complete = [trial for trial in _replicates(store, plan) if trial.state == "complete"]
    return {
        trial.run: trial
        for trial in complete
        if trial.run in runs and store.network(plan.study, trial.number) is not None
    }


def failed_replicates(store: Store, plan: ConfirmationPlan) -> dict[RunSpec, TrialRecord]:
    """Return the replicates of the plan whose loss was not finite, by their run: training them again fails again."""
    runs, trials = plan.runs, _replicates(store, plan)
    complete = {trial.run for trial in trials if trial.state == "complete"}
    return {t.run: t for t in trials if t.diverged and t.run in runs and t.run not in complete}


def _replicates(store: Store, plan: ConfirmationPlan) -> tuple[TrialRecord, ...]:
    """Return all replicates in the store. Raises `StoreError` where they are those of a study that was deleted."""
    if plan.study not in store.names():
        return ()
    record = store.record(plan.study)
    if record.data.fingerprint != plan.record.data.fingerprint:
        raise StoreError(
            f"study '{plan.study}' was trained on other images ({record.data.folder}) than '{plan.record.name}'; "
            "search under another --name"
        )
    return record.trials


def check_judgeable(store: Store, plan: ConfirmationPlan) -> None:
    """Raise `TrainingError` where too many replicates failed to compare each finalist with the baseline."""
    finished, failed = finished_replicates(store, plan), failed_replicates(store, plan)
    seeds = {trial.number: set[int]() for trial in plan.candidates}
    for run, (trial, _) in plan.runs.items():
        if run in finished:
            seeds[trial.number].add(run.seed)
    reasons = {trial.number: failed[run].failure for run, (trial, _) in plan.runs.items() if run in failed}
    remedy = "the test images were not opened; confirm with more --seeds"
    for trial in plan.candidates:
        label, n = plan.label(trial), len(plan.seeds)
        if not seeds[trial.number]:
            raise TrainingError(f"{label}: {n} of {n} replicates failed ({reasons.get(trial.number)}); {remedy}")
        if not seeds[trial.number] & seeds[plan.candidates[0].number]:
            raise TrainingError(f"{label} and the baseline have no seed on which neither failed; {remedy}")


def train_replicates(session: Session, plan: ConfirmationPlan, train: Train, say: Say) -> bool:
    """Train what is missing of the plan's replicates; tell whether all are there, or failed for good.

    Args:
        session: Store, images, listener, and when to stop.
        plan: What is wanted.
        train: Who trains.
        say: Told the cost, each replicate's turn, and failures.

    Raises:
        TrainingError: A replicate failed for a reason that may pass; its candidate and seed are in the message.
    """
    store = session.store
    finished, failed = finished_replicates(store, plan), failed_replicates(store, plan)
    missing = plan.runs.keys() - finished.keys() - failed.keys()
    if missing and not session.stop():
        say(plan.cost(finished.keys() | failed.keys()))
        done = train(replace(session, listener=_Teller(session, plan, say)), _begun(session, plan, finished)).done
        if not done:
            return False
        _check_all_there(store, plan)
    return not session.stop()


def _begun(session: Session, plan: ConfirmationPlan, finished: Mapping[RunSpec, TrialRecord]) -> Replicates:
    """Write down what is wanted, for processes that join."""
    open_repetitions(session, plan)  # decodes images and finds mistakes here, before processes start
    before, lacking = _replicates(session.store, plan), plan.runs.keys() - finished.keys()
    lost = tuple(trial.number for trial in before if trial.state == "complete" and trial.run in lacking)
    wanted = wanted_replicates(replace(plan, without_network=lost, n_before=len(before)))
    set_wanted(session.store, plan.study, wanted)
    return Replicates(plan.record.name, wanted)


def _check_all_there(store: Store, plan: ConfirmationPlan) -> None:
    """Raise `TrainingError` for the first replicate that was given up, or whose network is gone."""
    there = finished_replicates(store, plan).keys() | failed_replicates(store, plan).keys()
    for turn, (run, (trial, _)) in enumerate(plan.runs.items(), start=1):
        if run not in there:
            reasons = [each.failure for each in _replicates(store, plan) if each.run == run and each.failure]
            why = f"failed: {reasons[-1]}" if reasons else "has no network; the same command trains it again"
            raise TrainingError(f"replicate {turn} of {len(plan.runs)} ({plan.label(trial)}, seed {run.seed}) {why}")


@dataclass(frozen=True)
class _Teller:
    """Passes the events of replicates on, and says whose turn it is, how many there are, and which failed."""

    session: Session
    plan: ConfirmationPlan
    say: Say
    _said: set[int] = field(default_factory=set)  # numbers of replicates that have begun

    def __call__(self, event: TrialEvent) -> None:
        match event:
            case Repeating(event=TrialStarted(number, run)) if run in self.plan.runs:
                self._tell_parts()
                if number not in self._said:  # and not again when it goes on
                    self._said.add(number)
                    turn, name = self._turn(run)
                    self.say(f"replicate {turn}: {name}")
                self.session.listener(event)
            case Repeating(event=TrialEnded(record)):
                self.session.listener(event)
                self._tell_parts()
                if record.failure and record.run in self.plan.runs:
                    turn, name = self._turn(record.run)
                    counts = "; the confirmation counts this failure" if record.diverged else ""
                    self.say(f"replicate {turn} ({name}) failed: {record.failure}{counts}")
            case _:
                self.session.listener(event)

    def _turn(self, run: RunSpec) -> tuple[str, str]:
        runs = self.plan.runs
        return f"{list(runs).index(run) + 1} of {len(runs)}", f"{self.plan.label(runs[run][0])}, seed {run.seed}"

    def _tell_parts(self) -> None:
        ended = {t.run for t in _replicates(self.session.store, self.plan) if t.state == "complete" or t.diverged}
        runs = self.plan.runs
        self.session.listener(PartsDone("replicates", len(ended & runs.keys()), len(runs)))
