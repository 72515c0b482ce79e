"""Optuna's storage in a database that may go away for a while: calls whose connection is lost are retried.

tenacity retries; which calls may be repeated, and how, is decided here. Every call of Optuna's storage is one
transaction. One that fails before its commit is sent has left nothing; of one that fails at its commit, the client
cannot tell whether it was done. So each call is repeated in a way that is right in both cases:

- Reading, attributes, parameters, intermediate values, heartbeats: to do it twice has the same effect as once.
- A new trial carries a mark, and is looked for by it before another is made. `create_new_study` meets the study that
  the first attempt made, as `create_study(load_if_exists=True)` expects.
- The end of a trial: where the same state and values are stored already, the first attempt succeeded.
- Claiming a waiting trial: whether the first attempt or another worker claimed it cannot be known, so the answer is
  no. Nothing is trained twice; a trial claimed by nobody is reclaimed like one whose worker died.
- `delete_study` is not repeated.
"""

import functools
import itertools
import logging
import time
import weakref
from collections.abc import Callable, Container, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pneumosearch.errors import StoreError
from pneumosearch.storage.optuna_private import trial_id
from pneumosearch.storage.queries import read_trials

#: System attribute of a trial by which its creator finds it again.
MARK: Final = "pneumosearch:created"

#: Calls that have the same effect twice as once, with those that Optuna's cache makes, some of which are private.
REPEATABLE: Final = (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "set_trial_param",
    "_set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial_id_from_study_id_trial_number",
    "get_trial",
    "get_trial_param",
    "get_trial_user_attrs",
    "get_trial_system_attrs",
    "get_all_trials",
    "_get_best_trial_id",
    "record_heartbeat",
    "_get_stale_trial_ids",
)

_BACKOFF: Final = wait_random_exponential(multiplier=0.1, min=0.05, max=5.0)  # seconds
_SILENT: Final = 2.0  # seconds of retrying without a warning: a deadlock is resolved, a lock released

# PostgreSQL: serialization, deadlock, shutdown, crash, starting up, no more connections.
_PASSING_STATES: Final = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "53300"})
# MySQL: a row changed since it was read (MariaDB 11.6 and later), no more connections, shutdown, lock wait, deadlock,
# killed, no connection, gone, lost.
_PASSING_CODES: Final = frozenset({1020, 1040, 1053, 1205, 1213, 1927, 2003, 2006, 2013})
_SQLITE_PASSING: Final = frozenset({5, 6})  # busy, locked
# Errors that every further attempt would meet as well. Others are taken for temporary: a connection refused, a server
# that starts.
_REFUSING_CODES: Final = frozenset({1044, 1045, 1049, 1698})  # MySQL: access denied, unknown database
_REFUSING_TEXTS: Final = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "Name or service not known",
)

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class ConnectionLost(Exception):
    """The database did not answer, or gave up the transaction; the same may succeed later. Says why in one line."""


class RetryingStorage(RDBStorage):
    """Optuna's RDB storage; each call is retried for a while where the database is away.

    Args:
        url: An SQLAlchemy URL.
        patience: For how long a call is retried, s.
        name: The database's URL without the password, for messages.
        engine_kwargs: For SQLAlchemy's `create_engine`.
        skip_compatibility_check: Do not compare versions of tables.

    Raises:
        ConnectionLost: There is no connection now, but may be later.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float,
        name: str,
        engine_kwargs: dict[str, Any],
        skip_compatibility_check: bool = False,
    ) -> None:
        self.patience, self.name = patience, name
        super().__init__(_not_a_template(url), engine_kwargs, skip_compatibility_check)

    @property
    def engine(self) -> Engine:
        """The connections to the database, at most two."""
        engine: Engine = self.__dict__["engine"]
        return engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        event.listen(engine, "handle_error", _as_connection_lost)
        weakref.finalize(self, engine.dispose)  # or the connections would stay open until the server times them out
        self.__dict__["engine"] = engine

    def with_retry(self, call: Callable[[], _Result], again: Callable[[], _Result] | None = None) -> _Result:
        """Return what `call` returns, retried while the connection is lost; retries call `again` where there is one.

        Raises:
            StoreError: The database was away for longer than `patience`.
        """
        return call_with_retry(call, self.patience, self.name, again)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial, exactly one, and return its id."""
        return trial_id(self._create_new_trial(study_id, template_trial))

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        create = super()._create_new_trial
        if self.engine.dialect.name == "sqlite":  # no connection can be lost: a call that fails has left nothing
            return self.with_retry(lambda: create(study_id, template_trial))
        marked = template_trial or optuna.trial.create_trial(state=TrialState.RUNNING)
        marked.system_attrs = {**marked.system_attrs, MARK: uuid4().hex}

        def again() -> FrozenTrial:
            return self._created(study_id, marked.system_attrs[MARK]) or create(study_id, marked)

        return self.with_retry(lambda: create(study_id, marked), again)

    def _created(self, study_id: int, mark: str) -> FrozenTrial | None:
        """Return the trial with this mark. It waits for an attempt that still runs, as both lock the study."""
        with self.engine.begin() as connection:
            connection.execute(
                text("SELECT study_id FROM studies WHERE study_id = :study FOR UPDATE"), {"study": study_id}
            )
        return marked_trial(super().get_all_trials(study_id), MARK, mark)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trials = self.with_retry(
            lambda: read_trials(
                self.engine, study_id, states=states, after=trial_id_greater_than, also=included_trial_ids
            )
        )
        if not trials:
            self.get_study_name_from_id(study_id)  # raises where there is no such study
        return trials

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Claim or end a trial; False where it was claimed before."""
        set_state = functools.partial(super().set_trial_state_values, trial_id, state, values)
        return self.with_retry(set_state, lambda: repeat_state_change(self, set_state, trial_id, state, values))


def marked_trial(trials: Sequence[FrozenTrial], key: str, mark: str | None) -> FrozenTrial | None:
    """Return the trial whose system attribute `key` is `mark`; None where there is none, or no mark."""
    return next((trial for trial in reversed(trials) if mark and trial.system_attrs.get(key) == mark), None)


def add_retries(retrying: type, original: type) -> None:
    """Wrap each repeatable call of `original` in its child class `retrying`, whose `with_retry` retries it."""
    for name in REPEATABLE:
        if hasattr(original, name):
            setattr(retrying, name, _repeated(getattr(original, name)))


def _repeated(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.with_retry(lambda: original(self, *args, **kwargs))

    return call


def repeat_state_change(
    storage: BaseStorage,
    set_state: Callable[[], bool],
    trial_id: int,
    state: TrialState,
    values: Sequence[float] | None,
) -> bool:
    """Claim or end a trial by `set_state` where an attempt whose answer was lost may have done so."""
    try:
        return set_state()
    except UpdateFinishedTrialError:
        stored = storage.get_trial(trial_id)
        if stored.state == state and (values is None or stored.values == list(values)):
            return True
        raise


add_retries(RetryingStorage, RDBStorage)


def call_with_retry(
    call: Callable[[], _Result], timeout: float, name: str, again: Callable[[], _Result] | None = None
) -> _Result:
    """Call until no connection is lost on the way, with a growing backoff, for up to `timeout` seconds.

    Args:
        call: What to do.
        timeout: Seconds; 0 for a single attempt.
        name: Of the database, for messages.
        again: What to do after the first attempt; `call` where there is none.

    Raises:
        StoreError: The time is up.
    """
    attempts, warned = itertools.chain((call,), itertools.repeat(again or call)), False

    def attempt() -> _Result:
        return next(attempts)()

    def warn(state: RetryCallState) -> None:
        nonlocal warned
        waited, error = state.seconds_since_start or 0.0, state.outcome and state.outcome.exception()
        if waited >= _SILENT and not warned:
            _log.warning("%s: %s; trying again for %.0f s", name, error, timeout - waited)
            warned = True

    def pause(state: RetryCallState) -> float:
        return min(_BACKOFF(state), max(timeout - (state.seconds_since_start or 0.0), 0.0))

    begin, lost = time.monotonic(), retry_if_exception_type(ConnectionLost)
    retrying = Retrying(retry=lost, stop=stop_after_delay(timeout), wait=pause, before_sleep=warn, reraise=True)
    try:
        result = retrying(attempt)
    except ConnectionLost as error:
        raise StoreError(_gone(name, time.monotonic() - begin, error)) from error
    if warned:
        _log.warning("%s: back after %.0f s", name, time.monotonic() - begin)
    return result


def _gone(name: str, waited: float, error: ConnectionLost) -> str:
    tried = f", tried for {waited:.0f} s" if waited >= 1 else ""
    return f"{name}: the storage cannot be used ({error}{tried}); the same command goes on when it can"


def _as_connection_lost(context: ExceptionContext) -> ConnectionLost | None:
    """Replace what SQLAlchemy is about to raise where the same may succeed later.

    An exception of another family passes through Optuna's layer as it is, which would repeat the making of a trial
    otherwise without asking whether it stands.
    """
    error = context.original_exception
    if context.is_pre_ping or not isinstance(error, Exception):
        return None
    connecting = context.connection is None and isinstance(context.sqlalchemy_exception, OperationalError)
    passing = context.is_disconnect or _is_passing(error) or (connecting and not _is_refusal(error))
    return ConnectionLost(first_line(error)) if passing else None


def _is_passing(error: Exception) -> bool:
    state, busy = getattr(error, "sqlstate", None), getattr(error, "sqlite_errorcode", None)
    if busy is not None:
        return (busy & 0xFF) in _SQLITE_PASSING  # the higher bits tell details
    return state in _PASSING_STATES or (_code(error) in _PASSING_CODES and not _is_refusal(error))


def _is_refusal(error: Exception) -> bool:
    sqlite = getattr(error, "sqlite_errorcode", None) is not None
    return sqlite or _code(error) in _REFUSING_CODES or any(words in str(error) for words in _REFUSING_TEXTS)


def _code(error: Exception) -> Any:
    """Return MySQL's number of an error, which its drivers give as the first argument."""
    return error.args[0] if error.args else None


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _not_a_template(url: str) -> str:
    """Return `url` as Optuna, which fills braces in, leaves it."""
    return url.replace("{", "{{").replace("}", "}}")
