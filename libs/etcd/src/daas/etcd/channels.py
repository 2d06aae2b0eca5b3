"""Connections to the endpoints of one etcd cluster: one at a time, the next where it fails."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio

from daas.common.errors import ConfigurationError, Refused, Unavailable
from daas.etcd import rpc_pb2 as rpc
from daas.etcd.errors import TRANSIENT, from_status

R = TypeVar("R")

#: One page of evidence is bounded by the reader; this only has to hold the largest page.
MAX_RECEIVE_BYTES: Final = 32 * 1024 * 1024
#: etcd refuses pings that come faster than every 5 s.
KEEPALIVE_MS: Final = 10_000
_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A watch sends nothing. By default pings end after two, and one that measures bandwidth holds up those that keep
    # alive for a minute, so that a member that hangs was noticed after a minute or never.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
_AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"
#: Tokens that one call may use up: a change of roles can end one that was just got.
_TOKENS_MAX: Final = 3
#: Waits between rounds over all endpoints.
RETRY_FIRST_S: Final = 0.05
RETRY_LAST_S: Final = 0.5
#: A try is not given less, where there is as much: an election takes about a second.
ATTEMPT_S: Final = 1.0
#: Goes with streams: a member that has lost the others ends them, instead of keeping silent for ever.
REQUIRE_LEADER: Final = (("hasleader", "true"),)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM bytes: the CA that etcd's certificate must chain to and, for mutual TLS, our certificate and key."""

    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = None

    def __repr__(self) -> str:
        """Without the key."""
        return f"Tls(mutual={self.certificate is not None})"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of etcd's own authentication; tokens are got with them, and got anew when the server forgets one."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Without the password."""
        return f"Credentials({self.user!r})"


def _target(endpoint: str, *, tls: bool) -> str:
    url = urlsplit(endpoint)
    expected = "https" if tls else "http"
    try:
        port = url.port
    except ValueError:
        port = None
    if url.scheme != expected or not url.hostname or not port or url.path not in ("", "/"):
        raise ConfigurationError(
            f"etcd endpoint {endpoint!r} is not {expected}://HOST:PORT", reason="etcd-endpoint", field="endpoints"
        )
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{port}"


class Channels:
    """Round robin over endpoints, with a connection to each kept once made.

    Args:
        endpoints: `http://HOST:PORT`, or `https://` with `tls`.
        tls: None for plaintext.
        timeout_ms: deadline of a whole call, retries included.
        user: for servers with authentication.
    """

    def __init__(
        self, endpoints: Sequence[str], *, tls: Tls | None, timeout_ms: int, user: Credentials | None = None
    ) -> None:
        if not endpoints:
            raise ConfigurationError("no etcd endpoint is given", reason="etcd-endpoint", field="endpoints")
        self.timeout_s = timeout_ms / 1000
        self._targets = [_target(endpoint, tls=tls is not None) for endpoint in endpoints]
        self._credentials = (
            grpc.ssl_channel_credentials(tls.ca, private_key=tls.key, certificate_chain=tls.certificate)
            if tls
            else None
        )
        self._open: dict[str, grpc.aio.Channel] = {}
        self._current = 0
        self._user = user
        self._token: str | None = None
        self._authenticating = asyncio.Lock()

    @property
    def target(self) -> str:
        """The endpoint in use, for messages."""
        return self._targets[self._current]

    def rotate(self, failed: grpc.aio.Channel) -> None:
        """Go on with the next endpoint, unless another call has turned away from the one that failed already."""
        if self._open.get(self.target) is failed:
            self._current = (self._current + 1) % len(self._targets)

    def attempt_s(self, left_s: float) -> float:
        """How long one try of something repeatable may take: a member that hangs keeps its connection, so some of the
        time is left for the others.
        """
        return max(0.001, left_s if len(self._targets) == 1 else max(left_s / 2, min(left_s, ATTEMPT_S)))

    def channel(self) -> grpc.aio.Channel:
        """The channel to the endpoint in use."""
        target = self.target
        if target not in self._open:
            self._open[target] = (
                grpc.aio.secure_channel(target, self._credentials, options=_OPTIONS)
                if self._credentials
                else grpc.aio.insecure_channel(target, options=_OPTIONS)
            )
        return self._open[target]

    async def close(self) -> None:
        """Close every connection."""
        channels, self._open = list(self._open.values()), {}
        for channel in channels:
            await channel.close(None)

    async def connected(self, deadline: float) -> grpc.aio.Channel:
        """A channel that is connected, going round the endpoints until the deadline (loop time, s).

        Raises:
            Unavailable: `etcd-unreachable`.
        """
        loop = asyncio.get_running_loop()
        wait_s = RETRY_FIRST_S
        while True:
            for _ in self._targets:
                channel = self.channel()
                left_s = deadline - loop.time()
                if left_s <= 0:
                    raise Unavailable(
                        f"no etcd endpoint accepts connections ({', '.join(self._targets)})",
                        reason="etcd-unreachable",
                        field="endpoints",
                    )
                if await self._ready(channel, min(left_s, 1.0)):
                    return channel
                self.rotate(channel)
            await asyncio.sleep(max(0.0, min(wait_s, deadline - loop.time())))
            wait_s = min(wait_s * 2, RETRY_LAST_S)

    async def _ready(self, channel: grpc.aio.Channel, timeout_s: float) -> bool:
        state = channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(timeout_s):
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and len(self._targets) > 1:
                        return False
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return True

    async def metadata(self, channel: grpc.aio.Channel, deadline: float) -> tuple[tuple[str, str], ...]:
        """What goes with each call: the token, got first where there is none.

        Raises:
            Refused: `etcd-not-allowed`: the server does not know this user or password.
            grpc.aio.AioRpcError: the server is away.
        """
        if self._user is None:
            return ()
        async with self._authenticating:
            if self._token is None:
                request = rpc.AuthenticateRequest(name=self._user.user, password=self._user.password)
                stub = channel.unary_unary(
                    _AUTHENTICATE,
                    request_serializer=rpc.AuthenticateRequest.SerializeToString,
                    response_deserializer=rpc.AuthenticateResponse.FromString,
                )
                left_s = max(0.001, deadline - asyncio.get_running_loop().time())
                try:
                    answer = await stub(request, timeout=left_s)
                except grpc.aio.AioRpcError as error:
                    if error.code() in TRANSIENT:
                        raise
                    raise Refused(f"etcd Authenticate: {error.details()}", reason="etcd-not-allowed") from None
                self._token = answer.token
            return (("token", self._token),)

    def stale(self, code: grpc.StatusCode, details: str) -> bool:
        """Whether a call was refused for its token alone; then that is forgotten, and the call may be made again.

        Tokens end after some minutes, with a restart of the server, and when users or roles change.
        """
        ended = code is grpc.StatusCode.UNAUTHENTICATED or "auth store is old" in details
        if self._user is None or not ended:
            return False
        self._token = None
        return True

    async def call(
        self,
        method: str,
        request: Any,
        decode: Callable[[bytes], R],
        *,
        repeatable: bool,
        timeout_s: float | None = None,
    ) -> R:
        """One unary call with a deadline.

        Args:
            method: HTTP/2 path of the call.
            request: protobuf message.
            decode: `FromString` of the answer's message.
            repeatable: whether the call may be sent again after it may have been carried out. A write that may not is
                sent once, and only on a connection that stands.
            timeout_s: another deadline than the client's.

        Raises:
            DaasError: see `daas.etcd.errors`; `etcd-outcome-unknown` for a write whose answer was lost.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout_s or self.timeout_s)
        what = method.rpartition("/")[2]
        wait_s = RETRY_FIRST_S
        tokens = 0
        while True:
            channel = await self.connected(deadline)
            stub = channel.unary_unary(
                method, request_serializer=type(request).SerializeToString, response_deserializer=decode
            )
            try:
                metadata = await self.metadata(channel, deadline)
                left_s = max(0.001, deadline - loop.time())
                answer: R = await stub(
                    request, timeout=self.attempt_s(left_s) if repeatable else left_s, metadata=metadata
                )
            except grpc.aio.AioRpcError as error:
                code, details = error.code(), error.details() or ""
            else:
                return answer
            if tokens < _TOKENS_MAX and self.stale(code, details):
                tokens += 1  # refused at the door: nothing was carried out
                continue
            if code not in TRANSIENT:
                raise from_status(code, details, what)
            self.rotate(channel)
            if not repeatable:
                raise Unavailable(
                    f"etcd {what}: the answer was lost ({details or code.name}), it may have been carried out",
                    reason="etcd-outcome-unknown",
                )
            if loop.time() + wait_s >= deadline:
                raise from_status(code, details, what)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LAST_S)
