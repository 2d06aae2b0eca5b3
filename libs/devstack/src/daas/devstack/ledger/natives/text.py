"""`std::string` and `std::ascii`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, Ref
from daas.devstack.ledger.natives.standard import ascii_module
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
INVALID_UTF8: Final = 1
INVALID_INDEX: Final = 2
INVALID_ASCII: Final = 0x10000
INVALID_ASCII_INDEX: Final = 0x10001

string = framework_module("std::string")


def _is_utf8(data: bytes | bytearray) -> bool:
    try:
        bytes(data).decode()
    except UnicodeDecodeError:
        return False
    return True


@string.function("public fun utf8(vector<u8>): String")
def _utf8(_execution: Execution, _types: Types, data: bytearray) -> Any:
    if not _is_utf8(data):
        raise AbortError(INVALID_UTF8)
    return [data]


@string.function("public fun try_utf8(vector<u8>): 0x1::option::Option<String>")
def _try_utf8(_execution: Execution, _types: Types, data: bytearray) -> Any:
    return [[[data]]] if _is_utf8(data) else [[]]


@string.function("public fun from_ascii(AsciiString): String")
def _from_ascii(_execution: Execution, _types: Types, text: Any) -> Any:
    return text


@string.function("public fun to_ascii(String): AsciiString")
def _to_ascii(_execution: Execution, _types: Types, text: Any) -> Any:
    if not text[0].isascii():
        raise AbortError(INVALID_ASCII, "ascii::string")  # that of std::ascii, of the same package
    return text


@string.function("public fun as_bytes(&String): &vector<u8>")
@string.function("public fun bytes(&String): &vector<u8>")
@ascii_module.function("public fun as_bytes(&AsciiString): &vector<u8>")
def _as_bytes(_execution: Execution, _types: Types, text: Ref) -> Ref:
    return Ref(text.get(), 0)


@string.function("public fun into_bytes(String): vector<u8>")
@ascii_module.function("public fun into_bytes(AsciiString): vector<u8>")
def _into_bytes(_execution: Execution, _types: Types, text: Any) -> Any:
    return text[0]


@string.function("public fun is_empty(&String): bool")
@ascii_module.function("public fun is_empty(&AsciiString): bool")
def _is_empty(_execution: Execution, _types: Types, text: Ref) -> bool:
    return not text.get()[0]


@string.function("public fun length(&String): u64")
@ascii_module.function("public fun length(&AsciiString): u64")
def _length(_execution: Execution, _types: Types, text: Ref) -> int:
    return len(text.get()[0])


@string.function("public fun append(&mut String, String)")
@ascii_module.function("public fun append(&mut AsciiString, AsciiString)")
def _append(_execution: Execution, _types: Types, text: Ref, other: Any) -> None:
    text.get()[0].extend(other[0])


@string.function("public fun append_utf8(&mut String, vector<u8>)")
def _append_utf8(_execution: Execution, _types: Types, text: Ref, data: bytearray) -> None:
    if not _is_utf8(data):
        raise AbortError(INVALID_UTF8, "string::utf8")
    text.get()[0].extend(data)


@string.function("public fun substring(&String, u64, u64): String")
def _substring(_execution: Execution, _types: Types, text: Ref, start: int, end: int) -> Any:
    data = text.get()[0]
    piece = data[start:end]
    if not start <= end <= len(data) or not _is_utf8(data[:start]) or not _is_utf8(piece):
        raise AbortError(INVALID_INDEX)
    return [piece]


@string.function("public fun insert(&mut String, u64, String)")
def _insert(_execution: Execution, _types: Types, text: Ref, at: int, other: Any) -> None:
    data = text.get()[0]
    if at > len(data) or not _is_utf8(data[:at]):
        raise AbortError(INVALID_INDEX)
    data[at:at] = other[0]


@string.function("public fun index_of(&String, &String): u64")
def _index_of(_execution: Execution, _types: Types, text: Ref, wanted: Ref) -> int:
    data = text.get()[0]
    found = data.find(wanted.get()[0])
    return len(data) if found < 0 else found


@ascii_module.function("public fun string(vector<u8>): AsciiString")
def _ascii_string(_execution: Execution, _types: Types, data: bytearray) -> Any:
    if not data.isascii():
        raise AbortError(INVALID_ASCII)
    return [data]


@ascii_module.function("public fun substring(&AsciiString, u64, u64): AsciiString")
def _ascii_substring(_execution: Execution, _types: Types, text: Ref, start: int, end: int) -> Any:
    data = text.get()[0]
    if not start <= end <= len(data):
        raise AbortError(INVALID_ASCII_INDEX)
    return [data[start:end]]


@ascii_module.function("public fun index_of(&AsciiString, &AsciiString): u64")
def _ascii_index_of(_execution: Execution, _types: Types, text: Ref, wanted: Ref) -> int:
    data = text.get()[0]
    found = data.find(wanted.get()[0])
    return len(data) if found < 0 else found


@ascii_module.function("public fun to_uppercase(&AsciiString): AsciiString")
def _to_uppercase(_execution: Execution, _types: Types, text: Ref) -> Any:
    return [text.get()[0].upper()]


@ascii_module.function("public fun to_lowercase(&AsciiString): AsciiString")
def _to_lowercase(_execution: Execution, _types: Types, text: Ref) -> Any:
    return [text.get()[0].lower()]


@ascii_module.function("public fun try_string(vector<u8>): 0x1::option::Option<AsciiString>")
def _try_ascii_string(_execution: Execution, _types: Types, data: bytearray) -> Any:
    return [[[data]]] if data.isascii() else [[]]
