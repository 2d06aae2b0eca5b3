"""A full node that misbehaves: a proxy which drops, delays, repeats, denies, lags and cuts streams."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

PREFIX = "/sui.rpc.v2."
READS = (
    "LedgerService/GetServiceInfo",
    "LedgerService/GetEpoch",
    "LedgerService/GetObject",
    "LedgerService/BatchGetObjects",
    "LedgerService/GetTransaction",
    "LedgerService/BatchGetTransactions",
    "LedgerService/GetCheckpoint",
    "StateService/ListOwnedObjects",
    "StateService/ListDynamicFields",
    "StateService/GetBalance",
    "MovePackageService/GetFunction",
    "MovePackageService/GetPackage",
    "TransactionExecutionService/SimulateTransaction",
)
EXECUTE = "TransactionExecutionService/ExecuteTransaction"
SUBSCRIBE = "SubscriptionService/SubscribeCheckpoints"
GET_TRANSACTION = "LedgerService/GetTransaction"
#: Answers that a node which lags may give: what it said before to the same question.
LAGGING = frozenset({"LedgerService/GetObject", "StateService/ListOwnedObjects", "StateService/GetBalance"})
AWAY = (
    Status.UNAVAILABLE,
    Status.INTERNAL,
    Status.DEADLINE_EXCEEDED,
    Status.ABORTED,
    Status.RESOURCE_EXHAUSTED,
    Status.UNKNOWN,
)


class Bytes(CodecBase):  # type: ignore[misc] # grpclib has no types
    """Passes messages on as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, _message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, _message_type: Any) -> bytes:
        return data


@dataclass(frozen=True)
class Faults:
    """How often which fault happens, as probabilities for each call.

    Attributes:
        drop: the call never reaches the node.
        lose: the node does it, the answer is lost.
        delay, delay_s: the answer takes up to so long.
        repeat: the node gets the call twice.
        deny: a transaction that exists is not found; a checkpoint that exists is not there yet.
        lag: an object or balance is shown as it was.
        reset: all connections of the client are cut.
        stream_s: streams are cut after at most so long; None: never.
        stream_lose: an announcement is left out, or comes twice.
    """

    drop: float = 0.0
    lose: float = 0.0
    delay: float = 0.0
    delay_s: float = 0.05
    repeat: float = 0.0
    deny: float = 0.0
    lag: float = 0.0
    reset: float = 0.0
    stream_s: float | None = None
    stream_lose: float = 0.0


@dataclass
class FullNode:
    """The proxy, as an async context manager.

    Attributes:
        upstream: URL of the good node.
        faults: may be changed at any time; `Faults()` behaves.
        away: nobody is answered.
        done: how often each fault has happened.
    """

    upstream: str
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    away: bool = False
    done: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._answers: dict[tuple[str, bytes], list[bytes]] = {}
        parts = urlsplit(self.upstream)
        self._channel = Channel(parts.hostname, parts.port, codec=Bytes())
        self._server = Server([self], codec=Bytes())
        await self._server.start("127.0.0.1", 0)
        self.port: int = self._server._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        await self._server.wait_closed()
        self._channel.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cuts every connection."""
        for handler in list(self._server._handlers):
            handler.close()

    def __mapping__(self) -> dict[str, Handler]:
        handlers = {
            PREFIX + name: Handler(self._unary(name), Cardinality.UNARY_UNARY, bytes, bytes)
            for name in (*READS, EXECUTE)
        }
        handlers[PREFIX + SUBSCRIBE] = Handler(self._subscribe, Cardinality.UNARY_STREAM, bytes, bytes)
        return handlers

    def _happens(self, fault: str, probability: float) -> bool:
        happens = self._random.random() < probability
        self.done[fault] += happens
        return happens

    def _fail(self) -> GRPCError:
        return GRPCError(self._random.choice(AWAY), "the proxy says so")

    def _unary(self, name: str) -> Any:
        async def handle(stream: "Stream[bytes, bytes]") -> None:
            request = await stream.recv_message()
            assert request is not None
            await stream.send_message(await self._answer(name, request))

        return handle

    async def _answer(self, name: str, request: bytes) -> bytes:
        self.calls[name] += 1
        faults = self.faults
        if self.away:
            raise GRPCError(Status.UNAVAILABLE, "the proxy is away")
        if self._happens("reset", faults.reset):
            asyncio.get_running_loop().call_soon(self.cut)
        if self._happens("drop", faults.drop):
            raise self._fail()
        if name == GET_TRANSACTION and self._happens("deny", faults.deny):
            raise GRPCError(Status.NOT_FOUND, "Transaction not found")
        if name == "LedgerService/GetCheckpoint" and self._happens("deny-checkpoint", faults.deny):
            raise GRPCError(Status.NOT_FOUND, "Checkpoint not found")
        if name in LAGGING:
            earlier = self._answers.setdefault((name, request), [])
            if earlier and self._happens("lag", faults.lag):
                return self._random.choice(earlier)
        answer = await self._forward(name, request)
        if self._happens("repeat", faults.repeat):
            repeated = await self._forward(name, request)
            if name == EXECUTE:
                assert repeated == answer, "the same bytes have the same effects"
        if name in LAGGING:
            earlier.append(answer)
            del earlier[:-5]
        if self._happens("delay", faults.delay):
            await asyncio.sleep(self._random.uniform(0, faults.delay_s))
        if self._happens("lose", faults.lose):
            raise self._fail()
        return answer

    async def _forward(self, name: str, request: bytes) -> bytes:
        answer: bytes = await UnaryUnaryMethod(self._channel, PREFIX + name, bytes, bytes)(request, timeout=10)
        return answer

    async def _subscribe(self, stream: "Stream[bytes, bytes]") -> None:
        request = await stream.recv_message()
        if self.away:
            raise GRPCError(Status.UNAVAILABLE, "the proxy is away")
        await stream.send_initial_metadata()
        limit_s = self.faults.stream_s and self._random.uniform(0, self.faults.stream_s)
        try:
            async with asyncio.timeout(limit_s):
                method = UnaryStreamMethod(self._channel, PREFIX + SUBSCRIBE, bytes, bytes)
                async with method.open() as upstream:
                    await upstream.send_message(request, end=True)
                    async for message in upstream:
                        for _copy in range(self._random.choice((0, 2)) if self._cheats() else 1):
                            await stream.send_message(message)
        except TimeoutError:
            self.done["cut"] += 1
            raise GRPCError(Status.CANCELLED, "RST_STREAM after a while, as public nodes do") from None

    def _cheats(self) -> bool:
        return self._happens("stream-lose", self.faults.stream_lose)
