"""The server of a store for workers that reach no database: Optuna's gRPC service behind a token, with a lock.

Optuna's `run_grpc_proxy_server` has no lock, by which workers propose and claim trials one at a time, makes a trial
twice where an answer is lost, and answers whoever reaches its port, as other users of a shared login node do.
"""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Final, NoReturn, Self

import grpc
from optuna.storages import get_storage

from pneumosearch.errors import PneumosearchError, StoreError
from pneumosearch.storage.auth import name_in_url, token_for, tokens_equal
from pneumosearch.storage.grpc_client import (
    KEEPALIVE,
    LOCK_METHOD,
    LOCKED,
    LONGEST_LOCK,
    PORT,
    REQUEST_MARK,
    ProxyStorage,
)
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.optuna_private import trial_id
from pneumosearch.storage.optuna_private_grpc import OptunaStorageProxyService, api_pb2, api_pb2_grpc
from pneumosearch.storage.retry import ConnectionLost, RetryingStorage, first_line, marked_trial

#: Clients that hold or wait for the lock at a time; each takes a thread.
MAX_LOCK_CALLS: Final = 256

#: Calls that use the storage at a time; further ones wait.
MAX_CALLS: Final = 4

#: Threads of a server.
THREADS: Final = MAX_LOCK_CALLS + 32

#: Bytes of a request at most; an attribute is some kB.
LARGEST_REQUEST: Final = 16 * 2**20

_MAX_RPCS: Final = 4 * THREADS
_GRACE: Final = 2.0  # seconds for running calls when the server stops


class StorageServer:
    """A running server.

    Args:
        server: Of gRPC, started.
        url: What clients give as storage.
    """

    def __init__(self, server: grpc.Server, url: str) -> None:
        self._server, self.url = server, url

    def stop(self) -> None:
        """Accept no more calls, end running ones, and release the lock."""
        self._server.stop(_GRACE).wait()

    def wait(self) -> None:
        """Wait until it is stopped."""
        self._server.wait_for_termination()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve_storage(storage: RetryingStorage | ProxyStorage, host: str = "127.0.0.1", port: int = PORT) -> StorageServer:
    """Serve a storage to `ProxyStorage` in threads of this process.

    Args:
        storage: What to serve.
        host: Address to listen at. Clients must send the token of the environment, where it has one.
        port: Port to listen at; 0 for any that is free.

    Raises:
        ConfigError: As `token_for`.
        StoreError: The port is taken.
    """
    interceptors = [_TokenCheck(token_for(host)), _CallLimit()]
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="serving")
    server = grpc.server(pool, interceptors=interceptors, options=_options(), maximum_concurrent_rpcs=_MAX_RPCS)
    api_pb2_grpc.add_StorageServiceServicer_to_server(_Service(storage), server)  # type: ignore[no-untyped-call]
    server.add_generic_rpc_handlers((_LockService(storage).handler(),))
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise StoreError(f"port {port} of {host} cannot be served; choose another --port") from error
    server.start()
    return StorageServer(server, f"grpc://{name_in_url(host)}:{bound}")


def _options() -> list[tuple[str, int]]:
    sign, answer = KEEPALIVE
    return [
        ("grpc.max_receive_message_length", LARGEST_REQUEST),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # or a second server would share the port in silence
        ("grpc.keepalive_time_ms", int(1000 * sign)),
        ("grpc.keepalive_timeout_ms", int(1000 * answer)),
        ("grpc.http2.min_ping_interval_without_data_ms", int(500 * sign)),
    ]


class _TokenCheck(grpc.ServerInterceptor):  # type: ignore[misc]  # gRPC has no types
    """Refuses every call without the token, before its request is read."""

    def __init__(self, token: str | None) -> None:
        self._wanted = None if token is None else f"Bearer {token}"

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        shown = [str(value) for key, value in details.invocation_metadata if key == "authorization"]
        if self._wanted is None or (len(shown) == 1 and tokens_equal(shown[0], self._wanted)):
            return continuation(details)
        # A stream does not wait for a request: a caller who sends none would keep a thread.
        return grpc.stream_stream_rpc_method_handler(_refuse)


def _refuse(requests: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "no or wrong token")
    raise AssertionError("abort always raises")


class _CallLimit(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets a few calls use the storage at a time, and turns an error into one line."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(MAX_CALLS)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or details.method == LOCK_METHOD:
            return handler

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with self._slots:
                try:
                    return handler.unary_unary(request, context)
                except Exception as error:
                    if context.code() is None:  # no abort, whose exception says nothing
                        _abort(context, error)
                    raise

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call; the client may retry where the database was away."""
    passing = isinstance(error, PneumosearchError | ConnectionLost)
    context.abort(grpc.StatusCode.UNAVAILABLE if passing else grpc.StatusCode.INTERNAL, first_line(error))
    raise AssertionError("abort always raises")


class _Service(OptunaStorageProxyService):
    """Optuna's service over its cache; a repeated request makes no second trial."""

    def __init__(self, storage: RetryingStorage | ProxyStorage) -> None:
        self._cached = get_storage(storage)
        super().__init__(self._cached)
        self._uncached = OptunaStorageProxyService(storage)
        self._making = threading.Lock()

    def CreateNewTrial(  # noqa: N802  the name in the protocol
        self, request: api_pb2.CreateNewTrialRequest, context: grpc.ServicerContext
    ) -> api_pb2.CreateNewTrialReply:
        """Make a trial, or find the one that an earlier attempt made."""
        with self._making:  # an attempt may still run when the next one comes
            made = self._made(request)
            if made is not None:
                return api_pb2.CreateNewTrialReply(trial_id=made)
            return super().CreateNewTrial(request, context)

    def _made(self, request: api_pb2.CreateNewTrialRequest) -> int | None:
        mark = json.loads(request.template_trial.system_attributes.get(REQUEST_MARK, "null"))
        with suppress(KeyError):  # no such study, as Optuna's service answers then
            made = marked_trial(self._cached.get_all_trials(request.study_id, deepcopy=False), REQUEST_MARK, mark)
            return None if made is None else trial_id(made)
        return None

    def SetTrialParameter(  # noqa: N802
        self, request: api_pb2.SetTrialParameterRequest, context: grpc.ServicerContext
    ) -> api_pb2.SetTrialParameterReply:
        """Set a parameter past the cache, which does not know a trial from before the server started."""
        return self._uncached.SetTrialParameter(request, context)


class _LockService:
    """The lock: one client at a time, in the order of asking, until it releases it or its connection ends.

    One line for all studies: what excludes those who use an SQLite file directly is one lock for the whole file.
    """

    def __init__(self, storage: RetryingStorage | ProxyStorage) -> None:
        self._storage = storage
        self._places = threading.BoundedSemaphore(MAX_LOCK_CALLS)
        self._turn = threading.BoundedSemaphore(1)  # unlike a `Lock`, it wakes who waits longest

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of the call."""
        service, method = LOCK_METHOD.strip("/").split("/")
        hold = grpc.unary_stream_rpc_method_handler(self.hold, json.loads)
        return grpc.method_handlers_generic_handler(service, {method: hold})

    def hold(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Wait for the lock, say that it is held, and hold it until the call ends."""
        name, patience = str(request["study"]), min(float(request["patience"]), LONGEST_LOCK)
        if not self._places.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_LOCK_CALLS} others wait for the lock")
        with ExitStack() as held:
            held.callback(self._places.release)
            if not self._turn.acquire(timeout=patience):
                text = f"study '{name}': others hold its lock since {patience:.0f} s"
                context.abort(grpc.StatusCode.ABORTED, text)
            held.callback(self._turn.release)
            ended = threading.Event()
            if context.add_callback(ended.set):  # or the client has gone while it waited
                self._hold(name, patience, context, ended)
        return iter(())

    def _hold(self, name: str, patience: float, context: grpc.ServicerContext, ended: threading.Event) -> None:
        try:
            with study_lock(self._storage, name, patience):
                context.send_initial_metadata(((LOCKED, "1"),))
                ended.wait()
        except StoreError as error:
            context.abort(grpc.StatusCode.ABORTED, str(error))
