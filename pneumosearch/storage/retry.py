"""Optuna's storage in a database that may go away for a while: what fails for want of a connection is done again.

Every call of Optuna's storage is one transaction. One that fails before its commit is sent has left nothing; of one
that fails at its commit, nobody can tell from here whether it stands. So each call is repeated in a way that is right
in both cases:

- Reading, attributes, parameters, intermediate values, heartbeats: the same again has the same effect as once.
- A new trial carries a mark, and is looked for by it before another is made. `create_new_study` meets the study that
  the first attempt made, as `create_study(load_if_exists=True)` expects.
- The end of a trial: one that stands already, with the same state and values, was told by the first attempt.
- Claiming a waiting trial: whether the first attempt or another worker claimed it cannot be known, so the answer is
  no. Nothing is trained twice; a trial claimed by nobody is taken over like one whose worker died.
- `delete_study` is not repeated.
"""

import functools
import json
import logging
import random
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError

from pneumosearch.errors import StoreError

#: System attribute of a trial by which its creator finds it again.
MARK: Final = "pneumosearch:created"

#: Calls that have the same effect twice as once. Those of Optuna's cache, some of which are private, are among them.
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
    "_get_trials",
    "_get_best_trial_id",
    "record_heartbeat",
    "_get_stale_trial_ids",
)

_FIRST_WAIT: Final = 0.1  # seconds; each further one is twice as long
_LONGEST_WAIT: Final = 5.0
_SILENT: Final = 2.0  # seconds of waiting that nobody need know of: a deadlock resolved, a lock released

# PostgreSQL: serialization, deadlock, shutdown, crash, starting up, no more connections.
_PASSING_STATES: Final = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "53300"})
# MySQL: a row changed since it was read (MariaDB 11.6 and later), no more connections, shutdown, lock wait, deadlock,
# killed, no connection, gone, lost.
_PASSING_CODES: Final = frozenset({1020, 1040, 1053, 1205, 1213, 1927, 2003, 2006, 2013})
_SQLITE_PASSING: Final = frozenset({5, 6})  # busy, locked
# What a server, or the lack of one of that name, answers to every further attempt as well. Other answers are taken for
# passing ones: a connection refused, a server that starts.
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


class PatientStorage(RDBStorage):
    """Optuna's RDB storage, each call of which is repeated for a while where the database has gone away.

    Args:
        url: An SQLAlchemy URL.
        patience: For how long a call is repeated, s.
        name: What messages call the database: its URL without the password.
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
        weakref.finalize(self, engine.dispose)  # or the connections would stay until the server misses them
        self.__dict__["engine"] = engine

    def patiently(self, call: Callable[[], _Result], again: Callable[[], _Result] | None = None) -> _Result:
        """Return what `call` returns, repeated while the connection is lost; `again` in its place after the first time.

        Raises:
            StoreError: The database was gone for longer than `patience`.
        """
        return persist(call, self.patience, self.name, again)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial, exactly one, and return its id."""
        return self._create_new_trial(study_id, template_trial)._trial_id

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        create = super()._create_new_trial
        if self.engine.dialect.name == "sqlite":  # which answers itself: what fails there has left nothing
            return self.patiently(lambda: create(study_id, template_trial))
        marked = template_trial or optuna.trial.create_trial(state=TrialState.RUNNING)
        marked.system_attrs = {**marked.system_attrs, MARK: uuid4().hex}

        def again() -> FrozenTrial:
            return self._created(study_id, marked.system_attrs[MARK]) or create(study_id, marked)

        return self.patiently(lambda: create(study_id, marked), again)

    def _created(self, study_id: int, mark: str) -> FrozenTrial | None:
        """Return the trial with this mark, once the attempt to make it has ended either way: it locks the study."""
        with self.engine.begin() as connection:
            connection.execute(
                text("SELECT study_id FROM studies WHERE study_id = :study FOR UPDATE"), {"study": study_id}
            )
            found = connection.execute(
                text(
                    "SELECT trials.trial_id FROM trials JOIN trial_system_attributes AS marks "
                    "ON marks.trial_id = trials.trial_id "
                    "WHERE study_id = :study AND marks.key = :key AND marks.value_json = :mark"
                ),
                {"study": study_id, "key": MARK, "mark": json.dumps(mark)},
            ).scalar()
        return None if found is None else super().get_trial(found)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Claim or end a trial; False where it was claimed before."""
        tell = functools.partial(super().set_trial_state_values, trial_id, state, values)
        return self.patiently(tell, lambda: told_again(self, tell, trial_id, state, values))


def repeat(patient: type, original: type) -> None:
    """Let the calls of the class `original` that bear it be repeated in its child `patient`, by `patient.patiently`."""
    for name in REPEATABLE:
        if hasattr(original, name):
            setattr(patient, name, _repeated(getattr(original, name)))


def _repeated(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.patiently(lambda: original(self, *args, **kwargs))

    return call


def told_again(
    storage: BaseStorage, tell: Callable[[], bool], trial_id: int, state: TrialState, values: Sequence[float] | None
) -> bool:
    """Claim or end a trial by `tell` where an attempt whose answer was lost may have done so."""
    try:
        return tell()
    except UpdateFinishedTrialError:
        stored = storage.get_trial(trial_id)
        if stored.state == state and (values is None or stored.values == list(values)):
            return True
        raise


repeat(PatientStorage, RDBStorage)


def persist(
    call: Callable[[], _Result], patience: float, name: str, again: Callable[[], _Result] | None = None
) -> _Result:
    """Call until no connection is lost on the way, with growing pauses, for `patience` seconds from the first call on.

    Args:
        call: What to do.
        patience: Seconds; 0 for a single attempt.
        name: Of the database, for messages.
        again: What to do after the first attempt; `call` where there is none.

    Raises:
        StoreError: The time is up.
    """
    begin, pause, told = time.monotonic(), _FIRST_WAIT, False
    while True:
        try:
            result = call()
        except ConnectionLost as error:
            waited = time.monotonic() - begin
            if waited >= patience:
                raise StoreError(_gone(name, waited, error)) from error
            if waited >= _SILENT and not told:
                _log.warning("%s: %s; trying again for %.0f s", name, error, patience - waited)
                told = True
            time.sleep(min(pause * random.uniform(0.5, 1.0), patience - waited))  # noqa: S311  no secret
            call, pause = again or call, min(2 * pause, _LONGEST_WAIT)
        else:
            if told:
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
