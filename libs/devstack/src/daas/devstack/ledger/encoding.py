"""BCS of Move values, with one encoder and decoder compiled per type and kept.

Values are: int, bool, `bytes` of 32 for an address, `bytearray` for vector<u8>, `list` for any other vector and for the
fields of a struct in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from daas.devstack.ledger.errors import LedgerError
from daas.devstack.ledger.type_tags import (
    ADDRESS_LENGTH,
    BYTES,
    INTEGER_BITS,
    TAG_NAMES,
    TAG_STRUCT,
    TAG_VECTOR,
    Datatype,
    Type,
    Vector,
    format_type,
)

Value = Any
Encoder = Callable[[Value, bytearray], None]
Decoder = Callable[["Cursor"], Value]


class Cursor:
    """Reads little-endian BCS from the front of some bytes."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.position + count
        if end > len(self.data):
            raise LedgerError(
                f"expected {count} bytes at {self.position}, got {len(self.data) - self.position}", reason="bad-bcs"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def integer(self, length: int) -> int:
        """An unsigned integer of `length` bytes."""
        return int.from_bytes(self.take(length), "little")

    def uleb(self) -> int:
        """A ULEB128 integer of at most 32 bits, in its shortest form."""
        value = shift = 0
        while True:
            byte = self.integer(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or value >> 32:
                    raise LedgerError("expected a canonical 32-bit ULEB128", reason="bad-bcs")
                return value
            shift += 7
            if shift > 28:
                raise LedgerError("expected a ULEB128 of at most five bytes", reason="bad-bcs")

    def boolean(self) -> bool:
        """A strict boolean."""
        byte = self.integer(1)
        if byte > 1:
            raise LedgerError(f"expected 0 or 1 for a bool, got {byte}", reason="bad-bcs")
        return byte == 1

    def string(self) -> str:
        """A length-prefixed UTF-8 string."""
        return self.take(self.uleb()).decode()

    def blob(self) -> bytes:
        """Length-prefixed bytes."""
        return self.take(self.uleb())

    def type_tag(self, depth: int = 0) -> Type:
        """A TypeTag."""
        index = self.uleb()
        if name := TAG_NAMES.get(index):
            return name
        if depth > 16:
            raise LedgerError("expected at most 16 nested type tags", reason="bad-bcs")
        if index == TAG_VECTOR:
            return Vector(self.type_tag(depth + 1))
        if index != TAG_STRUCT:
            raise LedgerError(f"expected a type tag, got variant {index}", reason="bad-bcs")
        address, module, name = self.take(ADDRESS_LENGTH), self.string(), self.string()
        return Datatype(address, module, name, tuple(self.type_tag(depth + 1) for _ in range(self.uleb())))

    def finish(self) -> None:
        """Refuse trailing bytes."""
        if self.position != len(self.data):
            raise LedgerError(f"expected the end, got {len(self.data) - self.position} more bytes", reason="bad-bcs")


def uleb(value: int) -> bytes:
    """`value` as ULEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Layouts(Protocol):
    """Who knows the fields of a struct."""

    def fields(self, type_: Datatype) -> tuple[Type, ...]:
        """Types of the fields in order, type arguments filled in."""


class Codec:
    """Encoders and decoders for the types of one set of packages."""

    def __init__(self, layouts: Layouts) -> None:
        self._layouts = layouts
        self._encoders: dict[Type, Encoder] = {}
        self._decoders: dict[Type, Decoder] = {}

    def encode(self, type_: Type, value: Value) -> bytes:
        """BCS of `value`."""
        out = bytearray()
        self.encoder(type_)(value, out)
        return bytes(out)

    def decode(self, type_: Type, data: bytes) -> Value:
        """The value whose BCS is exactly `data`.

        Raises:
            LedgerError: the bytes are not that type, or something follows them.
        """
        cursor = Cursor(data)
        value = self.decoder(type_)(cursor)
        cursor.finish()
        return value

    def encoder(self, type_: Type) -> Encoder:
        """The encoder for `type_`."""
        found = self._encoders.get(type_)
        if found is None:
            found = self._encoders[type_] = self._make_encoder(type_)
        return found

    def decoder(self, type_: Type) -> Decoder:
        """The decoder for `type_`."""
        found = self._decoders.get(type_)
        if found is None:
            found = self._decoders[type_] = self._make_decoder(type_)
        return found

    def _make_encoder(self, type_: Type) -> Encoder:
        if isinstance(type_, str):
            if type_ == "address":
                return lambda value, out: out.extend(value)
            length = 1 if type_ == "bool" else INTEGER_BITS[type_] // 8
            return lambda value, out: out.extend(int(value).to_bytes(length, "little"))
        if type_ == BYTES:

            def encode_bytes(value: Value, out: bytearray) -> None:
                out.extend(uleb(len(value)))
                out.extend(value)

            return encode_bytes
        if isinstance(type_, Vector):
            element = self.encoder(type_.element)

            def encode_vector(value: Value, out: bytearray) -> None:
                out.extend(uleb(len(value)))
                for item in value:
                    element(item, out)

            return encode_vector
        if isinstance(type_, Datatype):
            fields = [self.encoder(t) for t in self._layouts.fields(type_)]

            def encode_struct(value: Value, out: bytearray) -> None:
                for encode, item in zip(fields, value, strict=True):
                    encode(item, out)

            return encode_struct
        raise LedgerError(f"expected a concrete type, got {format_type(type_)}", reason="bad-type")

    def _make_decoder(self, type_: Type) -> Decoder:
        if isinstance(type_, str):
            if type_ == "address":
                return lambda cursor: cursor.take(ADDRESS_LENGTH)
            if type_ == "bool":
                return Cursor.boolean
            length = INTEGER_BITS[type_] // 8
            return lambda cursor: cursor.integer(length)
        if type_ == BYTES:
            return lambda cursor: bytearray(cursor.blob())
        if isinstance(type_, Vector):
            element = self.decoder(type_.element)
            return lambda cursor: [element(cursor) for _ in range(cursor.uleb())]
        if isinstance(type_, Datatype):
            fields = [self.decoder(t) for t in self._layouts.fields(type_)]
            return lambda cursor: [decode(cursor) for decode in fields]
        raise LedgerError(f"expected a concrete type, got {format_type(type_)}", reason="bad-type")
