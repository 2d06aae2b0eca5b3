"""The gRPC side: calls in, answers or errors with their reasons out. A refusal is a gRPC error, not a healthz text."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from daas.common.errors import DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.common.logs import get_logger
from daas.kms.rpc import SERVICE
from daas.sealkeeper.kms import listener
from daas.sealkeeper.kms.metrics import KmsMetrics
from daas.sealkeeper.kms.plugin import Plugin

#: Calls that wait for a turn. gRPC's own bound is 1,000, above which it starts to cancel calls at random, and 3,000,
#: above which it cancels all: an API server that starts with thousands of distinct seeds would see them as failures.
PENDING_MAX: Final = 32_768
#: Requests are small: a ciphertext below 1 kB and annotations below 32 kB.
REQUEST_BYTES_MAX: Final = 64 * 1024
#: Answers under way get this long at a stop.
GRACE_S: Final = 2.0
_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.server.max_pending_requests", PENDING_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_MAX),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    # A path has one server: without this a second plugin would bind over the first.
    ("grpc.so_reuseport", 0),
)
_CODES: Final[tuple[tuple[type[DaasError], grpc.StatusCode], ...]] = (
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Refused, grpc.StatusCode.PERMISSION_DENIED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
)

log = get_logger("kms")

Method = Callable[[bytes], bytes]
Context = Any  # grpc.aio.ServicerContext is generic over messages, and here there are only bytes


class KmsServer:
    """Listens on a Unix socket for a plugin.

    Args:
        plugin: what answers.
        path: of the socket.
        metrics: what is counted.
    """

    def __init__(self, plugin: Plugin, path: Path, metrics: KmsMetrics) -> None:
        self._path = path
        self._metrics = metrics
        self._server: grpc.aio.Server | None = None
        methods: dict[str, Method] = {
            "Status": plugin.status, "Encrypt": plugin.encrypt, "Decrypt": plugin.decrypt,
        }  # fmt: skip
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(name, method)) for name, method in methods.items()
        }
        self._handlers = grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def start(self) -> None:
        """Listens.

        Raises:
            ConfigurationError: `kms-socket`.
        """
        listener.prepare(self._path)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self._handlers,))
        with listener.private_umask():
            server.add_insecure_port(f"unix:{self._path}")
        await server.start()
        self._server = server
        listener.check(self._path)

    async def stop(self) -> None:
        """Finishes the calls under way and removes the socket."""
        if self._server is not None:
            await self._server.stop(GRACE_S)
            self._path.unlink(missing_ok=True)

    def _handler(self, name: str, method: Method) -> Callable[[bytes, Context], Awaitable[bytes]]:
        seconds = self._metrics.seconds.labels(name)
        ok = self._metrics.calls.labels(name, "ok")

        async def handle(raw: bytes, context: Context) -> bytes:
            started = time.perf_counter()
            try:
                answer = method(raw)
            except DaasError as error:
                self._metrics.calls.labels(name, error.reason).inc()
                log.debug("call refused", method=name, error=error)
                code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
                await context.abort(code, str(error))
                raise
            except Exception:
                self._metrics.calls.labels(name, "unexpected").inc()
                self._metrics.unexpected.inc()
                log.exception("call failed", method=name)
                await context.abort(grpc.StatusCode.INTERNAL, "the plugin failed [kms-unexpected]")
                raise
            finally:
                seconds.observe(time.perf_counter() - started)
            ok.inc()
            return answer

        return handle
