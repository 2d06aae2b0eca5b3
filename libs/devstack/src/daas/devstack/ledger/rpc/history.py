"""`LedgerService/List*`: checkpoints, transactions and events of the past, filtered, resumable by cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto

from daas.devstack.ledger.filters import event_filter, transaction_filter
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.rpc.base import Streaming, mask_for
from daas.devstack.ledger.rpc.items import Item, Items
from daas.devstack.ledger.rpc.ledger_service import LedgerService
from daas.devstack.ledger.rpc.positions import (
    ITEM_LIMIT,
    LAST_EVENT,
    SCAN_LIMIT,
    Interval,
    Position,
    interval_of,
    watermark,
)
from daas.devstack.ledger.wire import Mask, build, prune

SCAN_CHECKPOINTS_MAX: Final = 10_000
_YIELD_EVERY: Final = 200  # checkpoints, so that a long scan does not hold up executions

Find = Callable[[int], Iterator[Item]]


class History:
    """Queries over the recorded past of one ledger."""

    def __init__(self, ledger: Ledger, ledger_service: LedgerService) -> None:
        self.ledger = ledger
        self.items = Items(ledger, ledger_service)

    def methods(self) -> dict[str, Streaming]:
        """Methods by path."""
        return {
            "LedgerService/ListCheckpoints": self._list_checkpoints,
            "LedgerService/ListTransactions": self._list_transactions,
            "LedgerService/ListEvents": self._list_events,
        }

    async def _list_checkpoints(self, stream: Any) -> None:
        request = await stream.recv_message()
        wanted = transaction_filter(request.filter)
        mask = mask_for(proto.Checkpoint, request, ("sequence_number", "digest"))
        await self._answer(stream, request, "checkpoint", mask, lambda n: self.items.checkpoints(n, wanted))

    async def _list_transactions(self, stream: Any) -> None:
        request = await stream.recv_message()
        wanted = transaction_filter(request.filter)
        mask = mask_for(proto.ExecutedTransaction, request, ("digest",))
        await self._answer(stream, request, "transaction", mask, lambda n: self.items.transactions(n, wanted))

    async def _list_events(self, stream: Any) -> None:
        request = await stream.recv_message()
        wanted = event_filter(request.filter)
        mask = mask_for(proto.Event, request, EVENT_DEFAULT)
        await self._answer(stream, request, "event", mask, lambda n: self.items.events(n, wanted))

    async def _answer(self, stream: Any, request: Any, field: str, mask: Mask | None, find: Find) -> None:
        interval = interval_of(request, self.ledger.latest.sequence)
        response = {
            "checkpoint": proto.ListCheckpointsResponse,
            "transaction": proto.ListTransactionsResponse,
            "event": proto.ListEventsResponse,
        }[field]
        message = ITEM_MESSAGES[field]
        sent = 0
        covered: int | None = None
        frontier = interval.before if interval.descending else interval.after
        for scanned, number in enumerate(_checkpoints(interval)):
            if scanned and scanned % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            if scanned == SCAN_CHECKPOINTS_MAX:
                end = build(proto.QueryEnd, reason=SCAN_LIMIT)
                await stream.send_message(build(response, watermark=watermark(frontier, covered), end=end))
                return
            found = [item for item in find(number) if interval.after < item.position < interval.before]
            for place, item in enumerate(reversed(found) if interval.descending else found):
                sent += 1
                if place == len(found) - 1:
                    covered = number
                last = sent == interval.limit
                frame = {
                    field: prune(message, item.message(), mask),
                    "watermark": watermark(item.position, covered),
                    "end": build(proto.QueryEnd, reason=ITEM_LIMIT) if last else None,
                }
                await stream.send_message(build(response, **frame))
                if last:
                    return
            covered = number
            frontier = (number, 0) if interval.descending else (number, LAST_EVENT)
        end = build(proto.QueryEnd, reason=interval.end_reason)
        await stream.send_message(build(response, watermark=watermark(_edge(interval), covered), end=end))


EVENT_DEFAULT: Final = ("event_type", "contents", "checkpoint", "transaction_digest", "event_index")
ITEM_MESSAGES: Final[dict[str, type]] = {
    "checkpoint": proto.Checkpoint,
    "transaction": proto.ExecutedTransaction,
    "event": proto.Event,
}


def _edge(interval: Interval) -> Position:
    """Where the interval ends, as a cursor that resumes with the first item beyond it."""
    if interval.descending:
        number, event = interval.after
        return (number + 1, 0) if event == LAST_EVENT else interval.after
    number, event = interval.before
    return (number - 1, LAST_EVENT) if event == 0 and number else interval.before


def _checkpoints(interval: Interval) -> Iterator[int]:
    first = interval.after[0] + (interval.after[1] == LAST_EVENT)
    last = interval.before[0] - (interval.before[1] == 0)
    numbers = range(max(first, 0), last + 1)
    return iter(reversed(numbers) if interval.descending else numbers)
