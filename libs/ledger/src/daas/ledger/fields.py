"""Object ids of the entries of tables: dynamic fields, which Sui finds by the hash of parent and key."""

from hashlib import blake2b

from daas.common import bcs
from daas.common.bcs import Reader
from daas.ledger.address import format_address, parse_address

#: BCS of the type tags `address` and `vector<u8>`.
ADDRESS_TAG = b"\x04"
BYTES_TAG = b"\x06\x01"
#: Separates these ids from all other hashes (`HashingIntentScope::ChildObjectId`).
_CHILD_OBJECT = b"\xf0"


def field_id(parent: str, key: bytes, key_tag: bytes) -> str:
    """blake2b-256(0xf0 || parent || length of key (u64, little-endian) || key || type tag of key).

    Args:
        parent: object id of the table.
        key: BCS of the key.
        key_tag: BCS of its type tag.
    """
    preimage = _CHILD_OBJECT + parse_address(parent) + len(key).to_bytes(8, "little") + key + key_tag
    return format_address(blake2b(preimage, digest_size=32).digest())


def address_entry(table: str, key: str) -> str:
    """Object id of the entry of a `Table<address, _>`."""
    return field_id(table, parse_address(key), ADDRESS_TAG)


def bytes_entry(table: str, key: bytes) -> str:
    """Object id of the entry of a `Table<vector<u8>, _>`."""
    return field_id(table, bcs.bytes_(key), BYTES_TAG)


def value_of(contents: bytes, key: bytes) -> Reader:
    """A reader at the value of a field object: after its id and its key.

    Args:
        contents: BCS of `Field {id, name, value}`.
        key: BCS of the key, whose length is skipped.
    """
    reader = Reader(contents)
    reader.take(32 + len(key))
    return reader
