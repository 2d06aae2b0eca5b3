"""`SubscriptionService`: checkpoints, transactions and events from now on, filtered, with cursors to resume from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from daas.devstack.ledger.filters import event_filter, transaction_filter
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.rpc.base import Streaming, mask_for
from daas.devstack.ledger.rpc.history import EVENT_DEFAULT, ITEM_MESSAGES
from daas.devstack.ledger.rpc.items import Item, Items
from daas.devstack.ledger.rpc.ledger_service import LedgerService
from daas.devstack.ledger.rpc.positions import LAST_EVENT, watermark
from daas.devstack.ledger.wire import Mask, build, prune


class Subscriptions:
    """Streams of what is committed; one that is not read in time ends with RESOURCE_EXHAUSTED."""

    def __init__(self, ledger: Ledger, ledger_service: LedgerService) -> None:
        self.ledger = ledger
        self.items = Items(ledger, ledger_service)

    def methods(self) -> dict[str, Streaming]:
        """Methods by path."""
        return {
            "SubscriptionService/SubscribeCheckpoints": self._checkpoints,
            "SubscriptionService/SubscribeTransactions": self._transactions,
            "SubscriptionService/SubscribeEvents": self._events,
        }

    async def _checkpoints(self, stream: Any) -> None:
        request = await stream.recv_message()
        wanted = transaction_filter(request.filter)
        mask = mask_for(proto.Checkpoint, request, ("sequence_number", "digest"))

        def frames(number: int) -> Iterator[bytes]:
            for item in self.items.checkpoints(number, wanted):
                message = prune(proto.Checkpoint, item.message(), mask)
                yield build(proto.SubscribeCheckpointsResponse, cursor=number, checkpoint=message)

        await self._follow(stream, frames)

    async def _transactions(self, stream: Any) -> None:
        request = await stream.recv_message()
        wanted = transaction_filter(request.filter)
        mask = mask_for(proto.ExecutedTransaction, request, ("digest",))
        await self._follow(stream, lambda n: _frames("transaction", mask, n, list(self.items.transactions(n, wanted))))

    async def _events(self, stream: Any) -> None:
        request = await stream.recv_message()
        wanted = event_filter(request.filter)
        mask = mask_for(proto.Event, request, EVENT_DEFAULT)
        await self._follow(stream, lambda n: _frames("event", mask, n, list(self.items.events(n, wanted))))

    async def _follow(self, stream: Any, frames: Callable[[int], Iterator[bytes]]) -> None:
        queue = self.ledger.subscribe()
        try:
            # Headers at once: a client that waits for them would otherwise see nothing before the first checkpoint.
            await stream.send_initial_metadata()
            while self.ledger.is_subscribed(queue) or not queue.empty():
                checkpoint = await queue.get()
                for frame in frames(checkpoint.sequence):
                    await stream.send_message(frame)
        finally:
            self.ledger.unsubscribe(queue)
        raise GRPCError(Status.RESOURCE_EXHAUSTED, "the subscriber was too slow: resume with a List request")


def _frames(field: str, mask: Mask | None, number: int, found: list[Item]) -> Iterator[bytes]:
    """One frame an item; where nothing matches, one that only says how far the stream has come."""
    response = proto.SubscribeEventsResponse if field == "event" else proto.SubscribeTransactionsResponse
    if not found:
        yield build(response, watermark=watermark((number, LAST_EVENT), number))
    for place, item in enumerate(found):
        covered = number if place == len(found) - 1 else number - 1
        message = prune(ITEM_MESSAGES[field], item.message(), mask)
        yield build(response, **{field: message, "watermark": watermark(item.position, covered)})
