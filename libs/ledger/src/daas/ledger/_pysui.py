"""The full node's gRPC interface `sui.rpc.v2`, in the messages of pysui.

pysui's generated messages and stubs are used on a channel of our own: its client class speaks TLS only, keeps a
configuration folder in the home directory and needs five to six calls for each transaction that we know how to build.
Nothing imports this module before a connection is asked for.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from daas.common.errors import ConfigurationError, DecodeError
from daas.ledger._messages import FieldMask, rpc
from daas.ledger.address import normal_address, parse_digest
from daas.ledger.checkpoints import Checkpoint, decode_checkpoint, decode_events
from daas.ledger.errors import ExecutionError, MoveAbortError, RpcError, RpcRefused, RpcUnavailable, StaleObject
from daas.ledger.event import Event
from daas.ledger.models import (
    Balance,
    Effects,
    Epoch,
    LedgerObject,
    ObjectChange,
    ObjectReference,
    SignedTransaction,
)
from daas.ledger.package import Lineage, abort_name

T = TypeVar("T")

#: After these the same request may succeed; of a transaction the fate is unknown.
_RETRYABLE = {
    Status.CANCELLED,
    Status.UNKNOWN,
    Status.DEADLINE_EXCEEDED,
    Status.RESOURCE_EXHAUSTED,
    Status.ABORTED,
    Status.INTERNAL,
    Status.UNAVAILABLE,
}
#: How full nodes word it when what a transaction was built on is no longer so: the version of an owned object, the
#: epochs in which it may run, the price, or what pays for it.
_STALE = (
    "for consumption",
    "needs to be rebuilt",
    "ransaction expired",
    "ransaction Expired",
    "under reference gas price",
    "lower than the needed amount",
    "Invalid withdraw reservation",
)
_OBJECT_FIELDS = ["object_id", "version", "digest", "owner", "object_type", "contents", "balance"]
_TRANSACTION_FIELDS = ["digest", "effects", "events", "checkpoint", "timestamp"]
_CHECKPOINT_FIELDS = [
    "sequence_number",
    "digest",
    "summary.bcs",
    "transactions.digest",
    "transactions.effects.status",
    "transactions.events",
]
_FIELD_OBJECT_FIELDS = [f"field_object.{name}" for name in _OBJECT_FIELDS]
_PAGE_SIZE = 100
#: A node ends a filtered query of the past after so many checkpoints; this many such answers are read.
_MAX_QUERIES = 100
#: Items of one answer, and what the node says in between about how far it has come.
_MAX_ANSWERS = 10_000
_SUI_TYPE = "0x2::sui::SUI"
_NODE_TEXT_CHARACTERS = 400


class FullNode:
    """One full node behind one channel that reconnects by itself.

    Args:
        url: `http://host:port` for plaintext, `https://host[:port]` for TLS with the system's certificates.
        timeout_ms: deadline of each call.

    Raises:
        ConfigurationError: `ledger-url`.
    """

    def __init__(self, url: str, timeout_ms: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.path not in {"", "/"}:
            raise ConfigurationError(f"expected http[s]://host[:port], not {url!r}", reason="ledger-url")
        context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.set_alpn_protocols(["h2"])
        port = parts.port or (443 if context else 80)
        self.url = url
        self.calls = 0
        self._timeout_s = timeout_ms / 1000
        self._channel = Channel(parts.hostname, port, ssl=context)
        self._ledger = rpc.LedgerServiceStub(self._channel)
        self._state = rpc.StateServiceStub(self._channel)
        self._execution = rpc.TransactionExecutionServiceStub(self._channel)
        self._packages = rpc.MovePackageServiceStub(self._channel)
        self._subscriptions = rpc.SubscriptionServiceStub(self._channel)

    def close(self) -> None:
        """Closes the connection; calls that wait for an answer fail as unavailable."""
        self._channel.close()

    async def chain_digest(self) -> bytes:
        """Digest of the chain's genesis checkpoint, 32 bytes."""
        answer = await self._call(self._ledger.get_service_info, rpc.GetServiceInfoRequest())
        return parse_digest(answer.chain_id or "")

    async def state_ms(self) -> int:
        """Time of the newest checkpoint that the node has executed, ms since the epoch."""
        answer = await self._call(self._ledger.get_service_info, rpc.GetServiceInfoRequest())
        return round(answer.timestamp.timestamp() * 1000) if answer.timestamp else 0

    async def epoch(self) -> Epoch:
        """The current epoch."""
        request = rpc.GetEpochRequest(read_mask=FieldMask(paths=["epoch", "reference_gas_price"]))
        answer = await self._call(self._ledger.get_epoch, request)
        if answer.epoch is None:
            raise DecodeError("the node's answer has no epoch", reason="node-answer")
        return Epoch(number=int(answer.epoch.epoch or 0), gas_price=int(answer.epoch.reference_gas_price or 0))

    async def lineage(self, package: str) -> Lineage | None:
        """A package with its first version and the versions that its types are named by; None where there is none."""
        try:
            answer = await self._call(self._packages.get_package, rpc.GetPackageRequest(package_id=package))
        except RpcRefused as error:
            if error.status == Status.NOT_FOUND.name:
                return None
            raise
        if answer.package is None:
            raise DecodeError("the node's answer has no package", reason="node-answer")
        return Lineage(
            current=normal_address(package),
            original=normal_address(answer.package.original_id or ""),
            types=frozenset(normal_address(origin.package_id or "") for origin in answer.package.type_origins),
        )

    async def object(self, object_id: str) -> LedgerObject | None:
        """The object at its current version; None where there is none."""
        request = rpc.GetObjectRequest(object_id=object_id, read_mask=FieldMask(paths=_OBJECT_FIELDS))
        try:
            answer = await self._call(self._ledger.get_object, request)
        except RpcRefused as error:
            if error.status == Status.NOT_FOUND.name:
                return None
            raise
        return _object(answer.object) if answer.object else None

    async def owned(self, owner: str, object_type: str, limit: int) -> list[LedgerObject]:
        """At most `limit` objects of one type (full form, with type arguments) that an address owns."""
        found: list[LedgerObject] = []
        token: bytes | None = None
        while len(found) < limit:
            request = rpc.ListOwnedObjectsRequest(
                owner=owner,
                object_type=object_type,
                page_size=min(_PAGE_SIZE, limit - len(found)),
                page_token=token,
                read_mask=FieldMask(paths=_OBJECT_FIELDS),
            )
            answer = await self._call(self._state.list_owned_objects, request)
            found.extend(_object(item) for item in answer.objects[: limit - len(found)])
            token = answer.next_page_token
            if not token or not answer.objects:
                break
        return found

    async def field_objects(self, parent: str, limit: int) -> list[LedgerObject]:
        """At most `limit` dynamic fields of an object, as the objects that hold them."""
        found: list[LedgerObject] = []
        token: bytes | None = None
        while len(found) < limit:
            request = rpc.ListDynamicFieldsRequest(
                parent=parent,
                page_size=min(_PAGE_SIZE, limit - len(found)),
                page_token=token,
                read_mask=FieldMask(paths=_FIELD_OBJECT_FIELDS),
            )
            answer = await self._call(self._state.list_dynamic_fields, request)
            page = [field.field_object for field in answer.dynamic_fields if field.field_object is not None]
            found.extend(_object(item) for item in page[: limit - len(found)])
            token = answer.next_page_token
            if not token or not page:
                break
        return found

    async def balance(self, owner: str) -> Balance:
        """What an address has, MIST, in coins and as address balance."""
        request = rpc.GetBalanceRequest(owner=owner, coin_type=_SUI_TYPE)
        answer = await self._call(self._state.get_balance, request)
        found = answer.balance
        if found is None:
            return Balance(total=0, without_coins=0)
        return Balance(total=int(found.balance or 0), without_coins=int(found.address_balance or 0))

    async def latest_checkpoint(self) -> int:
        """Sequence number of the newest checkpoint."""
        request = rpc.GetCheckpointRequest(read_mask=FieldMask(paths=["sequence_number"]))
        answer = await self._call(self._ledger.get_checkpoint, request)
        return int(answer.checkpoint.sequence_number or 0) if answer.checkpoint else 0

    async def checkpoint(self, sequence: int, package: Lineage | None) -> Checkpoint | None:
        """A checkpoint; None where the node does not have it (yet)."""
        request = rpc.GetCheckpointRequest(sequence_number=sequence, read_mask=FieldMask(paths=_CHECKPOINT_FIELDS))
        try:
            answer = await self._call(self._ledger.get_checkpoint, request)
        except RpcRefused as error:
            if error.status == Status.NOT_FOUND.name:
                return None
            raise
        found = decode_checkpoint(answer.checkpoint, package)
        if found.sequence != sequence:
            raise DecodeError(f"asked for checkpoint {sequence}, the node shows {found.sequence}", reason="node-answer")
        return found

    async def subscribe_checkpoints(
        self, package: Lineage | None, silence_s: float
    ) -> AsyncGenerator[Checkpoint, None]:
        """Checkpoints as they come, for as long as the node keeps the stream open.

        Raises:
            RpcUnavailable: the node ended the stream, or said nothing for `silence_s`.
            DecodeError: `node-answer`, as of `checkpoint`.
        """
        self.calls += 1
        request = rpc.SubscribeCheckpointsRequest(read_mask=FieldMask(paths=_CHECKPOINT_FIELDS))
        stream = self._subscriptions.subscribe_checkpoints(request)
        try:
            while True:
                with self._translated("subscribe_checkpoints", silence_s):
                    async with asyncio.timeout(silence_s):
                        answer = await anext(stream, None)
                if answer is None:
                    raise RpcUnavailable(f"{self.url} ended its stream", reason="stream-ended", status="UNAVAILABLE")
                yield decode_checkpoint(answer.checkpoint, package)
        finally:
            await stream.aclose()

    async def newest_events(self, event_type: str, limit: int, package: Lineage | None) -> tuple[Event, ...]:
        """At most `limit` events of one type, newest first.

        Raises:
            RpcRefused: `past-bound`: the node did not get to the beginning in as many answers as are read.
        """
        wanted = rpc.EventFilter(
            terms=[rpc.EventTerm(literals=[rpc.EventLiteral(event_type=rpc.EventTypeFilter(event_type=event_type))])]
        )
        found: list[Event] = []
        before: bytes | None = None
        for _ in range(_MAX_QUERIES):
            request = rpc.ListEventsRequest(
                filter=wanted,
                read_mask=FieldMask(paths=["event_type", "contents"]),
                options=rpc.QueryOptions(
                    limit=min(_PAGE_SIZE, limit - len(found)), before=before, ordering=rpc.Ordering.DESCENDING
                ),
            )
            answers = await self._call(self._event_answers, request)
            found.extend(decode_events([answer.event for answer in answers if answer.event is not None], package))
            last = answers[-1] if answers else None
            if last is None or last.end is None:
                raise DecodeError("the node's list of events has no end", reason="node-answer")
            more = last.end.reason in {rpc.QueryEndReason.ITEM_LIMIT, rpc.QueryEndReason.SCAN_LIMIT}
            before = last.watermark.cursor if last.watermark else None
            if len(found) >= limit or not more or not before:
                return tuple(found)
        raise RpcRefused(
            f"{self.url} list_events: not at the beginning after {_MAX_QUERIES} answers",
            reason="past-bound",
            status="OUT_OF_RANGE",
        )

    async def _event_answers(self, request: Any, *, timeout: float) -> list[Any]:  # noqa: ASYNC109 - as the stubs'
        answers: list[Any] = []
        async for answer in self._ledger.list_events(request, timeout=timeout):
            answers.append(answer)
            if len(answers) > _MAX_ANSWERS:
                raise DecodeError(f"the node answers with more than {_MAX_ANSWERS} parts", reason="node-answer")
        return answers

    async def execute(self, transaction: SignedTransaction, package: Lineage | None) -> Effects:
        """Sends the transaction and waits for its effects, which are final."""
        request = rpc.ExecuteTransactionRequest(
            transaction=rpc.Transaction(bcs=rpc.Bcs(value=transaction.data)),
            signatures=[rpc.UserSignature(bcs=rpc.Bcs(value=signature)) for signature in transaction.signatures],
            read_mask=FieldMask(paths=_TRANSACTION_FIELDS),
        )
        answer = await self._call(self._execution.execute_transaction, request)
        effects = _effects(answer.transaction, package)
        if effects.digest != transaction.digest:
            raise DecodeError(
                f"sent transaction {transaction.digest}, the node answers for {effects.digest}", reason="node-answer"
            )
        return effects

    async def transaction(self, digest: str, package: Lineage | None) -> Effects | None:
        """A transaction that was executed; None where the node knows of none."""
        request = rpc.GetTransactionRequest(digest=digest, read_mask=FieldMask(paths=_TRANSACTION_FIELDS))
        try:
            answer = await self._call(self._ledger.get_transaction, request)
        except RpcRefused as error:
            if error.status == Status.NOT_FOUND.name:
                return None
            raise
        return _effects(answer.transaction, package) if answer.transaction else None

    async def view(self, transaction: bytes, package: Lineage | None) -> Sequence[bytes]:
        """Runs a transaction without committing it: the BCS of what its last command returns.

        Raises:
            ExecutionError: it failed.
        """
        request = rpc.SimulateTransactionRequest(
            transaction=rpc.Transaction(bcs=rpc.Bcs(value=transaction)),
            checks=rpc.SimulateTransactionRequestTransactionChecks.DISABLED,
            read_mask=FieldMask(paths=["transaction.effects.status", "command_outputs"]),
        )
        answer = await self._call(self._execution.simulate_transaction, request)
        status = answer.transaction.effects.status if answer.transaction and answer.transaction.effects else None
        failure = _failure(status, package)
        if failure is not None:
            raise failure
        if not answer.command_outputs:
            raise DecodeError("the node simulated the transaction without showing its results", reason="node-answer")
        return [bytes(output.value.value or b"") for output in answer.command_outputs[-1].return_values]

    async def _call(self, method: Callable[..., Awaitable[T]], request: Any) -> T:
        """One call with the deadline; every failure becomes one of our errors."""
        self.calls += 1
        with self._translated(getattr(method, "__name__", "call"), self._timeout_s):
            return await method(request, timeout=self._timeout_s)

    @contextmanager
    def _translated(self, name: str, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except GRPCError as error:
            raise _rpc_error(name, error) from None
        except TimeoutError:
            raise RpcUnavailable(
                f"{self.url} {name}: no answer in {timeout_s:g} s", reason="node-timeout", status="DEADLINE_EXCEEDED"
            ) from None
        except (OSError, StreamTerminatedError, ProtocolError) as error:
            raise RpcUnavailable(
                f"{self.url} {name}: {type(error).__name__}: {error}", reason="node-unavailable", status="UNAVAILABLE"
            ) from None


def _rpc_error(name: str, error: GRPCError) -> RpcError:
    text = (error.message or "")[:_NODE_TEXT_CHARACTERS]
    message = f"{name}: {error.status.name}: {text}"
    if any(words in text for words in _STALE):
        return StaleObject(message, reason="stale-object", status=error.status.name)
    if error.status in _RETRYABLE:
        return RpcUnavailable(message, reason="node-unavailable", status=error.status.name)
    return RpcRefused(message, reason="node-refused", status=error.status.name)


def _object(item: rpc.Object) -> LedgerObject:
    shared = item.owner is not None and item.owner.kind == rpc.OwnerOwnerKind.SHARED
    return LedgerObject(
        reference=ObjectReference(normal_address(item.object_id or ""), int(item.version or 0), item.digest or ""),
        object_type=item.object_type or "",
        shared_version=int(item.owner.version or 0) if shared else None,
        contents=bytes(item.contents.value or b"") if item.contents else b"",
        balance=int(item.balance or 0),
    )


def _effects(transaction: rpc.ExecutedTransaction | None, package: Lineage | None) -> Effects:
    if transaction is None or transaction.effects is None or transaction.effects.status is None:
        raise DecodeError("the node's answer has no effects", reason="node-answer")
    effects = transaction.effects
    changes = tuple(_change(change) for change in effects.changed_objects)
    # The transaction that publishes our package is the one whose own events can't name it beforehand.
    failure = _failure(effects.status, package)
    used = effects.gas_used
    result = Effects(
        digest=transaction.digest or effects.transaction_digest or "",
        failure=failure,
        events=decode_events(transaction.events.events if transaction.events else (), package),
        changes=changes,
        checkpoint=transaction.checkpoint,
        timestamp_ms=round(transaction.timestamp.timestamp() * 1000) if transaction.timestamp else None,
        gas_mist=int(used.computation_cost or 0) + int(used.storage_cost or 0) - int(used.storage_rebate or 0)
        if used
        else 0,
    )
    if failure is not None:
        failure.effects = result
    return result


def _change(change: rpc.ChangedObject) -> ObjectChange:
    object_id = normal_address(change.object_id or "")
    written = change.output_state in {
        rpc.ChangedObjectOutputObjectState.OBJECT_WRITE,
        rpc.ChangedObjectOutputObjectState.PACKAGE_WRITE,
    }
    owner = change.output_owner
    is_package = change.output_state == rpc.ChangedObjectOutputObjectState.PACKAGE_WRITE
    return ObjectChange(
        object_id=object_id,
        object_type="package" if is_package else change.object_type or "",
        created=change.id_operation == rpc.ChangedObjectIdOperation.CREATED,
        reference=ObjectReference(object_id, int(change.output_version or 0), change.output_digest or "")
        if written
        else None,
        shared_version=int(owner.version or 0) if owner and owner.kind == rpc.OwnerOwnerKind.SHARED else None,
    )


def _failure(status: rpc.ExecutionStatus | None, package: Lineage | None) -> ExecutionError | None:
    if status is None or status.success:
        return None
    error = status.error
    if error is None:
        return ExecutionError("the transaction failed; the node does not say why", reason="execution-failed")
    kind = error.kind.name if error.kind is not None and error.kind.name else "UNKNOWN"
    if error.abort is not None and error.kind == rpc.ExecutionErrorExecutionErrorKind.MOVE_ABORT:
        location = error.abort.location
        code = int(error.abort.abort_code or 0)
        module = (location.module if location else None) or "unknown"
        name = abort_name(package, (location.package if location else None) or "", module, code)
        return MoveAbortError(
            module=module,
            function=(location.function_name if location else None) or "unknown",
            code=code,
            name=name,
            command=int(error.command or 0),
        )
    text = (error.description or "")[:_NODE_TEXT_CHARACTERS]
    return ExecutionError(
        f"the transaction failed: {kind}: {text}", reason=f"execution-{kind.lower().replace('_', '-')}"
    )
