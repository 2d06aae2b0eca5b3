"""The checkpoints, transactions and events that queries and subscriptions deliver, with their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto

from daas.devstack.ledger.filters import Predicate
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.rpc.ledger_service import LedgerService
from daas.devstack.ledger.rpc.positions import Position
from daas.devstack.ledger.store import Checkpoint
from daas.devstack.ledger.wire import base58, build, parts


class Item(msgspec.Struct, frozen=True):
    """One item with its place; its message is encoded when it is asked for."""

    position: Position
    message: Callable[[], bytes]


class Items:
    """Finds the items of a checkpoint that match a filter."""

    def __init__(self, ledger: Ledger, ledger_service: LedgerService) -> None:
        self._store = ledger.store
        self._service = ledger_service

    def _checkpoint(self, number: int) -> Checkpoint:
        found = self._store.checkpoint(number)
        assert found is not None, f"checkpoint {number} is recorded"
        return found

    def checkpoints(self, number: int, wanted: Predicate) -> Iterator[Item]:
        """The checkpoint, if its transaction matches."""
        checkpoint = self._checkpoint(number)
        if wanted(self._store.facts(checkpoint.transaction_digest), None):
            yield Item((number, 0), lambda: self._service.checkpoint(checkpoint))

    def transactions(self, number: int, wanted: Predicate) -> Iterator[Item]:
        """The checkpoint's transaction, if it matches."""
        checkpoint = self._checkpoint(number)
        if wanted(self._store.facts(checkpoint.transaction_digest), None):
            yield Item((number, 0), lambda: self._executed(checkpoint))

    def events(self, number: int, wanted: Predicate) -> Iterator[Item]:
        """The checkpoint's events that match."""
        checkpoint = self._checkpoint(number)
        facts = self._store.facts(checkpoint.transaction_digest)
        matching = [index for index, event in enumerate(facts.events) if wanted(facts, event)]
        if not matching:
            return
        (events,) = parts(proto.ExecutedTransaction, self._executed(checkpoint), "events")
        encoded = list(parts(proto.TransactionEvents, events, "events"))
        for index in matching:
            place = build(
                proto.Event,
                checkpoint=number,
                transaction_digest=base58(checkpoint.transaction_digest),
                transaction_index=0,
                event_index=index,
            )
            message = encoded[index] + place
            yield Item((number, index), lambda message=message: message)  # type: ignore[misc]  # bound per turn

    def _executed(self, checkpoint: Checkpoint) -> bytes:
        executed = self._store.executed(checkpoint.transaction_digest)
        assert executed is not None, "a checkpoint's transaction is recorded with it"
        return executed
