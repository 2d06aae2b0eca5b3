"""`sui::funds_accumulator`, and the parts of `sui::balance` and `sui::coin` that use address balances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, Ref
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
OVERFLOW: Final = 0
INVALID_SUB_LIMIT: Final = 1
OWNER_MISMATCH: Final = 2
U64_MAX: Final = (1 << 64) - 1
U256_MAX: Final = (1 << 256) - 1

funds_accumulator = framework_module("sui::funds_accumulator")
balance = framework_module("sui::balance")
coin = framework_module("sui::coin")


def _redeem(execution: Execution, coin_type: Type, withdrawal: Any) -> Any:
    owner, limit = withdrawal
    if limit > U64_MAX:
        raise AbortError(OVERFLOW, "funds_accumulator::withdraw_from_accumulator_address")
    execution.move_funds(owner, coin_type, -limit)
    return [limit]


@balance.function("public fun send_funds<T>(Balance<T>, address)")
def _send_balance(execution: Execution, types: Types, held: Any, recipient: bytes) -> None:
    execution.move_funds(recipient, types[0], held[0])


@coin.function("public fun send_funds<T>(Coin<T>, address)")
def _send_coin(execution: Execution, types: Types, held: Any, recipient: bytes) -> None:
    execution.delete_id(held[0][0][0])
    execution.move_funds(recipient, types[0], held[1][0])


@balance.function("public fun redeem_funds<T>(Withdrawal<0x2::balance::Balance<T>>): Balance<T>")
def _redeem_balance(execution: Execution, types: Types, withdrawal: Any) -> Any:
    return _redeem(execution, types[0], withdrawal)


@coin.function("public fun redeem_funds<T>(Withdrawal<0x2::balance::Balance<T>>, &mut TxContext): Coin<T>")
def _redeem_coin(execution: Execution, types: Types, withdrawal: Any, _context: Ref) -> Any:
    redeemed = _redeem(execution, types[0], withdrawal)
    return [[[execution.fresh_id()]], redeemed]


@funds_accumulator.function("public fun withdrawal_owner<T>(&Withdrawal<T>): address")
def _owner(_execution: Execution, _types: Types, withdrawal: Ref) -> Any:
    return withdrawal.get()[0]


@funds_accumulator.function("public fun withdrawal_limit<T>(&Withdrawal<T>): u256")
def _limit(_execution: Execution, _types: Types, withdrawal: Ref) -> Any:
    return withdrawal.get()[1]


@funds_accumulator.function("public fun withdrawal_split<T>(&mut Withdrawal<T>, u256): Withdrawal<T>")
def _split(_execution: Execution, _types: Types, withdrawal: Ref, limit: int) -> Any:
    held = withdrawal.get()
    if held[1] < limit:
        raise AbortError(INVALID_SUB_LIMIT)
    held[1] -= limit
    return [held[0], limit]


@funds_accumulator.function("public fun withdrawal_join<T>(&mut Withdrawal<T>, Withdrawal<T>)")
def _join(_execution: Execution, _types: Types, withdrawal: Ref, other: Any) -> None:
    held = withdrawal.get()
    if held[0] != other[0]:
        raise AbortError(OWNER_MISMATCH)
    if U256_MAX - held[1] < other[1]:
        raise AbortError(OVERFLOW)
    held[1] += other[1]
