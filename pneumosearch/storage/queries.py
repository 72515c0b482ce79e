"""The trials of a study by plain SQL, as Optuna's own storage gives them.

Optuna makes an object of SQLAlchemy of each row: at 10,000 trials seconds and hundreds of megabytes, for every process
that joins a study. The tables are those of Optuna's RDB storage since version 3; a test compares the two readings.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Mapping
from functools import cache, lru_cache
from typing import Any, Final

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from pydantic_core import from_json
from sqlalchemy import DateTime, Engine, Row, Select, bindparam, column, or_, select, table

from pneumosearch._utils.collector import paused_collector
from pneumosearch.records.attributes import DATA, VERSIONS

_TIMES: Final = (column("datetime_start", DateTime), column("datetime_complete", DateTime))
_TRIALS: Final = table("trials", *map(column, ("study_id", "trial_id", "number", "state")), *_TIMES)
_WANTED: Final = (_TRIALS.c.study_id == bindparam("study")) & or_(
    _TRIALS.c.trial_id > bindparam("after"), _TRIALS.c.trial_id.in_(bindparam("also", expanding=True))
)


def _details(name: str, *columns: str) -> Select[Any]:
    """Return the query for another table: of each row the trial's identifier, a key, and what else is stored."""
    details = table(name, column("trial_id"), *map(column, columns))
    return select(details).join(_TRIALS, details.c.trial_id == _TRIALS.c.trial_id).where(_WANTED)


_ALL: Final = select(_TRIALS).where(_WANTED).order_by(_TRIALS.c.trial_id)
_VALUES: Final = _details("trial_values", "objective", "value", "value_type")
_STEPS: Final = _details("trial_intermediate_values", "step", "intermediate_value", "intermediate_value_type")
_USER: Final = _details("trial_user_attributes", "key", "value_json")
_SYSTEM: Final = _details("trial_system_attributes", "key", "value_json")
_PARAMETERS: Final = _details("trial_params", "param_name", "param_value", "distribution_json").order_by(
    column("param_id")  # as they were chosen
)

_NOT_FINITE: Final = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
_OFTEN_EQUAL: Final = (DATA.key, VERSIONS.key)

#: Rows of one of the other tables: {identifier of the trial: {key: what is stored}}.
_Details = dict[int, dict[Any, Any]]
_KINDS: Final = ("values", "user", "system", "steps", "parameters")


def read_trials(
    engine: Engine,
    study_id: int,
    *,
    states: Container[TrialState] | None = None,
    after: int = -1,
    also: Collection[int] = (),
    results_only: bool = False,
) -> list[FrozenTrial]:
    """Return trials of a study in the order in which they were made; none where there is no such study.

    Trials share distributions, descriptions of data and versions that are equal: do not change them.

    Args:
        engine: Of the database.
        study_id: Of the study.
        states: Only trials in one of these; in any, if None.
        after: Only trials with identifiers greater than this.
        also: Identifiers of further trials of the study.
        results_only: Leave out parameters, intermediate values and system attributes, which no report looks at.
    """
    wanted = {"study": study_id, "after": after, "also": list(also)}
    with paused_collector(), engine.connect() as connection:
        rows = connection.execute(_ALL, wanted).all()  # first, as one that has ended by now has all that follows
        if not rows:
            return []

        def read(query: Select[Any], decoded: Callable[..., Any]) -> _Details:
            found: _Details = defaultdict(dict)
            for trial_id, key, *stored in connection.execute(query, wanted):
                found[trial_id][key] = decoded(key, *stored)
            return found

        shared = cache(_json)  # all trials of a study have the same data, and most the same versions
        details = {
            "values": read(_VALUES, _number),
            "user": read(_USER, lambda key, text: shared(text) if key in _OFTEN_EQUAL else _json(text)),
        }
        if not results_only:
            details["system"] = read(_SYSTEM, lambda _, text: _json(text))
            details["steps"], details["parameters"] = read(_STEPS, _number), read(_PARAMETERS, _parameter)
        return [_trial(row, details) for row in rows if states is None or TrialState[row.state] in states]


def _trial(row: Row[Any], details: Mapping[str, _Details]) -> FrozenTrial:
    """Return the trial of a row and of what the other tables have on it."""
    values, user, system, steps, parameters = (
        details[kind][row.trial_id] if kind in details else {} for kind in _KINDS
    )
    return FrozenTrial(
        number=row.number,
        state=TrialState[row.state],
        value=None,
        values=[value for _, value in sorted(values.items())] or None,
        datetime_start=row.datetime_start,
        datetime_complete=row.datetime_complete,
        params={name: value for name, (value, _) in parameters.items()},
        distributions={name: distribution for name, (_, distribution) in parameters.items()},
        user_attrs=user,
        system_attrs=system,
        intermediate_values=steps,
        trial_id=row.trial_id,
    )


def _number(_: int, value: float | None, kind: str) -> float:
    return value if value is not None else _NOT_FINITE[kind]


def _parameter(_: str, value: float, distribution: str) -> tuple[Any, BaseDistribution]:
    found = _distribution(distribution)
    return found.to_external_repr(value), found


_distribution: Final = lru_cache(maxsize=1000)(json_to_distribution)


def _json(text: str) -> Any:
    try:
        return from_json(text)  # three times as fast as `json`
    except ValueError:
        return json.loads(text)  # which takes a name of a file that is no UTF-8
