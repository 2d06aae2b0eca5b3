"""`std::bcs`, `sui::bcs` and `std::type_name`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, NativeFailureError, Ref
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.natives.vectors import some
from daas.devstack.ledger.type_tags import INTEGER_BITS, Type, format_type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
OUT_OF_RANGE: Final = 0
NOT_BOOL: Final = 1
LENGTH_OUT_OF_RANGE: Final = 2

std_bcs = framework_module("std::bcs")
sui_bcs = framework_module("sui::bcs")
ascii_module = framework_module("std::ascii")
type_name = framework_module("std::type_name")


@std_bcs.function("public fun to_bytes<T>(&T): vector<u8>")
@sui_bcs.function("public fun to_bytes<T>(&T): vector<u8>")
def _to_bytes(execution: Execution, types: Types, value: Ref) -> bytearray:
    encoded = execution.codec.encode(types[0], value.get())
    execution.meter.charge(len(encoded) * 2)
    return bytearray(encoded)


# Sui keeps the bytes of a BCS reader reversed, to take them from the end.


@sui_bcs.function("public fun new(vector<u8>): BCS")
def _new(_execution: Execution, _types: Types, data: bytearray) -> Any:
    return [data[::-1]]


@sui_bcs.function("public fun into_remainder_bytes(BCS): vector<u8>")
def _into_remainder_bytes(_execution: Execution, _types: Types, reader: Any) -> bytearray:
    rest: bytearray = reader[0][::-1]
    return rest


def _take(reader: Ref, length: int) -> bytes:
    data = reader.get()[0]
    if len(data) < length:
        raise AbortError(OUT_OF_RANGE)
    piece = bytes(data[len(data) - length :][::-1])
    del data[len(data) - length :]
    return piece


def _integer(length: int) -> Callable[[Execution, Types, Ref], int]:
    def peel(_execution: Execution, _types: Types, reader: Ref) -> int:
        return int.from_bytes(_take(reader, length), "little")

    return peel


for _name, _length in (("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8), ("u128", 16), ("u256", 32)):
    sui_bcs.function(f"public fun peel_{_name}(&mut BCS): {_name}")(_integer(_length))


@sui_bcs.function("public fun peel_address(&mut BCS): address")
def _peel_address(_execution: Execution, _types: Types, reader: Ref) -> bytes:
    return _take(reader, 32)


@sui_bcs.function("public fun peel_bool(&mut BCS): bool")
def _peel_bool(_execution: Execution, _types: Types, reader: Ref) -> bool:
    return _bool_of(reader)


def _bool_of(reader: Ref) -> bool:
    (byte,) = _take(reader, 1)
    if byte > 1:
        raise AbortError(NOT_BOOL)
    return byte == 1


def _length_of(reader: Ref) -> int:
    total = shift = 0
    data = reader.get()[0]
    for _ in range(5):
        if not data:
            raise NativeFailureError("VECTOR_OPERATION_ERROR with sub-status 2", "bcs::peel_vec_length")
        byte: int = data.pop()
        total |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return total
        shift += 7
    raise AbortError(LENGTH_OUT_OF_RANGE, "bcs::peel_vec_length")


@sui_bcs.function("public fun peel_vec_length(&mut BCS): u64")
def _peel_vec_length(_execution: Execution, _types: Types, reader: Ref) -> int:
    return _length_of(reader)


@sui_bcs.function("public fun peel_vec_u8(&mut BCS): vector<u8>")
def _peel_vec_u8(_execution: Execution, _types: Types, reader: Ref) -> bytearray:
    return bytearray(_take(reader, _length_of(reader)))


@sui_bcs.function("public fun peel_vec_vec_u8(&mut BCS): vector<vector<u8>>")
def _peel_vec_vec_u8(_execution: Execution, _types: Types, reader: Ref) -> list[bytearray]:
    return [bytearray(_take(reader, _length_of(reader))) for _ in range(_length_of(reader))]


def _peel(kind: str) -> Callable[[Ref], Any]:
    if kind == "bool":
        return _bool_of
    if kind == "address":
        return lambda reader: _take(reader, 32)
    length = INTEGER_BITS[kind] // 8
    return lambda reader: int.from_bytes(_take(reader, length), "little")


def _peel_many(kind: str) -> None:
    peel = _peel(kind)

    @sui_bcs.function(f"public fun peel_vec_{kind}(&mut BCS): vector<{kind}>")
    def vector_of(_execution: Execution, _types: Types, reader: Ref) -> Any:
        return [peel(reader) for _ in range(_length_of(reader))]

    del vector_of


def _peel_option(kind: str) -> None:
    peel = _peel(kind)

    @sui_bcs.function(f"public fun peel_option_{kind}(&mut BCS): 0x1::option::Option<{kind}>")
    def option_of(_execution: Execution, _types: Types, reader: Ref) -> Any:
        return some(kind, peel(reader)) if _bool_of(reader) else [_empty(kind)]

    del option_of


for _kind in ("address", "bool", "u8", "u16", "u32", "u64", "u128", "u256"):
    if _kind != "u8":
        _peel_many(_kind)
    _peel_option(_kind)


def _empty(kind: str) -> Any:
    return bytearray() if kind == "u8" else []


@sui_bcs.function("public fun peel_enum_tag(&mut BCS): u32")
def _peel_enum_tag(_execution: Execution, _types: Types, reader: Ref) -> int:
    tag = _length_of(reader)
    if tag >> 32:
        raise AbortError(OUT_OF_RANGE)
    return tag


def _type_text(type_: Type) -> Any:
    return [[bytearray(format_type(type_).replace("0x", "").encode())]]


@type_name.function("public fun get<T>(): TypeName")
@type_name.function("public fun with_defining_ids<T>(): TypeName")
def _get(_execution: Execution, types: Types) -> Any:
    return _type_text(types[0])


@type_name.function("public fun get_with_original_ids<T>(): TypeName")
@type_name.function("public fun with_original_ids<T>(): TypeName")
def _get_original(execution: Execution, types: Types) -> Any:
    return _type_text(execution.program.original(types[0]))


@type_name.function("public fun into_string(TypeName): AsciiString")
def _into_string(_execution: Execution, _types: Types, name: Any) -> Any:
    return name[0]


@type_name.function("public fun as_string(&TypeName): &AsciiString")
@type_name.function("public fun borrow_string(&TypeName): &AsciiString")
def _as_string(_execution: Execution, _types: Types, name: Ref) -> Ref:
    return Ref(name.get(), 0)
