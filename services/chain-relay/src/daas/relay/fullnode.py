"""Checkpoints and balances from full nodes: what following the ledger needs of `sui.rpc.v2`.

A full node is believed about what is in a checkpoint, since its events carry no proof of their own; but each checkpoint
must be the one that its digest says, and must name its predecessor: a node on another chain or fork is noticed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from daas.common import merkle
from daas.common.bcs import Reader
from daas.common.errors import ConfigurationError, DecodeError, InvalidInput
from daas.ledger import Event, RpcUnavailable
from daas.ledger.address import format_digest
from daas.ledger.events import decode_event

T = TypeVar("T")

#: pysui's generated messages as the ledger library imports them: without the rest of pysui.
_generated = import_module("daas.ledger._pysui")
rpc, FieldMask = _generated.rpc, _generated.FieldMask

_CHECKPOINT_FIELDS: Final = [
    "sequence_number",
    "digest",
    "summary.bcs",
    "transactions.digest",
    "transactions.events",
]
_NODE_ERRORS: Final = (GRPCError, OSError, StreamTerminatedError, ProtocolError, TimeoutError)
#: A node whose streams are silent for this long is asked instead: checkpoints come several times a second.
_SILENCE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class CheckpointTransaction:
    """A transaction of a checkpoint: digest (base58) and typed events; failed ones have none."""

    digest: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as a node shows it; digests are base58, `previous_digest` is None for the first one."""

    sequence: int
    digest: str
    previous_digest: str | None
    timestamp_ms: int
    transactions: tuple[CheckpointTransaction, ...]


class FullNodes:
    """One or several full nodes; what one can't answer the next one is asked.

    Args:
        urls: `http[s]://host[:port]`, separated by commas.
        package: address of our package, whose events are decoded.
        timeout_ms: deadline of each call.

    Raises:
        ConfigurationError: `ledger-url`.
    """

    def __init__(self, urls: str, package: str, *, timeout_ms: int = 10_000) -> None:
        self.urls = split_urls(urls)
        self._package = package
        self._timeout_s = timeout_ms / 1000
        self._channels = [_channel(url) for url in self.urls]
        self._first = 0

    def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            channel.close()

    async def latest(self) -> int:
        """Sequence number of the newest checkpoint, by the first node that answers.

        Raises:
            RpcUnavailable: none answers.
        """
        request = rpc.GetCheckpointRequest(read_mask=FieldMask(paths=["sequence_number"]))
        answer = await self._ask(
            lambda channel: rpc.LedgerServiceStub(channel).get_checkpoint(request, timeout=self._timeout_s)
        )
        return int(answer.checkpoint.sequence_number or 0) if answer.checkpoint else 0

    async def checkpoint(self, sequence: int) -> Checkpoint | None:
        """A checkpoint; None where no node that answers has it (yet).

        Raises:
            RpcUnavailable: no node answers.
            DecodeError: `checkpoint`: the answer contradicts itself.
        """
        request = rpc.GetCheckpointRequest(sequence_number=sequence, read_mask=FieldMask(paths=_CHECKPOINT_FIELDS))

        async def get(channel: Channel) -> Checkpoint | None:
            try:
                answer = await rpc.LedgerServiceStub(channel).get_checkpoint(request, timeout=self._timeout_s)
            except GRPCError as error:
                if error.status is Status.NOT_FOUND:
                    return None
                raise
            found = self._decode(answer.checkpoint)
            if found.sequence != sequence:
                raise DecodeError(f"asked for checkpoint {sequence}, got {found.sequence}", reason="checkpoint")
            return found

        return await self._ask(get, until=lambda found: found is not None)

    async def balance_mist(self, owner: str) -> int:
        """What an address has in SUI, in coins and as address balance.

        Raises:
            RpcUnavailable: no node answers.
        """
        request = rpc.GetBalanceRequest(owner=owner, coin_type="0x2::sui::SUI")
        answer = await self._ask(
            lambda channel: rpc.StateServiceStub(channel).get_balance(request, timeout=self._timeout_s)
        )
        return int(answer.balance.balance or 0) if answer.balance else 0

    async def announcements(self) -> AsyncIterator[int]:
        """Sequence numbers of new checkpoints, as one node announces them: a hint to look, never all there is.

        Raises:
            RpcUnavailable: the node ended the stream, or has been silent for too long; the next call asks the next.
        """
        index = self._first
        request = rpc.SubscribeCheckpointsRequest(read_mask=FieldMask(paths=["sequence_number"]))
        stream = rpc.SubscriptionServiceStub(self._channels[index]).subscribe_checkpoints(request)
        try:
            while True:
                try:
                    async with asyncio.timeout(_SILENCE_S):
                        answer = await anext(stream, None)
                except _NODE_ERRORS as error:
                    raise self._unavailable(index, error) from None
                if answer is None:
                    raise RpcUnavailable(
                        f"{self.urls[index]} ended its stream", reason="stream-ended", status="UNAVAILABLE"
                    )
                yield int(answer.cursor or 0)
        finally:
            self._next(index)
            await stream.aclose()

    async def _ask(
        self, call: Callable[[Channel], Awaitable[T]], *, until: Callable[[T], bool] = lambda _answer: True
    ) -> T:
        """Asks the nodes in turn until an answer satisfies; the last answer otherwise."""
        answers: list[T] = []
        failure: RpcUnavailable | None = None
        for index in self._turns():
            try:
                answer = await call(self._channels[index])
            except _NODE_ERRORS as error:
                failure = self._unavailable(index, error)
                self._next(index)
                continue
            if until(answer):
                return answer
            answers.append(answer)
        if answers:
            return answers[-1]
        assert failure is not None
        raise failure

    def _turns(self) -> list[int]:
        count = len(self._channels)
        return [(self._first + offset) % count for offset in range(count)]

    def _next(self, failed: int) -> None:
        if failed == self._first:
            self._first = (failed + 1) % len(self._channels)

    def _unavailable(self, index: int, error: Exception) -> RpcUnavailable:
        text = f"{error.status.name}: {error.message}" if isinstance(error, GRPCError) else type(error).__name__
        return RpcUnavailable(f"{self.urls[index]}: {text}", reason="node-unavailable", status="UNAVAILABLE")

    def _decode(self, checkpoint: Any) -> Checkpoint:
        """Reads number, predecessor and time from the summary's own bytes.

        Raises:
            DecodeError: `checkpoint` where there is no summary, or it has another digest.
        """
        if checkpoint is None or checkpoint.summary is None or checkpoint.summary.bcs is None:
            raise DecodeError("the node shows a checkpoint without its summary", reason="checkpoint")
        summary = bytes(checkpoint.summary.bcs.value or b"")
        digest = format_digest(merkle.digest(b"CheckpointSummary::" + summary))
        if digest != checkpoint.digest:
            raise DecodeError(
                f"checkpoint {checkpoint.sequence_number}: its summary has digest {digest}, not {checkpoint.digest}",
                reason="checkpoint",
            )
        reader = Reader(summary)
        reader.u64()  # epoch
        sequence = reader.u64()
        reader.u64()  # transactions so far
        reader.bytes_()  # digest of the contents
        previous = reader.option(reader.bytes_)
        for _gas_cost in range(4):
            reader.u64()
        return Checkpoint(
            sequence=sequence,
            digest=digest,
            previous_digest=None if previous is None else format_digest(previous),
            timestamp_ms=reader.u64(),
            transactions=tuple(self._transaction(transaction) for transaction in checkpoint.transactions),
        )

    def _transaction(self, transaction: Any) -> CheckpointTransaction:
        events = transaction.events.events if transaction.events else ()
        return CheckpointTransaction(
            digest=transaction.digest or "",
            events=tuple(
                decode_event(
                    event.event_type or "", bytes(event.contents.value or b"") if event.contents else b"", self._package
                )
                for event in events
            ),
        )


def split_urls(urls: str) -> list[str]:
    """The nodes of a comma-separated setting.

    Raises:
        ConfigurationError: `ledger-url`: there is none.
    """
    found = [url.strip() for url in urls.split(",") if url.strip()]
    if not found:
        raise ConfigurationError("no full node is named", reason="ledger-url", field="relay_ledger_url")
    return found


def _channel(url: str) -> Channel:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput(f"not a URL: {url!r}", reason="ledger-url") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.path not in {"", "/"}:
        raise ConfigurationError(f"expected http[s]://host[:port], not {url!r}", reason="ledger-url")
    context: ssl.SSLContext | None = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
    return Channel(parts.hostname, port or (443 if context else 80), ssl=context)
