"""The client of a pneumosearch server: Optuna's gRPC storage with a token, retries and a lock for all clients.

Optuna's own proxy, even through an SSH tunnel, lacks the lock by which workers propose and claim trials one at a time,
and gives up, or makes a trial twice, where the connection breaks. The server is in `grpc_server`. Calls are retried as
`retry` says of databases; the server knows a new trial again by its mark.
"""

import copy
import functools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from uuid import uuid4

import grpc
import optuna
from optuna.storages import GrpcStorageProxy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pneumosearch.errors import StoreError
from pneumosearch.storage.auth import FILE_VARIABLE, VARIABLE, configured_token
from pneumosearch.storage.optuna_private_grpc import GrpcClientCache, api_pb2_grpc
from pneumosearch.storage.retry import ConnectionLost, add_retries, call_with_retry, repeat_state_change

#: Port where a URL names none.
PORT: Final = 13000

#: The call that holds the lock, and the metadata by which the server says that it is held.
LOCK_METHOD: Final = "/pneumosearch.Claims/Hold"
LOCKED: Final = "pneumosearch-held"

#: System attribute by which the server knows the trial of a repeated request.
REQUEST_MARK: Final = "pneumosearch:asked"

#: Seconds after which a held lock is given to the next client in any case.
LONGEST_LOCK: Final = 600.0

#: Seconds between two pings of a silent connection, and seconds to wait for the answer.
KEEPALIVE: Final = (20.0, 10.0)

_LOCK_PATIENCE: Final = 300.0  # seconds
_LONGEST_CALL: Final = 120.0  # seconds; all trials of a study of 10,000 are read in a few
_LARGEST_ANSWER: Final = 2**30  # bytes
_RECONNECT: Final = (100, 5000)  # ms, first and longest pause

# Cancelled: by a server that stops, before it looked at the call.
_PASSING: Final = frozenset(grpc.StatusCode[name] for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"))

_Result = TypeVar("_Result")


def address(url: URL) -> tuple[str, int]:
    """Return host and port of a URL `grpc://HOST[:PORT]`. Raises `StoreError` for anything else."""
    if url.username or url.password:
        raise StoreError(f"a token does not belong into a URL; give it by ${VARIABLE} or ${FILE_VARIABLE}")
    if not url.host or url.database or url.query:
        raise StoreError(f"'{url}' names no server; wanted grpc://HOST:PORT")
    return url.host, url.port or PORT


class ProxyStorage(GrpcStorageProxy):
    """The storage behind a server of pneumosearch; each call is retried for a while where the server is away.

    Args:
        host: Of the server.
        port: Of the server.
        patience: For how long a call is retried, s.
        name: The server's URL, for messages.

    Raises:
        ConfigError: The token cannot be read.
    """

    def __init__(self, host: str, port: int, *, patience: float, name: str) -> None:
        self.patience, self.name = patience, name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(host=f"[{host}]" if ":" in host else host, port=port)

    def _setup(self) -> None:
        """Connect; called by Optuna, also where the storage is unpickled, which carries no token."""
        channel = grpc.insecure_channel(f"{self._host}:{self._port}", _options())
        self._channel = grpc.intercept_channel(channel, _Bearer(configured_token()))
        self._stub = api_pb2_grpc.StorageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._cache = GrpcClientCache(self._stub)

    def with_retry(self, call: Callable[[], _Result], again: Callable[[], _Result] | None = None) -> _Result:
        """Return what `call` returns, retried while the server is away; retries call `again` where there is one.

        Raises:
            StoreError: The server was away for longer than `patience`, or refuses.
        """
        following = None if again is None else functools.partial(self._explained, again)
        return call_with_retry(functools.partial(self._explained, call), self.patience, self.name, following)

    def wait_server_ready(self, timeout: float | None = None) -> None:
        """Wait until the server answers and takes the token. Raises `StoreError` where it does not in time."""

        def ask() -> None:
            try:
                GrpcStorageProxy.get_study_id_from_name(self, "")
            except KeyError:
                return  # the server answers: there is no such study

        call_with_retry(
            functools.partial(self._explained, ask), self.patience if timeout is None else timeout, self.name
        )

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial, exactly one, and return its id."""
        marked = copy.copy(template_trial) or optuna.trial.create_trial(state=TrialState.RUNNING)
        marked.system_attrs = {**marked.system_attrs, REQUEST_MARK: uuid4().hex}
        return self.with_retry(functools.partial(super().create_new_trial, study_id, marked))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Claim or end a trial; False where it was claimed before."""
        set_state = functools.partial(super().set_trial_state_values, trial_id, state, values)
        return self.with_retry(set_state, lambda: repeat_state_change(self, set_state, trial_id, state, values))

    def delete_study(self, study_id: int) -> None:
        """Delete a study. Raises `StoreError` where the server is away: whether it did so then is unknown."""
        delete = functools.partial(super().delete_study, study_id)
        call_with_retry(functools.partial(self._explained, delete), 0.0, self.name)

    @contextmanager
    def study_lock(self, name: str, patience: float = _LOCK_PATIENCE) -> Iterator[None]:
        """Hold a lock that excludes all other clients, and all who lock the storage itself; first come, first served.

        It is released at the end of the block, of this process, its connection or the server, and after ten minutes.

        Args:
            name: Of the study.
            patience: Seconds to wait for it.

        Raises:
            StoreError: Others held it longer than that, or the server is away.
        """
        call = self.with_retry(lambda: self._lock_call(name, patience))
        try:
            yield
        finally:
            call.cancel()

    def _lock_call(self, name: str, patience: float) -> Any:
        """Return the call that holds the lock as soon as it does; wait for others for at most that many seconds."""
        # A stream: its initial metadata arrives at once, that of a single answer only with the answer.
        hold = self._channel.unary_stream(LOCK_METHOD, request_serializer=_as_json)
        call = hold({"study": name, "patience": patience}, timeout=patience + LONGEST_LOCK)
        try:
            held = LOCKED in dict(call.initial_metadata() or ())
        except BaseException:
            call.cancel()
            raise
        if not held:
            raise call.exception() or ConnectionLost("the server let go of the lock")
        return call

    def _explained(self, call: Callable[[], _Result]) -> _Result:
        """Call; turn an error of gRPC into one line."""
        try:
            return call()
        except grpc.RpcError as error:
            code, details = error.code(), " ".join(str(error.details()).split())
            if code is grpc.StatusCode.UNAUTHENTICATED:
                raise StoreError(
                    f"{self.name}: the server refuses the token; give its own by ${VARIABLE} or ${FILE_VARIABLE}"
                ) from error
            if _may_pass(code, details):
                raise ConnectionLost(details or code.name) from error
            raise StoreError(f"{self.name}: the storage cannot be used ({details or code.name})") from error


add_retries(ProxyStorage, GrpcStorageProxy)


def _may_pass(code: grpc.StatusCode, details: str) -> bool:
    """Tell whether the same may succeed later: not a message that is too large."""
    return code in _PASSING or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than" not in details)


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _options() -> list[tuple[str, int]]:
    sign, answer = KEEPALIVE
    return [
        ("grpc.max_receive_message_length", _LARGEST_ANSWER),
        ("grpc.keepalive_time_ms", int(1000 * sign)),
        ("grpc.keepalive_timeout_ms", int(1000 * answer)),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT[0]),
        ("grpc.min_reconnect_backoff_ms", _RECONNECT[0]),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT[1]),
        ("grpc.enable_http_proxy", 0),  # it would see the token
    ]


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]  # no types
    """Adds the token to every call, and a timeout to those that have none."""

    def __init__(self, secret: str | None) -> None:
        self._metadata = () if secret is None else (("authorization", f"Bearer {secret}"),)

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Make a call, or open a stream."""
        metadata, timeout = (*(details.metadata or ()), *self._metadata), details.timeout or _LONGEST_CALL
        return continuation(details._replace(metadata=metadata, timeout=timeout), request)

    intercept_unary_stream = intercept_unary_unary
