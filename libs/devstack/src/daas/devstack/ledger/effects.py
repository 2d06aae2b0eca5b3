"""What a transaction did: objects written and removed, gas, and the digests that Sui computes over them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from daas.devstack.ledger.commands import CommandRunner, Slot
from daas.devstack.ledger.encoding import uleb
from daas.devstack.ledger.errors import ExecutionFailedError, MoveAbortError, MoveLocation
from daas.devstack.ledger.execution import OBJECT_BYTES_MAX, Event, Execution, Placed
from daas.devstack.ledger.gas import rebate_mist, storage_mist
from daas.devstack.ledger.natives.registry import STORE
from daas.devstack.ledger.objects import Object, Owner, coin_contents, make_object, object_size
from daas.devstack.ledger.funds import Funds, accumulator_id, balance_of, net_funds
from daas.devstack.ledger.program import Package
from daas.devstack.ledger.transaction_data import OwnedInput, SharedInput, Transaction
from daas.devstack.ledger.type_tags import GAS_COIN, SUI_TYPE, Type, struct_tag_bytes, type_tag_bytes

IdOperation = Literal["none", "created", "deleted"]
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
    "CONSENSUS_OBJECT_OPERATION_NOT_ALLOWED",
)  # fmt: skip
ARGUMENT_KINDS: Final = (
    "TYPE_MISMATCH", "INVALID_BCS_BYTES", "INVALID_USAGE_OF_PURE_ARGUMENT",
    "INVALID_ARGUMENT_TO_PRIVATE_ENTRY_FUNCTION", "INDEX_OUT_OF_BOUNDS", "SECONDARY_INDEX_OUT_OF_BOUNDS",
    "INVALID_RESULT_ARITY", "INVALID_GAS_COIN_USAGE", "INVALID_VALUE_USAGE", "INVALID_OBJECT_BY_VALUE",
    "INVALID_OBJECT_BY_MUT_REF", "CONSENSUS_OBJECT_OPERATION_NOT_ALLOWED", "INVALID_ARGUMENT_ARITY",
    "INVALID_TRANSFER_OBJECT", "INVALID_MAKE_MOVE_VEC_NON_OBJECT_ARGUMENT", "ARGUMENT_WITHOUT_VALUE",
)  # fmt: skip


Outcome = tuple[Object | None, tuple[Owner, Type, bytes] | None, IdOperation]
"""An object before, what it is to become, and whether its id is new or gone."""


class GasUsed(msgspec.Struct, frozen=True):
    """The bill, in MIST."""

    computation: int
    storage: int
    rebate: int
    non_refundable: int

    @property
    def net(self) -> int:
        """What the payer pays; negative when more comes back than was spent."""
        return self.computation + self.storage - self.rebate


class Change(msgspec.Struct, frozen=True):
    """One object before and after; None where it did not or does not exist."""

    id: bytes
    before: Object | None
    after: Object | None
    operation: IdOperation


class Effects(msgspec.Struct, frozen=True):
    """Everything a transaction did, successful or not."""

    digest: bytes
    error: ExecutionFailedError | None
    failed_command: int | None
    gas_used: GasUsed
    gas_object: bytes | None
    lamport: int
    changes: tuple[Change, ...]
    read: tuple[Object, ...]
    events: tuple[Event, ...]
    packages: tuple[Package, ...]
    dependencies: tuple[bytes, ...]
    balance_changes: tuple[tuple[bytes, Type, int], ...]
    funds: Funds = ()


class Payment(msgspec.Struct, frozen=True):
    """Who pays for a transaction: coins, or the payer's address balance, of which `reserved` can be used as a coin."""

    coins: tuple[Object, ...]
    reserved: int = 0

    @property
    def spendable(self) -> int:
        """MIST that are there to pay with."""
        return sum(coin.balance or 0 for coin in self.coins) + self.reserved


def settle(
    execution: Execution,
    runner: CommandRunner | None,
    transaction: Transaction,
    inputs: Mapping[bytes, Object],
    payment: Payment,
    *,
    error: ExecutionFailedError | None,
) -> Effects:
    """The effects of an execution that has ended, in success or with `error`."""
    versions = [o.version for o in (*inputs.values(), *payment.coins, *execution.receivable.values())]
    lamport = 1 + max(versions, default=0)
    mutable = _mutable_inputs(transaction, inputs)
    outcomes: dict[bytes, Outcome] = {}
    gas_owner = Owner("address", transaction.payer)
    gas_total = payment.spendable
    packages: tuple[Package, ...] = ()
    if error is None and runner is not None:
        _successful(execution, runner, mutable, inputs, outcomes)
        packages = tuple(runner.packages)
        if runner.gas is not None:
            gas_total = runner.gas.cell[0][1][0] + transaction.budget
            placed = execution.placed.get(payment.coins[0].id) if payment.coins else None
            gas_owner = placed.owner if placed else gas_owner
    else:
        for object_id in mutable:
            held = inputs[object_id]
            outcomes[object_id] = (held, (held.owner, held.type, held.contents), "none")
    for merged in payment.coins[1:]:
        outcomes[merged.id] = (merged, None, "deleted")
    primary = payment.coins[0] if payment.coins else None
    if primary is not None:
        outcomes[primary.id] = (primary, (gas_owner, GAS_COIN, primary.contents), "none")

    storage = {i: storage_mist(object_size(new[1], new[2])) for i, (_, new, _) in outcomes.items() if new is not None}
    gas_used = _bill(execution, outcomes, sum(storage.values()) + sum(p.storage_mist for p in packages))
    if error is None and max(gas_used.net, gas_used.computation) > transaction.budget:
        over = ExecutionFailedError("INSUFFICIENT_GAS", f"{gas_used.net} MIST over the budget {transaction.budget}")
        return settle(execution, None, transaction, inputs, payment, error=over)
    moved = {} if error is not None else dict(execution.funds)
    if primary is not None:
        remaining = coin_contents(primary.id, max(gas_total - gas_used.net, 0))
        outcomes[primary.id] = (primary, (gas_owner, GAS_COIN, remaining), "none")
    else:
        key = (transaction.payer, SUI_TYPE)
        drawn = payment.reserved - gas_total if payment.reserved else 0
        moved[key] = moved.get(key, 0) - gas_used.net - drawn
    funds = net_funds(moved)
    changes = tuple(
        Change(
            object_id,
            before,
            None if new is None else _written(execution, object_id, lamport, new, storage[object_id]),
            operation,
        )
        for object_id, (before, new, operation) in sorted(outcomes.items())
    )
    changed = {change.id for change in changes}
    dependencies = {o.previous for o in (*inputs.values(), *payment.coins, *execution.received.values())}
    return Effects(
        digest=execution.digest,
        error=error,
        failed_command=runner.command if error is not None and runner is not None else None,
        gas_used=gas_used,
        gas_object=primary.id if primary is not None else None,
        lamport=lamport,
        changes=changes,
        read=tuple(o for i, o in sorted(inputs.items()) if i not in changed and o.owner.kind == "shared"),
        events=() if error is not None else tuple(execution.events),
        packages=packages,
        dependencies=tuple(sorted(dependencies)),
        balance_changes=_balance_changes(changes, funds),
        funds=funds,
    )


def _bill(execution: Execution, outcomes: Mapping[bytes, Outcome], storage: int) -> GasUsed:
    paid_before = sum(old.storage_mist for old, _, _ in outcomes.values() if old is not None)
    rebate = rebate_mist(paid_before)
    return GasUsed(execution.meter.units() * execution.gas_price, storage, rebate, paid_before - rebate)


def _mutable_inputs(transaction: Transaction, inputs: Mapping[bytes, Object]) -> list[bytes]:
    """Inputs that get a new version whatever happens: owned ones, and shared ones taken mutably."""
    found = []
    for entry in transaction.inputs:
        if isinstance(entry, OwnedInput) and inputs[entry.ref.id].owner.kind == "address":
            found.append(entry.ref.id)
        elif isinstance(entry, SharedInput) and entry.mutable:
            found.append(entry.id)
    return found


def _successful(
    execution: Execution,
    runner: CommandRunner,
    mutable: Sequence[bytes],
    inputs: Mapping[bytes, Object],
    outcomes: dict[bytes, Outcome],
) -> None:
    encode = execution.codec.encode
    for object_id in mutable:
        held, slot = inputs[object_id], runner.slots[object_id]
        placed_anew = execution.placed.get(object_id)
        if slot.moved and held.owner.kind == "shared" and object_id not in execution.deleted_ids:
            if placed_anew is None or placed_anew.owner.kind != "shared":
                raise ExecutionFailedError(
                    "CONSENSUS_OBJECT_OPERATION_NOT_ALLOWED", "a shared object can only be deleted or shared again"
                )
            execution.placed[object_id] = Placed(held.owner, placed_anew.type, placed_anew.value)
        if not slot.moved:
            outcomes[object_id] = (held, (held.owner, held.type, _contents(execution, held, slot)), "none")
        elif object_id in execution.deleted_ids:
            outcomes[object_id] = (held, None, "deleted")
        elif object_id not in execution.placed:
            outcomes[object_id] = (held, None, "none")  # wrapped into another object
    for object_id, held in execution.received.items():
        if object_id in execution.deleted_ids:
            outcomes[object_id] = (held, None, "deleted")
        elif object_id not in execution.placed:
            outcomes[object_id] = (held, None, "none")
    gas_id = runner.gas.cell[0][0][0][0] if runner.gas is not None else None
    for object_id, placed in execution.placed.items():
        if object_id == gas_id:
            continue
        before = inputs.get(object_id) or execution.load(object_id)
        new = (placed.owner, placed.type, encode(placed.type, placed.value))
        outcomes[object_id] = (before, new, "created" if object_id in execution.new_ids else "none")
    for object_id, child in execution.children.items():
        value, before = child.cell[0], child.original
        if value is None:
            if before is not None and object_id not in outcomes:
                outcomes[object_id] = (before, None, "deleted")
            continue
        contents = encode(child.type, value)
        if before is None or contents != before.contents or child.parent != before.owner.address:
            owner = Owner("object", child.parent)
            outcomes[object_id] = (before, (owner, child.type, contents), "none" if before else "created")


def _contents(execution: Execution, held: Object, slot: Slot) -> bytes:
    contents = execution.codec.encode(held.type, slot.cell[0])
    if len(contents) > OBJECT_BYTES_MAX:
        raise ExecutionFailedError("OBJECT_TOO_BIG", f"an object of {len(contents)} bytes, at most {OBJECT_BYTES_MAX}")
    return contents


def _written(execution: Execution, object_id: bytes, version: int, new: tuple[Owner, Type, bytes], paid: int) -> Object:
    owner, type_, contents = new
    if owner.kind == "shared" and owner.shared_version == 0:
        owner = Owner("shared", shared_version=version)
    return make_object(
        object_id,
        version,
        owner,
        type_,
        contents,
        previous=execution.digest,
        storage_mist=paid,
        public_transfer=bool(execution.program.abilities(type_) & STORE),
    )


def _balance_changes(changes: Sequence[Change], funds: Funds) -> tuple[tuple[bytes, Type, int], ...]:
    totals: dict[tuple[bytes, Type], int] = {(owner, coin_type): amount for owner, coin_type, amount in funds}
    for change in changes:
        for held, sign in ((change.before, -1), (change.after, 1)):
            if held is not None and held.balance is not None and held.owner.kind == "address":
                coin = held.type.arguments[0]  # type: ignore[union-attr]  # only a coin has a balance
                key = (held.owner.address, coin)
                totals[key] = totals.get(key, 0) + sign * held.balance
    return tuple((owner, coin, amount) for (owner, coin), amount in totals.items() if amount)


# BCS, as Sui hashes it


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
    accumulator_writes = [
        b"".join((
            accumulator_id(owner, coin_type), b"\x00\x03", owner, type_tag_bytes(balance_of(coin_type)),
            b"\x00" if amount > 0 else b"\x01", b"\x00", _u64(abs(amount)), b"\x00",
        ))  # fmt: skip
        for owner, coin_type, amount in effects.funds
    ]
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
