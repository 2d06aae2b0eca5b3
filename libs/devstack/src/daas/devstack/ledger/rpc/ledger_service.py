"""`LedgerService`: the chain's identity, epochs, objects, transactions and checkpoints by name."""

from __future__ import annotations

from typing import Any, Final

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from daas.devstack.ledger.gas import BUDGET_MAX, GAS_PRICE
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.records import checkpoint_message, object_message, package_message
from daas.devstack.ledger.rpc.base import CHAIN_NAME, SERVER, Unary, bounded, mask_for, names, not_found
from daas.devstack.ledger.store import Checkpoint
from daas.devstack.ledger.type_tags import parse_address
from daas.devstack.ledger.wire import Mask, base58, build, prune, timestamp, unbase58

PROTOCOL_VERSION: Final = 105
OBJECT_DEFAULT: Final = ("object_id", "version", "digest")
_PROTOCOL_ATTRIBUTES: Final = {
    "max_arguments": "512",
    "max_gas_payment_objects": "256",
    "max_input_objects": "2048",
    "max_move_package_size": "102400",
    "max_num_transferred_move_object_ids": "2048",
    "max_programmable_tx_commands": "1024",
    "max_pure_argument_size": "16384",
    "max_tx_gas": str(BUDGET_MAX),
    "max_tx_size_bytes": "131072",
    "max_type_arguments": "16",
}


class LedgerService:
    """Answers from the present state and the recorded past of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def methods(self) -> dict[str, Unary]:
        """Methods by path."""
        return {
            "LedgerService/GetServiceInfo": self._get_service_info,
            "LedgerService/GetEpoch": self._get_epoch,
            "LedgerService/GetObject": self._get_object,
            "LedgerService/BatchGetObjects": self._batch_get_objects,
            "LedgerService/GetTransaction": self._get_transaction,
            "LedgerService/BatchGetTransactions": self._batch_get_transactions,
            "LedgerService/GetCheckpoint": self._get_checkpoint,
        }

    def checkpoint(self, checkpoint: Checkpoint) -> bytes:
        """`Checkpoint`, whole."""
        store = self.ledger.store
        executed = store.executed(checkpoint.transaction_digest)
        assert executed is not None
        previous = store.checkpoint(checkpoint.sequence - 1)
        return checkpoint_message(checkpoint, previous.digest if previous else None, executed)

    def object(self, object_id: bytes, version: int | None, mask: Mask | None) -> bytes | None:
        """`Object` of an object or a package, pruned; None if there is none."""
        ledger = self.ledger
        package = ledger.packages.get(object_id)
        if package is not None:
            if version is not None and version != package.version:
                return None
            modules = [module for address, module in ledger.program.modules if address == object_id]
            return prune(proto.Object, package_message(package, modules), mask)
        held = ledger.object(object_id) if version is None else ledger.object_at(object_id, version)
        if held is None:
            return None
        program = ledger.program if names(mask, "json") else None
        return prune(proto.Object, object_message(held, program), mask)

    def _get_service_info(self, _request: Any) -> bytes:
        ledger = self.ledger
        return build(
            proto.GetServiceInfoResponse,
            chain_id=base58(ledger.chain),
            chain=CHAIN_NAME,
            epoch=0,
            checkpoint_height=ledger.latest.sequence,
            timestamp=timestamp(ledger.latest.timestamp_ms),
            lowest_available_checkpoint=0,
            lowest_available_checkpoint_objects=0,
            server=SERVER,
        )

    def _get_epoch(self, request: Any) -> bytes:
        if request.epoch:
            raise GRPCError(Status.NOT_FOUND, f"epoch {request.epoch} not found: the simulated ledger stays in epoch 0")
        epoch = build(
            proto.Epoch,
            epoch=0,
            first_checkpoint=0,
            start=timestamp(self.ledger.genesis_ms),
            reference_gas_price=GAS_PRICE,
            protocol_config=build(
                proto.ProtocolConfig, protocol_version=PROTOCOL_VERSION, attributes=_PROTOCOL_ATTRIBUTES
            ),
        )
        mask = mask_for(proto.Epoch, request, ("epoch", "first_checkpoint", "start", "reference_gas_price"))
        return build(proto.GetEpochResponse, epoch=prune(proto.Epoch, epoch, mask))

    def _get_object(self, request: Any) -> bytes:
        mask = mask_for(proto.Object, request, OBJECT_DEFAULT)
        found = self.object(parse_address(request.object_id or ""), request.version, mask)
        if found is None:
            where = "" if request.version is None else f" at version {request.version}"
            raise GRPCError(Status.NOT_FOUND, f"Object {request.object_id} not found{where}")
        return build(proto.GetObjectResponse, object=found)

    def _batch_get_objects(self, request: Any) -> bytes:
        bounded(len(request.requests))
        mask = mask_for(proto.Object, request, OBJECT_DEFAULT)
        results = []
        for wanted in request.requests:
            found = self.object(parse_address(wanted.object_id or ""), wanted.version, mask)
            if found is not None:
                results.append(build(proto.GetObjectResult, object=found))
            else:
                results.append(build(proto.GetObjectResult, error=not_found(f"Object {wanted.object_id} not found")))
        return build(proto.BatchGetObjectsResponse, objects=results)

    def _get_transaction(self, request: Any) -> bytes:
        mask = mask_for(proto.ExecutedTransaction, request, ("digest",))
        executed = self.ledger.store.executed(unbase58(request.digest or ""))
        if executed is None:
            raise GRPCError(Status.NOT_FOUND, f"Transaction {request.digest} not found")
        return build(proto.GetTransactionResponse, transaction=prune(proto.ExecutedTransaction, executed, mask))

    def _batch_get_transactions(self, request: Any) -> bytes:
        bounded(len(request.digests))
        mask = mask_for(proto.ExecutedTransaction, request, ("digest",))
        results = []
        for digest in request.digests:
            executed = self.ledger.store.executed(unbase58(digest))
            if executed is None:
                results.append(build(proto.GetTransactionResult, error=not_found(f"Transaction {digest} not found")))
            else:
                pruned = prune(proto.ExecutedTransaction, executed, mask)
                results.append(build(proto.GetTransactionResult, transaction=pruned))
        return build(proto.BatchGetTransactionsResponse, transactions=results)

    def _get_checkpoint(self, request: Any) -> bytes:
        store = self.ledger.store
        found: Checkpoint | None = self.ledger.latest
        if request.digest:
            found = store.checkpoint_by_digest(unbase58(request.digest))
        elif request.sequence_number is not None:
            found = store.checkpoint(request.sequence_number)
        if found is None:
            wanted = request.digest or request.sequence_number
            raise GRPCError(Status.NOT_FOUND, f"Checkpoint {wanted} not found")
        mask = mask_for(proto.Checkpoint, request, ("sequence_number", "digest"))
        return build(proto.GetCheckpointResponse, checkpoint=prune(proto.Checkpoint, self.checkpoint(found), mask))
