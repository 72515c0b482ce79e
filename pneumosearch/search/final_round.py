"""The last rung of a study: its best trials on fresh seeds and folds, by all its processes; their means rank them.

They are the first replicates that `confirm` would train, and it uses them.
"""

from dataclasses import replace

from pneumosearch.records.finalists import finalists
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search.leases import GRACE
from pneumosearch.search.repeating import repeat
from pneumosearch.search.repetitions import Repetitions, fresh_seeds_of
from pneumosearch.search.runner import MAX_FAILURES, Outcome
from pneumosearch.search.session import Session
from pneumosearch.studyfile import Finalists


def planned_repetitions(record: StudyRecord, wanted: Finalists) -> Repetitions | None:
    """Return what the last rung of a search trains; None where no trial is complete."""
    best = finalists(record, wanted.top)
    return Repetitions(record, tuple(best), fresh_seeds_of(record, wanted.repeats)) if best else None


def repeat_finalists(
    session: Session,
    wanted: Finalists,
    name: str,
    search: Outcome,
    *,
    max_failures: int = MAX_FAILURES,
    grace: float = GRACE,
    at_most: int | None = None,
) -> Outcome:
    """Repeat the best trials of a search that is over, unless they are; any number of processes may do so at once.

    Args:
        session: Store, images, listener, and the flag to stop.
        wanted: How many trials, and how often.
        name: Of the search.
        search: How it ended.
        max_failures: As of `repeating.repeat`.
        grace: As of `repeating.repeat`.
        at_most: As of `repeating.repeat`.

    Raises:
        PneumosearchError: Data or storage cannot be used.
    """
    plan = planned_repetitions(session.store.record(name), wanted)
    if plan is None:
        return search
    outcome = repeat(session, plan, max_failures=max_failures, grace=grace, at_most=at_most)
    return replace(search, stopped=search.stopped if outcome.done else outcome.stopped, done=outcome.done)
