"""Effects and events in BCS as Sui hashes them, and the digests over them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from daas.devstack.ledger.effects import Change, Effects
from daas.devstack.ledger.encoding import uleb
from daas.devstack.ledger.errors import CongestionError, ExecutionFailedError, MoveAbortError, MoveLocation
from daas.devstack.ledger.execution import OBJECT_BYTES_MAX, Event
from daas.devstack.ledger.funds import accumulator_id, balance_of
from daas.devstack.ledger.type_tags import Type, struct_tag_bytes, type_tag_bytes

_ID_OPERATIONS: Final = ("none", "created", "deleted")

# The order of Sui's ExecutionFailureStatus; the protobuf enum is the same, one higher.
FAILURE_KINDS: Final = (
    "INSUFFICIENT_GAS", "INVALID_GAS_OBJECT", "INVARIANT_VIOLATION", "FEATURE_NOT_YET_SUPPORTED", "OBJECT_TOO_BIG",
    "PACKAGE_TOO_BIG", "CIRCULAR_OBJECT_OWNERSHIP", "INSUFFICIENT_COIN_BALANCE", "COIN_BALANCE_OVERFLOW",
    "PUBLISH_ERROR_NON_ZERO_ADDRESS", "SUI_MOVE_VERIFICATION_ERROR", "MOVE_PRIMITIVE_RUNTIME_ERROR", "MOVE_ABORT",
    "VM_VERIFICATION_OR_DESERIALIZATION_ERROR", "VM_INVARIANT_VIOLATION", "FUNCTION_NOT_FOUND", "ARITY_MISMATCH",
    "TYPE_ARITY_MISMATCH", "NON_ENTRY_FUNCTION_INVOKED", "COMMAND_ARGUMENT_ERROR", "TYPE_ARGUMENT_ERROR",
    "UNUSED_VALUE_WITHOUT_DROP", "INVALID_PUBLIC_FUNCTION_RETURN_TYPE", "INVALID_TRANSFER_OBJECT",
    "EFFECTS_TOO_LARGE", "PUBLISH_UPGRADE_MISSING_DEPENDENCY", "PUBLISH_UPGRADE_DEPENDENCY_DOWNGRADE",
    "PACKAGE_UPGRADE_ERROR", "WRITTEN_OBJECTS_TOO_LARGE", "CERTIFICATE_DENIED", "SUI_MOVE_VERIFICATION_TIMEDOUT",
    "CONSENSUS_OBJECT_OPERATION_NOT_ALLOWED", "INPUT_OBJECT_DELETED",
    "EXECUTION_CANCELED_DUE_TO_CONSENSUS_OBJECT_CONGESTION",
)  # fmt: skip
ARGUMENT_KINDS: Final = (
    "TYPE_MISMATCH", "INVALID_BCS_BYTES", "INVALID_USAGE_OF_PURE_ARGUMENT",
    "INVALID_ARGUMENT_TO_PRIVATE_ENTRY_FUNCTION", "INDEX_OUT_OF_BOUNDS", "SECONDARY_INDEX_OUT_OF_BOUNDS",
    "INVALID_RESULT_ARITY", "INVALID_GAS_COIN_USAGE", "INVALID_VALUE_USAGE", "INVALID_OBJECT_BY_VALUE",
    "INVALID_OBJECT_BY_MUT_REF", "CONSENSUS_OBJECT_OPERATION_NOT_ALLOWED", "INVALID_ARGUMENT_ARITY",
    "INVALID_TRANSFER_OBJECT", "INVALID_MAKE_MOVE_VEC_NON_OBJECT_ARGUMENT", "ARGUMENT_WITHOUT_VALUE",
)  # fmt: skip


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _digest(value: bytes) -> bytes:
    return b"\x20" + value


def _string(text: str) -> bytes:
    data = text.encode()
    return uleb(len(data)) + data


def hash_named(name: str, data: bytes) -> bytes:
    """blake2b-256 of a type's name, two colons and its BCS: how Sui hashes its values."""
    return hashlib.blake2b(name.encode() + b"::" + data, digest_size=32).digest()


def events_digest(events: Sequence[Event]) -> bytes:
    """Digest of a transaction's events."""
    data = uleb(len(events)) + b"".join(
        event.package
        + _string(event.module)
        + event.sender
        + struct_tag_bytes(event.type)
        + uleb(len(event.contents))
        + event.contents
        for event in events
    )
    return hash_named("TransactionEvents", data)


def _location(location: MoveLocation) -> bytes:
    return b"".join(
        (
            location.address,
            _string(location.module),
            _u16(location.function_index),
            _u16(location.instruction),
            b"\x01",
            _string(location.function),
        )
    )


def _failure(error: ExecutionFailedError) -> bytes:
    index = bytes((FAILURE_KINDS.index(error.kind),))
    if isinstance(error, MoveAbortError):
        assert error.location is not None
        return index + _location(error.location) + _u64(error.code)
    if error.kind == "MOVE_PRIMITIVE_RUNTIME_ERROR":
        return index + (b"\x01" + _location(error.location) if error.location else b"\x00")
    argument = error.argument or 0
    if error.kind == "COMMAND_ARGUMENT_ERROR":
        kind = ARGUMENT_KINDS.index(error.argument_kind or "TYPE_MISMATCH")
        extra = {4: _u16(argument), 5: _u16(argument) + _u16(0), 6: _u16(argument)}.get(kind, b"")
        return index + _u16(argument) + bytes((kind,)) + extra
    if error.kind == "TYPE_ARGUMENT_ERROR":
        return index + _u16(argument) + b"\x01"
    if error.kind == "UNUSED_VALUE_WITHOUT_DROP":
        return index + _u16(argument) + _u16(0)
    if error.kind == "INVALID_PUBLIC_FUNCTION_RETURN_TYPE":
        return index + _u16(0)
    if isinstance(error, CongestionError):
        return index + uleb(len(error.objects)) + b"".join(error.objects)
    if error.kind == "OBJECT_TOO_BIG":
        return index + _u64(0) + _u64(OBJECT_BYTES_MAX)
    return index


def effects_bcs(effects: Effects, epoch: int) -> bytes:
    """BCS of the effects as Sui's `TransactionEffects::V2`."""
    gas = effects.gas_used
    order = [change.id for change in effects.changes]
    package_changes = [
        package.id + b"\x00\x02" + _u64(package.version) + _digest(package.digest) + b"\x01"  # a new id
        for package in effects.packages
    ]
    accumulator_writes = [_funds_change(*change) for change in effects.funds]
    if effects.error is None:
        status = b"\x00"
    else:
        command = effects.failed_command
        status = b"\x01" + _failure(effects.error) + (b"\x00" if command is None else b"\x01" + _u64(command))
    return b"".join(
        (
            b"\x01",
            status,
            _u64(epoch),
            *(_u64(amount) for amount in (gas.computation, gas.storage, gas.rebate, gas.non_refundable)),
            _digest(effects.digest),
            b"\x00" if effects.gas_object is None else b"\x01" + order.index(effects.gas_object).to_bytes(4, "little"),
            b"\x01" + _digest(events_digest(effects.events)) if effects.events else b"\x00",
            uleb(len(effects.dependencies)),
            *(_digest(d) for d in effects.dependencies),
            _u64(effects.lamport),
            uleb(len(effects.changes) + len(package_changes) + len(accumulator_writes)),
            *(_change(change) for change in effects.changes),
            *package_changes,
            *accumulator_writes,
            uleb(len(effects.read)),
            *(o.id + b"\x00" + _u64(o.version) + _digest(o.digest) for o in effects.read),
            b"\x00",
        )
    )


def _change(change: Change) -> bytes:
    before, after = change.before, change.after
    return b"".join(
        (
            change.id,
            b"\x00" if before is None else b"\x01" + _u64(before.version) + _digest(before.digest) + before.owner.bcs(),
            b"\x00" if after is None else b"\x01" + _digest(after.digest) + after.owner.bcs(),
            bytes((_ID_OPERATIONS.index(change.operation),)),
        )
    )


def _funds_change(owner: bytes, coin_type: Type, amount: int) -> bytes:
    return b"".join(
        (
            accumulator_id(owner, coin_type),
            b"\x00\x03",  # no input, an accumulator write
            owner,
            type_tag_bytes(balance_of(coin_type)),
            b"\x00" if amount > 0 else b"\x01",  # merge or split
            b"\x00",  # an integer
            _u64(abs(amount)),
            b"\x00",  # no operation on an id
        )
    )
