"""Decodes BCS of Move structures into frozen structs whose annotated fields stand in the order of the Move fields."""

from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from daas.common.bcs import Reader
from daas.ledger.address import format_address

#: Object id or address: 32 bytes of BCS, "0x" and 64 hex digits in Python.
ObjectId = Annotated[str, "id"]
U8 = Annotated[int, "u8"]
U32 = Annotated[int, "u32"]
U64 = Annotated[int, "u64"]
Bytes = Annotated[bytes, "bytes"]
Bool = Annotated[bool, "bool"]

S = TypeVar("S", bound=msgspec.Struct)


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple((name, hints[name]) for name in kind.__struct_fields__)


def _read(hint: Any, reader: Reader) -> Any:
    if get_origin(hint) is Annotated:
        code = get_args(hint)[1]
        if code == "id":
            return format_address(reader.address())
        if code == "u8":
            return reader.u8()
        return {"u32": reader.u32, "u64": reader.u64, "bytes": reader.bytes_, "bool": reader.boolean}[code]()
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        return tuple(reader.vector(lambda: _read(element, reader)))
    return read_struct(hint, reader)


def read_struct(kind: type[S], reader: Reader) -> S:
    """One structure from the reader's position on."""
    return kind(**{name: _read(hint, reader) for name, hint in _fields(kind)})


def decode_struct(kind: type[S], data: bytes) -> S:
    """One structure that is the whole of `data`.

    Raises:
        DecodeError: truncated, not canonical, or with bytes left over.
    """
    reader = Reader(data)
    value = read_struct(kind, reader)
    reader.end()
    return value
