"""The full node's gRPC interface `sui.rpc.v2`: the only module that imports pysui.

pysui's generated messages and stubs are used on a channel of our own: its client class speaks TLS only, keeps a
configuration folder in the home directory and needs five to six calls for each transaction that we know how to build.
For the same reason its top-level package is not imported (GraphQL, HTTP and configuration: 19 MB and 0.8 s beyond the
messages), and nothing imports this module before a connection is asked for.
"""

import importlib
import importlib.util
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from daas.common.errors import ConfigurationError, DecodeError
from daas.ledger.address import normal_address, parse_digest
from daas.ledger.errors import ExecutionError, MoveAbortError, RpcError, RpcRefused, RpcUnavailable, StaleObject
from daas.ledger.events import decode_event
from daas.ledger.models import Effects, LedgerObject, ObjectChange, ObjectReference, SignedTransaction
from daas.ledger.package import abort_name

#: Name under which pysui's folder of generated messages is imported; its modules refer to each other relatively.
_MESSAGES = "_daas_pysui_messages"


def _import_messages(name: str) -> ModuleType:
    """A module of pysui's generated messages, without running the `__init__` of the packages around them."""
    if _MESSAGES not in sys.modules:
        spec = importlib.util.find_spec("pysui")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigurationError("pysui is not installed", reason="pysui-missing")
        folder = ModuleType(_MESSAGES)
        folder.__path__ = [str(Path(spec.submodule_search_locations[0], "sui", "sui_grpc", "suimsgs"))]
        sys.modules[_MESSAGES] = folder
    return importlib.import_module(f"{_MESSAGES}.{name}")


if TYPE_CHECKING:
    import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as rpc
    from pysui.sui.sui_grpc.suimsgs.google.protobuf import FieldMask
else:
    rpc = _import_messages("sui.rpc.v2")
    FieldMask = _import_messages("google.protobuf").FieldMask

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
#: How full nodes word it when an owned object's version is not the current one.
_STALE = ("for consumption", "needs to be rebuilt")
_OBJECT_FIELDS = ["object_id", "version", "digest", "owner", "object_type", "contents", "balance"]
_TRANSACTION_FIELDS = ["digest", "effects", "events", "checkpoint", "timestamp"]
_PAGE_SIZE = 100
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

    def close(self) -> None:
        """Closes the connection; calls that wait for an answer fail as unavailable."""
        self._channel.close()

    async def chain_digest(self) -> bytes:
        """Digest of the chain's genesis checkpoint, 32 bytes."""
        answer = await self._call(self._ledger.get_service_info, rpc.GetServiceInfoRequest())
        return parse_digest(answer.chain_id or "")

    async def gas_price(self) -> int:
        """Reference gas price of the current epoch, MIST per unit."""
        request = rpc.GetEpochRequest(read_mask=FieldMask(paths=["epoch", "reference_gas_price"]))
        answer = await self._call(self._ledger.get_epoch, request)
        return int(answer.epoch.reference_gas_price or 0) if answer.epoch else 0

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

    async def execute(self, transaction: SignedTransaction, package: str | None) -> Effects:
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

    async def transaction(self, digest: str, package: str | None) -> Effects | None:
        """A transaction that was executed; None where the node knows of none."""
        request = rpc.GetTransactionRequest(digest=digest, read_mask=FieldMask(paths=_TRANSACTION_FIELDS))
        try:
            answer = await self._call(self._ledger.get_transaction, request)
        except RpcRefused as error:
            if error.status == Status.NOT_FOUND.name:
                return None
            raise
        return _effects(answer.transaction, package) if answer.transaction else None

    async def view(self, transaction: bytes, package: str | None) -> Sequence[bytes]:
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
        name = getattr(method, "__name__", "call")
        try:
            return await method(request, timeout=self._timeout_s)
        except GRPCError as error:
            raise _rpc_error(name, error) from None
        except TimeoutError:
            raise RpcUnavailable(
                f"{self.url} {name}: no answer in {self._timeout_s:g} s",
                reason="node-timeout",
                status="DEADLINE_EXCEEDED",
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


def _effects(transaction: rpc.ExecutedTransaction | None, package: str | None) -> Effects:
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
        events=tuple(
            decode_event(event.event_type or "", bytes(event.contents.value or b"") if event.contents else b"", package)
            for event in (transaction.events.events if transaction.events else ())
        ),
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


def _failure(status: rpc.ExecutionStatus | None, package: str | None) -> ExecutionError | None:
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
