"""What a transaction did: objects written and removed, gas, and the digests that Sui computes over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from daas.devstack.ledger.commands import CommandRunner
from daas.devstack.ledger.errors import ExecutionFailedError
from daas.devstack.ledger.execution import OBJECT_BYTES_MAX, Event, Execution, Placed
from daas.devstack.ledger.funds import Funds, net_funds
from daas.devstack.ledger.gas import rebate_mist, storage_mist
from daas.devstack.ledger.natives.registry import STORE
from daas.devstack.ledger.objects import Object, Owner, coin_contents, make_object, object_size
from daas.devstack.ledger.program import Package
from daas.devstack.ledger.slots import Slot
from daas.devstack.ledger.transaction_data import OwnedInput, SharedInput, Transaction
from daas.devstack.ledger.type_tags import GAS_COIN, SUI_TYPE, Type

IdOperation = Literal["none", "created", "deleted"]

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
