"""Which configurations a confirmation trains again, on which seeds, and their training."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pneumosearch.config import RunSpec
from pneumosearch.errors import StoreError, TrainingError
from pneumosearch.records.attributes import REPLICATE, REPLICATE_OF, Origin
from pneumosearch.records.trial import StudyRecord, TrialRecord, is_baseline
from pneumosearch.search.events import PartsDone
from pneumosearch.search.repetitions import Repetitions, fresh_seeds_of, run_of
from pneumosearch.search.runner import train_once
from pneumosearch.search.session import Session
from pneumosearch.storage.store import Store

Say = Callable[[str], None]


@dataclass(frozen=True)
class ConfirmationPlan(Repetitions):
    """What a confirmation trains, before it trains: the baseline first, then the finalists, best first."""

    def label(self, trial: TrialRecord) -> str:
        """Name a candidate in messages."""
        return "baseline" if is_baseline(trial) else f"trial {trial.number}"

    def why(self) -> str:
        """Say for the log of openings what the test images are read for."""
        names = ", ".join(self.label(trial) for trial in self.candidates)
        folds = "" if self.n_folds is None else f", in turn on {self.n_folds} folds"
        return f"confirmation of '{self.record.name}': {names}; seeds {', '.join(map(str, self.seeds))}{folds}"


def plan_confirmation(record: StudyRecord, top: int, n_seeds: int) -> ConfirmationPlan:
    """Choose the baseline and the `top` best other configurations by validation, and `n_seeds` seeds none has seen.

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
    return ConfirmationPlan(record, (baseline, *finalists[:top]), fresh_seeds_of(record, n_seeds))


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


def train_replicates(session: Session, plan: ConfirmationPlan, say: Say) -> bool:
    """Train what is missing of the plan's replicates; tell whether all are there, or failed for good.

    Raises:
        TrainingError: A replicate failed for a reason that may pass; its candidate and seed are in the message.
    """
    finished, runs = finished_replicates(session.store, plan), plan.runs
    finished |= failed_replicates(session.store, plan)
    for turn, (run, (trial, position)) in enumerate(runs.items(), start=1):
        name = f"{plan.label(trial)}, seed {run.seed}"
        if run in finished:
            continue
        if session.stop():
            return False
        session.listener(PartsDone("replicates", turn - 1, len(runs)))
        say(f"replicate {turn} of {len(runs)}: {name}")
        origin = Origin(study=plan.record.name, trial=trial.number)
        about = REPLICATE_OF.entry(origin) | REPLICATE.entry(position)
        try:
            if train_once(session, plan.study, "confirm", run, about) is None:
                return False
        except TrainingError as error:
            text = f"replicate {turn} of {len(runs)} ({name}) failed: {error}"
            if run not in failed_replicates(session.store, plan):
                raise TrainingError(text) from error
            say(f"{text}; the confirmation counts this failure")
    return not session.stop()
