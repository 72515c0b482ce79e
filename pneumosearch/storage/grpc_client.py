"""A store behind a pneumosearch server: Optuna's gRPC storage with a token, TLS, patience and a lock for all clients.

The server is in `serving`. What fails for want of a connection is done again as `patience` says of databases; of a new
trial the server remembers the mark, so that an attempt that is still under way there makes none beside the next one.
"""

import copy
import functools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from uuid import uuid4

import grpc
import optuna
from optuna.storages import GrpcStorageProxy
from optuna.storages._grpc import client as optuna_client
from optuna.storages._grpc.auto_generated import api_pb2_grpc
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pneumosearch.errors import StoreError
from pneumosearch.storage.auth import FILE_VARIABLE, VARIABLE, given_token
from pneumosearch.storage.retry import ConnectionLost, persist, repeat, told_again

#: Kinds of URLs: without and with TLS.
SCHEMES: Final = ("grpc", "grpcs")

#: Port where a URL names none.
PORT: Final = 13000

#: The call that holds the lock, its two fields, and the sign by which the server says that it is held.
CLAIM: Final = "/pneumosearch.Claims/Hold"
HELD: Final = "pneumosearch-held"

#: System attribute of a trial by which its creator, through the server, finds it again.
ASKED: Final = "pneumosearch:asked"

#: Seconds after which a held lock is given to the next in line all the same.
LONGEST_HOLD: Final = 600.0

#: Seconds between two signs of life on a silent connection, and seconds to wait for the answer.
KEEPALIVE: Final = (20.0, 10.0)

_CLAIM_PATIENCE: Final = 300.0  # seconds
_LONGEST_CALL: Final = 120.0  # seconds; all trials of a study of 10,000 are read in a few
_LARGEST_ANSWER: Final = 2**30  # bytes
_RECONNECT: Final = (100, 5000)  # ms, first and longest pause

_QUERY: Final = ("certificate", "token_file")
# Cancelled: by a server that stops, before it looked at the call.
_PASSING: Final = frozenset(grpc.StatusCode[name] for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"))
_REFUSING_TEXTS: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "SSL_ERROR_SSL", "Peer name")

_Result = TypeVar("_Result")


class Address(NamedTuple):
    """Where a server is, as a URL says it."""

    host: str
    port: int
    secure: bool
    certificate: Path | None
    token_file: Path | None

    @classmethod
    def of(cls, url: URL) -> "Address":
        """Read `grpc[s]://HOST[:PORT][?certificate=FILE&token_file=FILE]`. Raises `StoreError` for anything else."""
        if url.username or url.password:
            raise StoreError(f"a token does not belong into a URL; give it by ${VARIABLE} or ${FILE_VARIABLE}")
        unknown = sorted(set(url.query) - set(_QUERY))
        if not url.host or url.database or unknown:
            raise StoreError(f"'{url}' names no server; wanted grpc://HOST:PORT or grpcs://HOST:PORT")
        certificate, token = (_path(url, key) for key in _QUERY)
        return cls(url.host, url.port or PORT, url.drivername == SCHEMES[1], certificate, token)

    @property
    def target(self) -> str:
        """Host and port, as gRPC wants them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _path(url: URL, key: str) -> Path | None:
    value = url.query.get(key)
    return Path(value) if isinstance(value, str) else None


class ProxyStorage(GrpcStorageProxy):
    """The storage behind a server of pneumosearch, each call of which is repeated for a while where that has gone away.

    Args:
        address: Where the server is.
        patience: For how long a call is repeated, s.
        name: What messages call the server: its URL.

    Raises:
        ConfigError: The token cannot be read.
        StoreError: The certificate cannot be read.
    """

    def __init__(self, address: Address, *, patience: float, name: str) -> None:
        self.address, self.patience, self.name = address, patience, name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(host=address.host, port=address.port)

    def _setup(self) -> None:
        """Connect; called by Optuna, also where the storage is unpickled, which carries no token."""
        token = given_token(self.address.token_file)
        self._channel = grpc.intercept_channel(_channel(self.address), _Bearer(token.secret if token else None))
        self._stub = api_pb2_grpc.StorageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._cache = optuna_client.GrpcClientCache(self._stub)

    def patiently(self, call: Callable[[], _Result], again: Callable[[], _Result] | None = None) -> _Result:
        """Return what `call` returns, repeated while the server is away; `again` in its place after the first time.

        Raises:
            StoreError: The server was away for longer than `patience`, or refuses.
        """
        following = None if again is None else functools.partial(self._told, again)
        return persist(functools.partial(self._told, call), self.patience, self.name, following)

    def wait_server_ready(self, timeout: float | None = None) -> None:
        """Wait until the server answers and takes the token. Raises `StoreError` where it does not in time."""

        def ask() -> None:
            try:
                GrpcStorageProxy.get_study_id_from_name(self, "")
            except KeyError:
                return  # an answer like any other

        persist(functools.partial(self._told, ask), self.patience if timeout is None else timeout, self.name)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial, exactly one, and return its id."""
        marked = copy.copy(template_trial) or optuna.trial.create_trial(state=TrialState.RUNNING)
        mark = uuid4().hex
        marked.system_attrs = {**marked.system_attrs, ASKED: mark}
        create = functools.partial(super().create_new_trial, study_id, marked)

        def again() -> int:
            trials = GrpcStorageProxy.get_all_trials(self, study_id, deepcopy=False)
            there = (trial._trial_id for trial in trials if trial.system_attrs.get(ASKED) == mark)
            return next(there, None) or create()

        return self.patiently(create, again)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Claim or end a trial; False where it was claimed before."""
        tell = functools.partial(super().set_trial_state_values, trial_id, state, values)
        return self.patiently(tell, lambda: told_again(self, tell, trial_id, state, values))

    def delete_study(self, study_id: int) -> None:
        """Delete a study. Raises `StoreError` where the server is away: whether it did so then is unknown."""
        delete = functools.partial(super().delete_study, study_id)
        persist(functools.partial(self._told, delete), 0.0, self.name)

    @contextmanager
    def claim(self, name: str, patience: float = _CLAIM_PATIENCE) -> Iterator[None]:
        """Hold a lock that excludes all other clients, and all who lock the storage itself, in order of asking.

        It ends with the block, with this process or its connection, with the server, and after ten minutes.

        Args:
            name: Of the study.
            patience: Seconds to wait for others.

        Raises:
            StoreError: Others held it longer than that, or the server is away.
        """
        call = self.patiently(lambda: self._claimed(name, patience))
        try:
            yield
        finally:
            call.cancel()

    def _claimed(self, name: str, patience: float) -> Any:
        """Return the call that holds the lock, once it does; others may hold it for so many seconds."""
        # Of a stream, whose opening is told when it comes; that of a single answer would come with the answer.
        hold = self._channel.unary_stream(CLAIM, request_serializer=_as_json)
        call = hold({"study": name, "patience": patience}, timeout=patience + LONGEST_HOLD)
        try:
            held = HELD in dict(call.initial_metadata() or ())
        except BaseException:
            call.cancel()
            raise
        if not held:
            raise call.exception() or ConnectionLost("the server let go of the lock")
        return call

    def _told(self, call: Callable[[], _Result]) -> _Result:
        """Call, and tell in one line what went wrong on the way."""
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


repeat(ProxyStorage, GrpcStorageProxy)


def _may_pass(code: grpc.StatusCode, details: str) -> bool:
    """Tell whether the same may succeed later; what is too large, or meets another certificate, will not."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "message larger than" not in details
    return code in _PASSING and not any(words in details for words in _REFUSING_TEXTS)


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _channel(address: Address) -> grpc.Channel:
    sign, answer = KEEPALIVE
    options = [
        ("grpc.max_receive_message_length", _LARGEST_ANSWER),
        ("grpc.keepalive_time_ms", int(1000 * sign)),
        ("grpc.keepalive_timeout_ms", int(1000 * answer)),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT[0]),
        ("grpc.min_reconnect_backoff_ms", _RECONNECT[0]),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT[1]),
        ("grpc.enable_http_proxy", 0),  # which would be told the token
    ]
    if not address.secure:
        return grpc.insecure_channel(address.target, options)
    try:
        roots = address.certificate.read_bytes() if address.certificate else None
    except OSError as error:
        raise StoreError(f"{address.certificate}: the certificate cannot be read ({error.strerror})") from error
    return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(roots), options)


class _Details(NamedTuple):
    """What a call is made with, as an interceptor may change it."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]  # no types
    """Adds the token to every call, and an end to those that have none."""

    def __init__(self, secret: str | None) -> None:
        self._metadata = () if secret is None else (("authorization", f"Bearer {secret}"),)

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Make a call, or open a stream."""
        metadata = (*(details.metadata or ()), *self._metadata)
        timeout = details.timeout or _LONGEST_CALL
        rest = (details.credentials, details.wait_for_ready, details.compression)
        return continuation(_Details(details.method, timeout, metadata, *rest), request)

    intercept_unary_stream = intercept_unary_unary
