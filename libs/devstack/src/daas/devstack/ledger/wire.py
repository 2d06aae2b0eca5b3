"""Protobuf on the wire: messages built from keyword arguments, and pruned by a read mask, without message objects.

Field numbers come from pysui's generated classes. Encoding those objects costs milliseconds a transaction; writing the
same bytes directly costs microseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from daas.devstack.ledger.encoding import uleb
from daas.devstack.ledger.errors import LedgerError

_VARINT: Final = frozenset({"uint64", "uint32", "int64", "int32", "enum", "bool"})
_WIRE_BYTES: Final = 2
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def varint(value: int) -> bytes:
    """An unsigned integer as a varint; up to 64 bits."""
    return uleb(value)


@functools.cache
def _plan(message: type) -> Mapping[str, tuple[bytes, bool]]:
    """Per field name: its tag, and whether it is an integer (else length-delimited)."""
    plan = {}
    for name, meta in message._betterproto.meta_by_field_name.items():  # type: ignore[attr-defined]  # noqa: SLF001 - the only place the generated code keeps numbers
        integer = meta.proto_type in _VARINT
        plan[name] = (varint(meta.number << 3 | (0 if integer else _WIRE_BYTES)), integer)
    return plan


def build(message: type, /, **fields: Any) -> bytes:
    """Encode a message of pysui's generated type. Values: int, bool, str, bytes (also of an encoded message), lists of
    those (of integers unpacked), mappings from str to str; None is left out.
    """
    plan = _plan(message)
    out: list[bytes] = []
    for name, value in fields.items():
        if value is None:
            continue
        tag, integer = plan[name]
        if integer:
            for number in value if isinstance(value, list) else (value,):
                out += (tag, varint(int(number)))
        elif isinstance(value, list):
            for item in value:
                data = item.encode() if isinstance(item, str) else item
                out += (tag, varint(len(data)), data)
        elif isinstance(value, dict):
            for key, entry in value.items():
                data = delimited(1, key.encode()) + delimited(2, entry.encode())
                out += (tag, varint(len(data)), data)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += (tag, varint(len(data)), data)
    return b"".join(out)


def delimited(number: int, data: bytes) -> bytes:
    """One length-delimited field."""
    return varint(number << 3 | _WIRE_BYTES) + varint(len(data)) + data


def timestamp(timestamp_ms: int) -> bytes:
    """`google.protobuf.Timestamp`."""
    seconds, milliseconds = divmod(timestamp_ms, 1000)
    nanos = b"\x10" + varint(milliseconds * 1_000_000) if milliseconds else b""
    return b"\x08" + varint(seconds) + nanos


Mask = Mapping[str, "Mask"]


def mask_of(message: type, paths: Iterable[str] | None, default: Iterable[str]) -> Mask | None:
    """A read mask of a message as a tree; None keeps everything. A path covers what lies below it.

    Raises:
        LedgerError: a path names a field that the message does not have.
    """
    chosen = set(paths) if paths is not None else set()
    chosen = chosen or set(default)
    if "*" in chosen:
        return None
    tree: dict[str, Any] = {}
    for path in chosen:
        names = path.split(".")
        _check_path(message, names)
        if any(".".join(names[:length]) in chosen for length in range(1, len(names))):
            continue
        node = tree
        for name in names:
            node = node.setdefault(name, {})
    return tree


def _check_path(message: type, names: Sequence[str]) -> None:
    for position, name in enumerate(names):
        meta = message._betterproto  # type: ignore[attr-defined]  # noqa: SLF001 - see _plan
        if name not in meta.meta_by_field_name:
            raise LedgerError(f"invalid read_mask path: {message.__name__} has no field {name}", reason="bad-mask")
        below = meta.cls_by_field.get(name)
        if position + 1 < len(names):
            if not hasattr(below, "_betterproto"):
                raise LedgerError(f"invalid read_mask path: {'.'.join(names)} goes below a value", reason="bad-mask")
            message = below


def prune(message: type, data: bytes, mask: Mask | None) -> bytes:
    """The encoded message with only the fields that the mask names; an empty subtree keeps the whole field."""
    if not mask:
        return data
    meta = message._betterproto  # type: ignore[attr-defined]  # noqa: SLF001 - see _plan
    kept: dict[int, tuple[str, Mask]] = {}
    for name, below in mask.items():
        kept[meta.meta_by_field_name[name].number] = (name, below)
    out: list[bytes] = []
    position = 0
    while position < len(data):
        start = position
        tag, position = _read_varint(data, position)
        if tag & 7 == _WIRE_BYTES:
            length, position = _read_varint(data, position)
            body = position
            position += length
        else:
            _, position = _read_varint(data, position)
            body = position
        if tag >> 3 not in kept:
            continue
        name, below = kept[tag >> 3]
        if below and tag & 7 == _WIRE_BYTES:
            out.append(delimited(tag >> 3, prune(meta.cls_by_field[name], data[body:position], below)))
        else:
            out.append(data[start:position])
    return b"".join(out)


def parts(message: type, data: bytes, name: str) -> Iterator[bytes]:
    """The bodies of one length-delimited field of an encoded message, in order."""
    wanted = message._betterproto.meta_by_field_name[name].number  # type: ignore[attr-defined]  # noqa: SLF001 - see _plan
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        length, body = _read_varint(data, position)
        position = body
        if tag & 7 == _WIRE_BYTES:
            position = body + length
            if tag >> 3 == wanted:
                yield data[body:position]


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def base58(data: bytes) -> str:
    """Bitcoin's base 58, as Sui writes digests."""
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def unbase58(text: str) -> bytes:
    """The 32 bytes of a digest in base 58.

    Raises:
        LedgerError: not base 58 of 32 bytes.
    """
    number = 0
    for character in text[:64]:
        digit = _BASE58.find(character)
        if digit < 0:
            raise LedgerError(f"expected a base-58 digest, got {text[:64]!r}", reason="bad-digest")
        number = number * 58 + digit
    if not text or number >> 256:
        raise LedgerError(f"expected a base-58 digest of 32 bytes, got {text[:64]!r}", reason="bad-digest")
    return number.to_bytes(32, "big")
