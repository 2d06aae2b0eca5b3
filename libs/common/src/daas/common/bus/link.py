"""The connection under the bus: opened with patience, watched, reopened, and closed in order."""

import asyncio
import base64
import contextlib
import random
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import nats.errors
from faststream.nats import NatsBroker
from faststream.security import BaseSecurity
from nats.aio.client import Client
from nats.js import JetStreamContext

from daas.common.bus.failures import translated
from daas.common.errors import ConfigurationError, Refused, Unavailable
from daas.common.logs import get_logger
from daas.common.metrics import BusMetrics
from daas.common.nats_config import inbox_prefix
from daas.common.settings import BusSettings
from daas.common.subjects import MAX_PAYLOAD_BYTES, Service

_RECONNECT_S: Final = (0.05, 0.5)
_CLOSE_S: Final = 10.0
#: A server that is gone without a word is noticed after three of them; the client's own would take three minutes.
_PING_S: Final = 10
_DENIED: Final = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"")
#: A service uses a handful of subjects; this bounds what a server can make us remember.
_MAX_DENIED: Final = 256

log = get_logger("bus")


class NKeyClient(Client):
    """The client, signing in with an NKey by our own codec: the package `nkeys`, which it would import, has no
    wheel and brings a second library of cryptography. It never goes on without reading.
    """

    def _setup_nkeys_seed_connect(self) -> None:
        from daas.common.nkeys import nkey_public, nkey_secret  # noqa: PLC0415 - only where an NKey is used

        assert self._nkeys_seed is not None, "connect was told the file"
        seed = Path(self._nkeys_seed).read_text(encoding="ascii").strip()
        key = nkey_secret(seed)
        self._public_nkey = nkey_public(seed)
        self._signature_cb = lambda nonce: base64.b64encode(key.sign(nonce.encode()))

    async def _process_pong(self) -> None:
        """The client's, that a pong for somebody who waits no more would end: it sets a result that nobody wants."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _read_loop(self) -> None:
        """The client's; where it gives up a connection that it holds for good, that one is made again."""
        task = asyncio.current_task()
        await super()._read_loop()
        if self.is_connected and task is not None and not task.cancelling():
            await self._process_op_err(nats.errors.UnexpectedEOF())


class _Broker(NatsBroker):
    """FastStream's broker, closing the socket of an attempt to connect that failed: the client would leave it open."""

    #: With the seed of the NKey to sign in with.
    nkey_file: str | None = None

    async def _connect(self) -> Client:
        client = NKeyClient()
        try:
            await client.connect(**self._connection_kwargs | {"nkeys_seed": self.nkey_file})
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong first is what counts
                await client.close()
            raise
        self.config.connect(client)
        return client


class Link:
    """One NATS connection held by FastStream's broker.

    Args:
        service: who connects.
        settings: where to.
        metrics: what to count on; a registry of its own by default.

    Attributes:
        closed_for_good: set when the server has ended the connection in a way that reconnecting can't mend.
        denied: what the server has refused since the last connection: subject in lower case to sentence.
    """

    def __init__(self, service: Service, settings: BusSettings, metrics: BusMetrics | None = None) -> None:
        self.service = service
        self.settings = settings
        self.metrics = metrics if metrics is not None else BusMetrics()
        self.closed_for_good = asyncio.Event()
        self.denied: dict[str, str] = {}
        self._broker: NatsBroker | None = None
        self._connected = asyncio.Event()
        self._on_reconnect: set[Callable[[], None]] = set()
        self._last_error: str | None = None
        self._closing = False
        #: How long running handlers may take to finish at a stop, in seconds.
        self.stop_timeout_s: float = getattr(settings, "stop_timeout_s", 15.0)

    async def open(self) -> None:
        """Connects, waiting for the server with backoff; see `connect` for what it raises."""
        low, high = _RECONNECT_S
        nkey_file = _nkey_file(self.settings)
        broker = _Broker(
            self.settings.nats_urls,
            name=f"daas-{self.service.value}",
            inbox_prefix=inbox_prefix(self.service),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=5,
            ping_interval=_PING_S,
            pending_size=4 * MAX_PAYLOAD_BYTES,
            reconnect_to_server_handler=lambda servers, _info: (servers[0], random.uniform(low, high)),  # noqa: S311 - jitter
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
            security=_security(self.settings),
            logger=None,
            apply_types=False,
            graceful_timeout=None,
        )
        broker.nkey_file = nkey_file
        connecting = asyncio.ensure_future(broker.connect())
        deadline = time.monotonic() + self.settings.nats_start_timeout_s
        try:
            while not (await asyncio.wait({connecting}, timeout=0.1))[0]:
                if "authorization" in (self._last_error or "").lower():
                    break
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"no NATS server at {self._where} within {self.settings.nats_start_timeout_s} s: "
                        f"{self._last_error or 'no answer'}",
                        reason="nats-unreachable",
                    )
            if connecting.done() and connecting.exception() is None:
                self._broker = broker
            else:
                cause = connecting.exception() if connecting.done() else None
                raise Refused(
                    f"NATS at {self._where} does not accept {self.service.value}: {cause or self._last_error}",
                    reason="nats-authorization",
                )
        finally:
            if self._broker is None:
                connecting.cancel()
                await asyncio.wait({connecting})
        self._set_connected(up=True)

    @property
    def _where(self) -> str:
        return ", ".join(url.rpartition("@")[2] for url in self.settings.nats_urls)

    @property
    def broker(self) -> NatsBroker:
        """FastStream's broker."""
        if self._broker is None:
            raise Unavailable("the bus is not connected", reason="nats-disconnected")
        return self._broker

    @property
    def client(self) -> Client:
        """The NATS connection, for the modules of this package."""
        client: Client = self.broker.config.connection_state.connection
        return client

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream on that connection, for the modules of this package."""
        stream: JetStreamContext = self.broker.config.connection_state.stream
        return stream

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Registers what to do after each reconnection; returns what removes it again."""
        self._on_reconnect.add(call)
        return lambda: self._on_reconnect.discard(call)

    async def check(self) -> None:
        """Whether the server answers and lets us work.

        Raises:
            Unavailable: `nats-disconnected`, `nats-timeout`.
            Refused: `nats-permissions`: since the last reconnection it refused something we need.
        """
        if self._broker is None or not self._connected.is_set():
            raise Unavailable(
                f"not connected to NATS at {self._where}: {self._last_error or 'connecting'}",
                reason="nats-disconnected",
            )
        if self.denied:
            raise Refused(f"NATS refused: {'; '.join(sorted(self.denied.values())[:3])}", reason="nats-permissions")
        with translated(f"NATS at {self._where}"):
            await self.client.flush(2)

    async def wait_connected(self, timeout_s: float) -> None:
        """Waits until there is a connection.

        Raises:
            Unavailable: `nats-disconnected`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            raise Unavailable(f"not connected to NATS at {self._where}", reason="nats-disconnected") from None

    async def _on_error(self, error: Exception) -> None:
        """Errors that reach nobody else: attempts to connect, and what the server refuses."""
        self._last_error = f"{type(error).__name__}: {error}"
        match = _DENIED.search(str(error).lower())
        if match is None:
            log.debug("nats error", error=error)
            return
        self.metrics.permission_errors.inc()
        if len(self.denied) < _MAX_DENIED:
            self.denied[match[2]] = f"{match[1]} to {match[2]}"
        log.error("nats refused", what=match[1], subject=match[2])

    async def _on_disconnected(self) -> None:
        self._set_connected(up=False)
        if not self._closing:
            log.warning("nats disconnected", servers=self._where)

    async def _on_reconnected(self) -> None:
        self.metrics.reconnects.inc()
        self.denied.clear()
        self._set_connected(up=True)
        log.info("nats reconnected", servers=self._where)
        for call in tuple(self._on_reconnect):
            call()

    async def _on_closed(self) -> None:
        self._set_connected(up=False)
        if not self._closing:
            log.error("nats closed the connection", reason=self._last_error)
            self.closed_for_good.set()

    def _set_connected(self, *, up: bool) -> None:
        self.metrics.connected.set(int(up))
        if up:
            self._connected.set()
        else:
            self._connected.clear()

    async def close(self) -> None:
        """Stops subscribers, sends what is buffered, and closes. Bounded; a server that is away is not waited for."""
        broker, self._broker = self._broker, None
        if broker is None or self._closing:
            return
        self._closing = True
        client = broker.config.connection_state.connection
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            async with asyncio.timeout(_CLOSE_S):
                if client.is_connected:
                    await broker.stop()
        if not client.is_closed:
            await client.close()
        self._set_connected(up=False)


def _security(settings: BusSettings) -> BaseSecurity | None:
    """How to authenticate, from the settings.

    Raises:
        ConfigurationError: `nats-credentials` for a seed or certificate file that can't be used.
    """
    from faststream.nats import NatsSecurity, NatsUserPassword  # noqa: PLC0415 - only where it is used

    context: ssl.SSLContext | None = None
    options: dict[str, Any] = {}
    try:
        if settings.nats_ca_file is not None:
            context = ssl.create_default_context(cafile=str(settings.nats_ca_file))
        elif any(url.startswith("tls://") for url in settings.nats_urls):
            context = ssl.create_default_context()
        if context is not None:
            options = {
                "ssl_context": context,
                "tls_handshake_first": settings.nats_tls_first,
                "tls_hostname": settings.nats_tls_name,
            }
        if settings.nats_user is not None and settings.nats_password is not None:
            return NatsUserPassword(settings.nats_user, settings.nats_password.get_secret_value(), **options)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"the NATS credentials can't be used: {type(error).__name__}: {error}", reason="nats-credentials"
        ) from None
    return NatsSecurity(**options) if options else None


def _nkey_file(settings: BusSettings) -> str | None:
    """The file with an NKey's seed, looked at once so that a wrong one is told by name.

    Raises:
        ConfigurationError: `nats-credentials`, `nkey-seed`.
    """
    if settings.nats_nkey_file is None:
        return None
    try:
        from daas.common.nkeys import nkey_public  # noqa: PLC0415 - only where an NKey is used

        nkey_public(settings.nats_nkey_file.read_text(encoding="ascii").strip())
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"the NATS credentials can't be used: {type(error).__name__}: {error}", reason="nats-credentials"
        ) from None
    return str(settings.nats_nkey_file)
