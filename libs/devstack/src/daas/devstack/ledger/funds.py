"""Address balances: what an address holds without any coin object, and the claims that transactions make on it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from daas.devstack.ledger.execution import derive_field_id
from daas.devstack.ledger.transaction_data import ObjectRef
from daas.devstack.ledger.type_tags import SUI, SUI_TYPE, Datatype, Type

ACCUMULATOR_ROOT: Final = bytes(30) + b"\x0a\xcc"
# A coin that stands for a part of an address balance is recognised by the end of its digest.
_RESERVATION_MARK: Final = b"\xac" * 20

Funds = tuple[tuple[bytes, Type, int], ...]
"""Changes of address balances: owner, coin type, amount added (negative: taken)."""


def balance_of(coin_type: Type) -> Datatype:
    """`Balance<T>` of a coin type."""
    return Datatype(SUI, "balance", "Balance", (coin_type,))


def accumulator_id(owner: bytes, coin_type: Type) -> bytes:
    """The id of the object that stands for one address balance."""
    key = Datatype(SUI, "accumulator", "Key", (balance_of(coin_type),))
    return derive_field_id(ACCUMULATOR_ROOT, key, owner)


def net_funds(moved: Mapping[tuple[bytes, Type], int]) -> Funds:
    """The changes that are not zero, in the order of their objects' ids."""
    found = [(owner, coin_type, amount) for (owner, coin_type), amount in moved.items() if amount]
    return tuple(sorted(found, key=lambda change: accumulator_id(change[0], change[1])))


def reservation_of(ref: ObjectRef, payer: bytes, chain: bytes, epoch: int) -> int | None:
    """The MIST that a gas payment object reserves of the payer's address balance; None if it is an ordinary coin."""
    if ref.digest[12:] != _RESERVATION_MARK:
        return None
    amount, reserved_epoch = struct.unpack_from("<QI", ref.digest)
    object_id = bytes(a ^ b for a, b in zip(accumulator_id(payer, SUI_TYPE), chain, strict=True))
    if object_id != ref.id or reserved_epoch != epoch:
        return None
    return int(amount)
