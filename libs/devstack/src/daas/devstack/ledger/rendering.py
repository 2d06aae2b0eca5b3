"""Move values as JSON, the way full nodes show them: wide integers as strings, bytes in base 64, text types as text."""

from __future__ import annotations

import base64
import struct
from typing import Any, Final

from daas.devstack.ledger.encoding import Value
from daas.devstack.ledger.program import Program
from daas.devstack.ledger.type_tags import BYTES, STD, SUI, Datatype, Type, Vector, format_address
from daas.devstack.ledger.wire import delimited, varint

_NUMBERS: Final = frozenset({"u8", "u16", "u32"})
_TEXT: Final = frozenset({(STD, "string", "String"), (STD, "ascii", "String"), (SUI, "url", "Url")})
_OPTION: Final = (STD, "option", "Option")
_TYPE_NAME: Final = (STD, "type_name", "TypeName")
_BALANCE: Final = (SUI, "balance", "Balance")
_UID, _ID = (SUI, "object", "UID"), (SUI, "object", "ID")


def json_of(program: Program, type_: Type, value: Value) -> Any:
    """A Move value as JSON types."""
    if isinstance(type_, str):
        if type_ == "bool":
            return bool(value)
        if type_ == "address":
            return format_address(value)
        return value if type_ in _NUMBERS else str(value)
    if type_ == BYTES:
        return base64.b64encode(value).decode()
    if isinstance(type_, Vector):
        return [json_of(program, type_.element, item) for item in value]
    assert isinstance(type_, Datatype)
    if type_.key in _TEXT:
        return bytes(value[0]).decode(errors="replace")
    if type_.key == _TYPE_NAME:
        return bytes(value[0][0]).decode(errors="replace")
    if type_.key == _OPTION:
        return json_of(program, type_.arguments[0], value[0][0]) if value[0] else None
    if type_.key == _UID:
        return format_address(value[0][0])
    if type_.key == _ID:
        return format_address(value[0])
    if type_.key == _BALANCE:
        return str(value[0])
    names = program.struct(type_).fields
    fields = program.fields(type_)
    return {name: json_of(program, t, item) for (name, _), t, item in zip(names, fields, value, strict=True)}


def json_message(value: Any) -> bytes:
    """`google.protobuf.Value` of JSON types."""
    if value is None:
        return b"\x08\x00"
    if isinstance(value, bool):
        return b"\x20" + bytes((value,))
    if isinstance(value, int):
        return b"\x11" + struct.pack("<d", value)
    if isinstance(value, str):
        return delimited(3, value.encode())
    if isinstance(value, list):
        return delimited(6, b"".join(delimited(1, json_message(item)) for item in value))
    fields = [
        delimited(1, delimited(1, key.encode()) + delimited(2, json_message(item))) for key, item in value.items()
    ]
    return b"\x2a" + varint(sum(map(len, fields))) + b"".join(fields)


def rendered(program: Program, type_: Type, contents: bytes) -> bytes:
    """`google.protobuf.Value` of a value given by its BCS."""
    return json_message(json_of(program, type_, program.codec.decode(type_, contents)))
