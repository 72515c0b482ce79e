"""Confirming a search: its best configurations and the baseline on fresh seeds, and then, once, the test images."""

from pneumosearch.confirm.naming import named_winner
from pneumosearch.confirm.opener import sole_opener
from pneumosearch.confirm.replicates import ConfirmationPlan, Say, Train, check_judgeable, train_replicates
from pneumosearch.confirm.test_access import open_test
from pneumosearch.errors import StoreError
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.search.repetitions import run_of
from pneumosearch.search.session import Interrupted, Session
from pneumosearch.storage.confirmations import confirmations
from pneumosearch.storage.store import Store


def stored_confirmation(store: Store, plan: ConfirmationPlan) -> Confirmation | None:
    """Return the stored confirmation of the same candidates and seeds, for which no image need be read again."""
    stored = (one for _, one in confirmations(store, plan.record.name, skip_missing=True))
    return next((one for one in stored if _same(plan, one)), None)


def _same(plan: ConfirmationPlan, confirmation: Confirmation) -> bool:
    there = [(one.trial, one.config) for one in confirmation.candidates]
    return confirmation.seeds == plan.seeds and there == [(t.number, run_of(t).config) for t in plan.candidates]


def confirm(session: Session, plan: ConfirmationPlan, train: Train, *, say: Say, warn: Say) -> Confirmation | None:
    """Train the missing replicates; when all are there, name the winner, open the test folder, judge, and keep it all.

    Args:
        session: Store, images, listener to the trainings, and when to stop.
        plan: As `plan_confirmation` makes it.
        train: Who trains them, on however many processes and machines.
        say: Told the cost, each replicate's turn, and the winner before the test folder is opened.
        warn: Told when the test folder is opened, as it was opened before.

    Returns:
        The confirmation, or None where the session stopped before its end; the same call again goes on.

    Raises:
        StoreError: The images are not those of the search.
        TrainingError: A replicate failed for a reason that may pass, or too many failed to judge all candidates; the
            test folder was not opened.
        DataError: Images cannot be read.
    """
    _check_images(session, plan)
    if not train_replicates(session, plan, train, say):
        return None
    check_judgeable(session.store, plan)
    try:
        with sole_opener(session, plan):
            return stored_confirmation(session.store, plan) or _judged(session, plan, say, warn)
    except Interrupted:
        return None


def _judged(session: Session, plan: ConfirmationPlan, say: Say, warn: Say) -> Confirmation:
    naming = named_winner(session.store, plan)
    if naming is not None and len(naming.repetitions) > 2:
        say(f"repetition names trial {naming.winner} the winner, before the test images are opened")
    return open_test(session, plan, naming, warn)


def _check_images(session: Session, plan: ConfirmationPlan) -> None:
    config = run_of(plan.candidates[0]).config
    found = session.source.described("holdout", config.image_size, config.equalization)
    if found.fingerprint != plan.record.data.fingerprint:
        raise StoreError(f"{found.folder}: not the images of the search ({plan.record.data.folder}); give --data")
