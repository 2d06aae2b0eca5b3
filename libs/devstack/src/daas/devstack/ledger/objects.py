"""Objects with their owners and versions, and the digest that Sui gives them."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec

from daas.devstack.ledger.encoding import uleb
from daas.devstack.ledger.type_tags import (
    COIN_KEY,
    GAS_COIN,
    SUI,
    SUI_TYPE,
    Datatype,
    Type,
    format_type,
    struct_tag_bytes,
    type_tag_bytes,
)

CLOCK_ID: Final = bytes(31) + b"\x06"
CLOCK_TYPE: Final = Datatype(SUI, "clock", "Clock")
OwnerKind = Literal["address", "object", "shared", "immutable"]
_OWNER_INDEX: Final = {"address": 0, "object": 1, "shared": 2, "immutable": 3}
_METADATA_BYTES: Final = 80  # owner 40, previous transaction 32, rebate 8: what Sui counts beside the data


class Owner(msgspec.Struct, frozen=True):
    """Who may use an object: an address, an object, everyone (since `shared_version`), or everyone but never change."""

    kind: OwnerKind
    address: bytes = b""
    shared_version: int = 0

    def bcs(self) -> bytes:
        """BCS of Sui's `Owner`."""
        index = bytes((_OWNER_INDEX[self.kind],))
        if self.kind == "shared":
            return index + self.shared_version.to_bytes(8, "little")
        return index if self.kind == "immutable" else index + self.address


IMMUTABLE: Final = Owner("immutable")


class Object(msgspec.Struct, frozen=True):
    """One version of a Move object. `contents` is the BCS of its value, `storage_mist` what was paid to keep it."""

    id: bytes
    version: int
    owner: Owner
    type: Type
    contents: bytes
    previous: bytes
    storage_mist: int
    public_transfer: bool
    digest: bytes = b""

    @property
    def balance(self) -> int | None:
        """MIST, or units of another coin; None if this is no coin."""
        if isinstance(self.type, Datatype) and self.type.key == COIN_KEY:
            return int.from_bytes(self.contents[32:40], "little")
        return None


def object_type_bytes(type_: Type) -> bytes:
    """BCS of Sui's `MoveObjectType`, which spells coins short."""
    if type_ == GAS_COIN:
        return b"\x01"
    assert isinstance(type_, Datatype), format_type(type_)
    if type_.key == COIN_KEY:
        return b"\x03" + type_tag_bytes(type_.arguments[0])
    return b"\x00" + struct_tag_bytes(type_)


def object_size(type_: Type, contents: bytes) -> int:
    """Bytes that storage is charged for."""
    return _METADATA_BYTES + len(object_type_bytes(type_)) + 1 + 8 + len(contents)


def make_object(
    object_id: bytes,
    version: int,
    owner: Owner,
    type_: Type,
    contents: bytes,
    *,
    previous: bytes,
    storage_mist: int,
    public_transfer: bool,
) -> Object:
    """An object with its digest: blake2b-256 of "Object::" and the BCS of the whole."""
    preimage = b"".join(
        (
            b"Object::\x00",
            object_type_bytes(type_),
            bytes((public_transfer,)),
            version.to_bytes(8, "little"),
            uleb(len(contents)),
            contents,
            owner.bcs(),
            b"\x20",
            previous,
            storage_mist.to_bytes(8, "little"),
        )
    )
    return Object(
        id=object_id,
        version=version,
        owner=owner,
        type=type_,
        contents=contents,
        previous=previous,
        storage_mist=storage_mist,
        public_transfer=public_transfer,
        digest=hashlib.blake2b(preimage, digest_size=32).digest(),
    )


def coin_contents(object_id: bytes, amount: int) -> bytes:
    """BCS of `Coin<T> {id, balance}`."""
    return object_id + amount.to_bytes(8, "little")


__all__ = [
    "CLOCK_ID",
    "CLOCK_TYPE",
    "GAS_COIN",
    "IMMUTABLE",
    "SUI_TYPE",
    "Object",
    "Owner",
    "coin_contents",
    "make_object",
]
