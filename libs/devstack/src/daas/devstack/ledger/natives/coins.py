"""`sui::balance`, `sui::coin` and `sui::sui`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, NativeFailureError, Ref
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
BALANCE_NOT_ZERO: Final = 0
BALANCE_OVERFLOW: Final = 1
BALANCE_TOO_SMALL: Final = 2
COIN_TOO_SMALL: Final = 2
INVALID_ARGUMENT: Final = 1
U64_MAX: Final = (1 << 64) - 1

sui = framework_module("sui::sui")
balance = framework_module("sui::balance")
coin = framework_module("sui::coin")


def add_to(held: Any, amount: int) -> None:
    """Add to a balance in place."""
    if held[0] + amount > U64_MAX:
        raise NativeFailureError("ARITHMETIC_ERROR", "balance::join")
    held[0] += amount


def take_from(held: Any, amount: int) -> Any:
    """A new balance taken from another."""
    if held[0] < amount:
        raise AbortError(BALANCE_TOO_SMALL, "balance::split")
    held[0] -= amount
    return [amount]


@balance.function("public fun zero<T>(): Balance<T>")
def _zero(_execution: Execution, _types: Types) -> Any:
    return [0]


@balance.function("public fun value<T>(&Balance<T>): u64")
def _value(_execution: Execution, _types: Types, held: Ref) -> Any:
    return held.get()[0]


@balance.function("public fun join<T>(&mut Balance<T>, Balance<T>): u64")
def _join(_execution: Execution, _types: Types, held: Ref, other: Any) -> Any:
    add_to(held.get(), other[0])
    return held.get()[0]


@balance.function("public fun split<T>(&mut Balance<T>, u64): Balance<T>")
def _split(_execution: Execution, _types: Types, held: Ref, amount: int) -> Any:
    return take_from(held.get(), amount)


@balance.function("public fun withdraw_all<T>(&mut Balance<T>): Balance<T>")
def _withdraw_all(_execution: Execution, _types: Types, held: Ref) -> Any:
    return take_from(held.get(), held.get()[0])


@balance.function("public fun destroy_zero<T>(Balance<T>)")
def _destroy_zero(_execution: Execution, _types: Types, held: Any) -> None:
    if held[0]:
        raise AbortError(BALANCE_NOT_ZERO, "balance::destroy_zero")


@balance.function("public fun create_supply<T>(T): Supply<T>")
def _create_supply(_execution: Execution, _types: Types, _witness: Any) -> Any:
    return [0]


@balance.function("public fun supply_value<T>(&Supply<T>): u64")
def _supply_value(_execution: Execution, _types: Types, supply: Ref) -> Any:
    return supply.get()[0]


@balance.function("public fun increase_supply<T>(&mut Supply<T>, u64): Balance<T>")
def _increase_supply(_execution: Execution, _types: Types, supply: Ref, amount: int) -> Any:
    held = supply.get()
    if amount >= U64_MAX - held[0]:
        raise AbortError(BALANCE_OVERFLOW)
    held[0] += amount
    return [amount]


@balance.function("public fun decrease_supply<T>(&mut Supply<T>, Balance<T>): u64")
def _decrease_supply(_execution: Execution, _types: Types, supply: Ref, other: Any) -> Any:
    held = supply.get()
    if held[0] < other[0]:
        raise AbortError(BALANCE_OVERFLOW)
    held[0] -= other[0]
    return other[0]


@coin.function("public fun value<T>(&Coin<T>): u64")
def _coin_value(_execution: Execution, _types: Types, target: Ref) -> Any:
    return target.get()[1][0]


@coin.function("public fun balance<T>(&Coin<T>): &Balance<T>")
@coin.function("public fun balance_mut<T>(&mut Coin<T>): &mut Balance<T>")
def _coin_balance(_execution: Execution, _types: Types, target: Ref) -> Ref:
    return Ref(target.get(), 1)


@coin.function("public fun into_balance<T>(Coin<T>): Balance<T>")
def _into_balance(execution: Execution, _types: Types, target: Any) -> Any:
    execution.delete_id(target[0][0][0])
    return target[1]


@coin.function("public fun from_balance<T>(Balance<T>, &mut TxContext): Coin<T>")
def _from_balance(execution: Execution, _types: Types, held: Any, _context: Ref) -> Any:
    return [[[execution.fresh_id()]], held]


@coin.function("public fun take<T>(&mut Balance<T>, u64, &mut TxContext): Coin<T>")
def _take(execution: Execution, _types: Types, held: Ref, amount: int, _context: Ref) -> Any:
    taken = take_from(held.get(), amount)
    return [[[execution.fresh_id()]], taken]


@coin.function("public fun put<T>(&mut Balance<T>, Coin<T>)")
def _put(execution: Execution, _types: Types, held: Ref, target: Any) -> None:
    add_to(held.get(), _into_balance(execution, (), target)[0])


@coin.function("public entry fun join<T>(&mut Coin<T>, Coin<T>)")
def _coin_join(execution: Execution, _types: Types, target: Ref, other: Any) -> None:
    add_to(target.get()[1], _into_balance(execution, (), other)[0])


@coin.function("public fun split<T>(&mut Coin<T>, u64, &mut TxContext): Coin<T>")
def _coin_split(execution: Execution, _types: Types, target: Ref, amount: int, _context: Ref) -> Any:
    taken = take_from(target.get()[1], amount)
    return [[[execution.fresh_id()]], taken]


@coin.function("public fun divide_into_n<T>(&mut Coin<T>, u64, &mut TxContext): vector<Coin<T>>")
def _divide_into_n(execution: Execution, _types: Types, target: Ref, parts: int, _context: Ref) -> Any:
    held = target.get()[1]
    if parts == 0:
        raise AbortError(INVALID_ARGUMENT)
    if parts > held[0]:
        raise AbortError(COIN_TOO_SMALL)
    each = held[0] // parts
    return [[[[execution.fresh_id()]], take_from(held, each)] for _ in range(parts - 1)]


@coin.function("public fun zero<T>(&mut TxContext): Coin<T>")
def _coin_zero(execution: Execution, _types: Types, _context: Ref) -> Any:
    return [[[execution.fresh_id()]], [0]]


@coin.function("public fun destroy_zero<T>(Coin<T>)")
def _coin_destroy_zero(execution: Execution, _types: Types, target: Any) -> None:
    _destroy_zero(execution, (), _into_balance(execution, (), target))
