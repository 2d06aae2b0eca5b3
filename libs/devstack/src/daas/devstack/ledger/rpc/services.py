"""The `sui.rpc.v2` services over one ledger: method by method, requests decoded, answers already encoded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError

from daas.common.errors import DaasError
from daas.devstack.ledger.errors import LedgerError, TransactionRefusedError
from daas.devstack.ledger.gas import GAS_PRICE
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.records import checkpoint_message, object_message, package_message
from daas.devstack.ledger.rpc.functions import function_message
from daas.devstack.ledger.rpc.requests import transaction_of
from daas.devstack.ledger.store import Checkpoint
from daas.devstack.ledger.type_tags import COIN_KEY, Datatype, format_type, parse_address, parse_type, type_tag_bytes
from daas.devstack.ledger.wire import Mask, base58, build, delimited, mask_of, prune, timestamp, unbase58

SERVER: Final = "k3s-daas simulated single-operator development ledger, without consensus"
CHAIN_NAME: Final = "simulated"
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1_000
BATCH_MAX: Final = 1_000
BALANCE_COINS_MAX: Final = 100_000
_OBJECT_DEFAULT: Final = ("object_id", "version", "digest")
_PROTOCOL_ATTRIBUTES: Final = {
    "max_arguments": "512",
    "max_gas_payment_objects": "256",
    "max_input_objects": "2048",
    "max_move_package_size": "102400",
    "max_num_transferred_move_object_ids": "2048",
    "max_programmable_tx_commands": "1024",
    "max_pure_argument_size": "16384",
    "max_tx_gas": "50000000000",
    "max_tx_size_bytes": "131072",
    "max_type_arguments": "16",
}
PROTOCOL_VERSION: Final = 105


class EncodedCodec(CodecBase):  # type: ignore[misc]  # grpclib has no types
    """Sends answers that are encoded already; decodes requests with the generated classes."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, _message_type: Any) -> bytes:
        """The bytes themselves."""
        assert isinstance(message, bytes)
        return message

    def decode(self, data: bytes, message_type: Any) -> Any:
        """A request."""
        return message_type.parse(data)


Unary = Callable[[Any], bytes]
Streaming = Callable[[Any, Callable[[bytes], Awaitable[None]]], Awaitable[None]]


def _paths(request: Any) -> Iterable[str] | None:
    return request.read_mask.paths if request.read_mask is not None else None


class Services:
    """All services of one ledger, as grpclib takes them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.failures = 0

    def __mapping__(self) -> dict[str, Handler]:
        """Handlers by method path."""
        unary: dict[str, Unary] = {
            "LedgerService/GetServiceInfo": self._get_service_info,
            "LedgerService/GetEpoch": self._get_epoch,
            "LedgerService/GetObject": self._get_object,
            "LedgerService/BatchGetObjects": self._batch_get_objects,
            "LedgerService/GetTransaction": self._get_transaction,
            "LedgerService/BatchGetTransactions": self._batch_get_transactions,
            "LedgerService/GetCheckpoint": self._get_checkpoint,
            "StateService/ListOwnedObjects": self._list_owned_objects,
            "StateService/ListDynamicFields": self._list_dynamic_fields,
            "StateService/GetBalance": self._get_balance,
            "MovePackageService/GetFunction": self._get_function,
            "TransactionExecutionService/SimulateTransaction": self._simulate_transaction,
            "TransactionExecutionService/ExecuteTransaction": self._execute_transaction,
        }
        handlers = {}
        for path, method in unary.items():
            name = path.partition("/")[2]
            request, response = getattr(proto, name + "Request"), getattr(proto, name + "Response")
            handlers["/sui.rpc.v2." + path] = Handler(self._unary(method), Cardinality.UNARY_UNARY, request, response)
        handlers["/sui.rpc.v2.SubscriptionService/SubscribeCheckpoints"] = Handler(
            self._subscribe_checkpoints,
            Cardinality.UNARY_STREAM,
            proto.SubscribeCheckpointsRequest,
            proto.SubscribeCheckpointsResponse,
        )
        return handlers

    def _unary(self, method: Unary) -> Callable[[Any], Awaitable[None]]:
        async def handle(stream: Any) -> None:
            request = await stream.recv_message()
            try:
                answer = method(request)
            except DaasError as error:
                raise GRPCError(Status.INVALID_ARGUMENT, error.message) from error
            except GRPCError:
                raise
            except Exception as error:
                self.failures += 1
                raise GRPCError(Status.INTERNAL, f"{type(error).__name__} in {method.__name__}") from error
            await stream.send_message(answer)

        return handle

    # LedgerService

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
            lowest_available_checkpoint_objects=ledger.latest.sequence,
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
        mask = mask_of(_paths(request), ("epoch", "first_checkpoint", "start", "reference_gas_price"))
        return build(proto.GetEpochResponse, epoch=prune(proto.Epoch, epoch, mask))

    def _object(self, object_id: bytes, version: int | None, mask: Mask | None) -> bytes | None:
        package = self.ledger.packages.get(object_id)
        if package is not None:
            names = [m for a, m in self.ledger.program.modules if a == object_id]
            return prune(proto.Object, package_message(package, names), mask)
        held = self.ledger.object(object_id)
        if held is None or (version is not None and held.version != version):
            return None
        return prune(proto.Object, object_message(held), mask)

    def _get_object(self, request: Any) -> bytes:
        mask = mask_of(_paths(request), _OBJECT_DEFAULT)
        found = self._object(parse_address(request.object_id or ""), request.version, mask)
        if found is None:
            where = "" if request.version is None else f" at version {request.version}"
            raise GRPCError(Status.NOT_FOUND, f"Object {request.object_id} not found{where}")
        return build(proto.GetObjectResponse, object=found)

    def _batch_get_objects(self, request: Any) -> bytes:
        _bounded(len(request.requests))
        mask = mask_of(_paths(request), _OBJECT_DEFAULT)
        results = []
        for wanted in request.requests:
            found = self._object(parse_address(wanted.object_id or ""), wanted.version, mask)
            if found is not None:
                results.append(build(proto.GetObjectResult, object=found))
            else:
                results.append(build(proto.GetObjectResult, error=_not_found(f"Object {wanted.object_id} not found")))
        return build(proto.BatchGetObjectsResponse, objects=results)

    def _get_transaction(self, request: Any) -> bytes:
        executed = self.ledger.store.executed(unbase58(request.digest or ""))
        if executed is None:
            raise GRPCError(Status.NOT_FOUND, f"Transaction {request.digest} not found")
        mask = mask_of(_paths(request), ("digest",))
        return build(proto.GetTransactionResponse, transaction=prune(proto.ExecutedTransaction, executed, mask))

    def _batch_get_transactions(self, request: Any) -> bytes:
        _bounded(len(request.digests))
        mask = mask_of(_paths(request), ("digest",))
        results = []
        for digest in request.digests:
            executed = self.ledger.store.executed(unbase58(digest))
            if executed is None:
                results.append(build(proto.GetTransactionResult, error=_not_found(f"Transaction {digest} not found")))
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
        mask = mask_of(_paths(request), ("sequence_number", "digest"))
        return build(proto.GetCheckpointResponse, checkpoint=prune(proto.Checkpoint, self._checkpoint(found), mask))

    def _checkpoint(self, checkpoint: Checkpoint) -> bytes:
        store = self.ledger.store
        executed = store.executed(checkpoint.transaction_digest)
        assert executed is not None
        previous = store.checkpoint(checkpoint.sequence - 1)
        return checkpoint_message(checkpoint, previous.digest if previous else None, executed)

    # StateService

    def _list_owned_objects(self, request: Any) -> bytes:
        size = _page_size(request.page_size)
        wanted = format_type(parse_type(request.object_type)) if request.object_type else ""
        owner = parse_address(request.owner or "")
        found = self.ledger.store.owned(owner, "address", _token(request.page_token), size + 1, wanted)
        mask = mask_of(_paths(request), (*_OBJECT_DEFAULT, "owner", "object_type"))
        return build(
            proto.ListOwnedObjectsResponse,
            objects=[prune(proto.Object, object_message(o), mask) for o in found[:size]],
            next_page_token=found[size - 1].id if len(found) > size else None,
        )

    def _list_dynamic_fields(self, request: Any) -> bytes:
        size = _page_size(request.page_size)
        parent = parse_address(request.parent or "")
        found = self.ledger.store.owned(parent, "object", _token(request.page_token), size + 1)
        mask = mask_of(_paths(request), ("kind", "parent", "field_id"))
        return build(
            proto.ListDynamicFieldsResponse,
            dynamic_fields=[
                prune(proto.DynamicField, self._dynamic_field(request.parent, o), mask) for o in found[:size]
            ],
            next_page_token=found[size - 1].id if len(found) > size else None,
        )

    def _dynamic_field(self, parent: str, held: Any) -> bytes:
        key_type, value_type = held.type.arguments
        codec = self.ledger.program.codec
        _, name, value = codec.decode(held.type, held.contents)
        is_object = isinstance(key_type, Datatype) and key_type.name == "Wrapper"
        child = self.ledger.object(value[0]) if is_object else None
        shown_type = key_type.arguments[0] if is_object else key_type
        shown_name = codec.encode(shown_type, name[0] if is_object else name)
        return build(
            proto.DynamicField,
            kind=2 if is_object else 1,
            parent=parent,
            field_id="0x" + held.id.hex(),
            field_object=object_message(held),
            name=build(proto.Bcs, name=format_type(shown_type), value=shown_name),
            value=build(proto.Bcs, name=format_type(value_type), value=codec.encode(value_type, value)),
            value_type=format_type(child.type if child else value_type),
            child_id="0x" + child.id.hex() if child else None,
            child_object=object_message(child) if child else None,
        )

    def _get_balance(self, request: Any) -> bytes:
        coin_type = parse_type(request.coin_type or "0x2::sui::SUI")
        type_tag_bytes(coin_type)  # refuses what is no concrete type
        wanted = format_type(Datatype(*COIN_KEY, (coin_type,)))
        coins = self.ledger.store.owned(parse_address(request.owner or ""), "address", b"", BALANCE_COINS_MAX, wanted)
        total = sum(coin.balance or 0 for coin in coins)
        balance = build(
            proto.Balance, coin_type=format_type(coin_type), balance=total, address_balance=0, coin_balance=total
        )
        return build(proto.GetBalanceResponse, balance=balance)

    # MovePackageService

    def _get_function(self, request: Any) -> bytes:
        package = parse_address(request.package_id or "")
        function = self.ledger.program.function(package, request.module_name or "", request.name or "")
        if function is None:
            name = f"{request.package_id}::{request.module_name}::{request.name}"
            raise GRPCError(Status.NOT_FOUND, f"Function {name} not found")
        return build(proto.GetFunctionResponse, function=function_message(function))

    # TransactionExecutionService

    def _execute_transaction(self, request: Any) -> bytes:
        if request.transaction is None or request.transaction.bcs is None or not request.transaction.bcs.value:
            raise TransactionRefusedError("expected the transaction's BCS", field="transaction.bcs")
        signatures = [s.bcs.value for s in request.signatures if s.bcs is not None and s.bcs.value]
        if len(signatures) != len(request.signatures):
            raise TransactionRefusedError("expected each signature's bytes in its bcs", field="signatures")
        executed = self.ledger.execute(request.transaction.bcs.value, signatures)
        mask = mask_of(_paths(request), ("effects.status", "checkpoint"))
        return build(proto.ExecuteTransactionResponse, transaction=prune(proto.ExecutedTransaction, executed, mask))

    def _simulate_transaction(self, request: Any) -> bytes:
        transaction = transaction_of(request.transaction, self.ledger.object)
        simulation = self.ledger.simulate(transaction, checked=int(request.checks or 0) == 0)
        response = build(
            proto.SimulateTransactionResponse,
            transaction=simulation.executed,
            command_outputs=[
                build(
                    proto.CommandResult,
                    return_values=[
                        build(proto.CommandOutput, value=build(proto.Bcs, name=name, value=value))
                        for name, value in results
                    ],
                )
                for results in simulation.outputs
            ],
            suggested_gas_price=GAS_PRICE,
        )
        return prune(proto.SimulateTransactionResponse, response, mask_of(_paths(request), ("*",)))

    # SubscriptionService

    async def _subscribe_checkpoints(self, stream: Any) -> None:
        request = await stream.recv_message()
        if request.filter is not None:
            raise GRPCError(Status.INVALID_ARGUMENT, "filters are not supported by the simulated ledger")
        try:
            mask = mask_of(_paths(request), ("sequence_number", "digest"))
            prune(proto.Checkpoint, b"", mask)
        except LedgerError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, error.message) from error
        queue = self.ledger.subscribe()
        try:
            # Headers at once: a client that waits for them would otherwise see nothing before the first checkpoint.
            await stream.send_initial_metadata()
            while self.ledger.is_subscribed(queue) or not queue.empty():
                checkpoint = await queue.get()
                message = prune(proto.Checkpoint, self._checkpoint(checkpoint), mask)
                await stream.send_message(
                    build(proto.SubscribeCheckpointsResponse, cursor=checkpoint.sequence, checkpoint=message)
                )
        finally:
            self.ledger.unsubscribe(queue)
        raise GRPCError(Status.RESOURCE_EXHAUSTED, "the subscriber was too slow: resume with GetCheckpoint")


def _not_found(message: str) -> bytes:
    return b"\x08" + bytes((Status.NOT_FOUND.value,)) + delimited(2, message.encode())


def _bounded(count: int) -> None:
    if count > BATCH_MAX:
        raise TransactionRefusedError(f"expected at most {BATCH_MAX} entries, got {count}", field="requests")


def _page_size(wanted: int | None) -> int:
    return min(wanted or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _token(token: bytes | None) -> bytes:
    if token and len(token) != 32:
        raise TransactionRefusedError("expected a page token that this server gave out", field="page_token")
    return token or b""
