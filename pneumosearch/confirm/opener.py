"""One process at a time reads the test images for a study; another that comes to it waits for what it finds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from pneumosearch.confirm.replicates import ConfirmationPlan
from pneumosearch.records.attributes import BEAT, OWNER
from pneumosearch.search.leases import Leases, this_process
from pneumosearch.search.session import Interrupted, Session
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import explained

_LOOK_AGAIN: Final = 0.5  # seconds


class _Reading(NamedTuple):
    """The reading of the test images, which has a lease as trials have, on the study of replicates."""

    user_attrs: dict[str, Any]
    number: int = 0


@contextmanager
def sole_opener(session: Session, plan: ConfirmationPlan) -> Iterator[None]:
    """Be the only process that reads the test images for the plan's study while the block runs.

    Raises:
        Interrupted: The session should stop, and another process still reads them.
    """
    leases, store = Leases(), session.store
    while not _claimed(store, plan, leases):
        if session.stop():
            raise Interrupted
        time.sleep(_LOOK_AGAIN)
    try:
        yield
    finally:
        with explained(store.url):
            OWNER.clear(store.load_study(plan.study))


def heartbeat(store: Store, plan: ConfirmationPlan, count: int) -> None:
    """Renew the lease, for processes of other machines."""
    with explained(store.url):
        BEAT.set(store.load_study(plan.study), f"{this_process().pid}:{count}")


def _claimed(store: Store, plan: ConfirmationPlan, leases: Leases) -> bool:
    with explained(store.url), study_lock(store.storage, plan.study):
        study = store.load_study(plan.study)
        if not leases.expired(_Reading(study.user_attrs)):
            return False
        OWNER.set(study, this_process())
        return True
