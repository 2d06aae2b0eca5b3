"""What commands work on: values with their types, and inputs that take their type from their use."""

from __future__ import annotations

from typing import Final

import msgspec

from daas.devstack.ledger.encoding import Value
from daas.devstack.ledger.type_tags import STD, SUI, Datatype, Type, Vector

_OPTION: Final = (STD, "option", "Option")
_PURE_STRUCTS: Final = frozenset({(STD, "string", "String"), (STD, "ascii", "String"), (SUI, "object", "ID")})


class Slot:
    """A value that commands can use: an input object, a result, or the gas coin."""

    __slots__ = ("by_value", "cell", "moved", "type", "writable")

    def __init__(self, cell: list[Value], type_: Type, *, writable: bool = True, by_value: bool = True) -> None:
        self.cell = cell
        self.type = type_
        self.writable = writable
        self.by_value = by_value
        self.moved = False


class PureSlot(msgspec.Struct):
    """Bytes that take the type of the parameter they are used for."""

    data: bytes
    cells: dict[Type, Slot]


class ReceivingSlot(msgspec.Struct):
    """An object to be received, which takes the type of the parameter it is used for."""

    object_id: bytes
    version: int
    cell: Slot | None = None


def withdrawal_of(coin_type: Type) -> Datatype:
    """The type of a claim on an address balance of this coin."""
    balance = Datatype(SUI, "balance", "Balance", (coin_type,))
    return Datatype(SUI, "funds_accumulator", "Withdrawal", (balance,))


def is_pure(type_: Type) -> bool:
    """Whether a type can be given as bytes."""
    if isinstance(type_, str):
        return type_ != "signer"
    if isinstance(type_, Vector):
        return is_pure(type_.element)
    if isinstance(type_, Datatype):
        return type_.key in _PURE_STRUCTS or (type_.key == _OPTION and is_pure(type_.arguments[0]))
    return False
