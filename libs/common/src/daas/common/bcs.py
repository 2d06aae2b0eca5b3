"""Binary Canonical Serialization: the encoders we sign and hash with, and a strict reader.

Source: the BCS specification of the Move language (little-endian integers, ULEB128 lengths, no padding, one encoding
per value). Encoders are functions from a value to bytes; a structure is the concatenation of its fields in order.
"""

import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

from daas.common.errors import DecodeError, InvalidInput

T = TypeVar("T")

ADDRESS_LENGTH = 32
#: Sequence lengths fit 31 bits in BCS; more is malformed.
MAX_LENGTH = 2**31 - 1
#: The prefixes of nearly everything that is encoded.
_SHORT_LENGTHS = tuple(bytes((length,)) for length in range(128))
#: Three of them stand in every leaf and every grant; this is twice as fast as int.to_bytes with a range check.
_U64 = struct.Struct("<Q").pack


def _unsigned(value: int, size: int) -> bytes:
    if not 0 <= value < 1 << (8 * size):
        raise InvalidInput(f"{value} does not fit an unsigned integer of {8 * size} bits", reason="bcs-integer-range")
    return value.to_bytes(size, "little")


def u8(value: int) -> bytes:
    """Unsigned 8-bit integer, 1 byte."""
    return _unsigned(value, 1)


def u16(value: int) -> bytes:
    """Unsigned 16-bit integer, 2 bytes little-endian."""
    return _unsigned(value, 2)


def u32(value: int) -> bytes:
    """Unsigned 32-bit integer, 4 bytes little-endian."""
    return _unsigned(value, 4)


def u64(value: int) -> bytes:
    """Unsigned 64-bit integer, 8 bytes little-endian."""
    try:
        return _U64(value)
    except struct.error:
        return _unsigned(value, 8)  # says what is wrong


def u128(value: int) -> bytes:
    """Unsigned 128-bit integer, 16 bytes little-endian."""
    return _unsigned(value, 16)


def boolean(value: bool) -> bytes:
    """One byte, 0 or 1."""
    return b"\x01" if value else b"\x00"


def uleb128(value: int) -> bytes:
    """Length prefix: 7 bits a byte, least significant first, shortest form."""
    if not 0 <= value <= MAX_LENGTH:
        raise InvalidInput(f"{value} is not a BCS length (0..{MAX_LENGTH})", reason="bcs-length-range")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_(value: bytes) -> bytes:
    """vector<u8>: length, then the bytes."""
    length = len(value)
    return (_SHORT_LENGTHS[length] if length < 128 else uleb128(length)) + value


def string(value: str) -> bytes:
    """UTF-8 string: length in bytes, then the bytes."""
    encoded = value.encode()
    length = len(encoded)
    return (_SHORT_LENGTHS[length] if length < 128 else uleb128(length)) + encoded


def address(value: bytes) -> bytes:
    """A Sui address or object id: 32 bytes, no length prefix."""
    if len(value) != ADDRESS_LENGTH:
        raise InvalidInput(f"an address has {ADDRESS_LENGTH} bytes, not {len(value)}", reason="bcs-address-length")
    return value


def vector(encode: Callable[[T], bytes], values: Iterable[T]) -> bytes:
    """vector<T>: length, then each element."""
    parts = [encode(value) for value in values]
    return uleb128(len(parts)) + b"".join(parts)


def option(encode: Callable[[T], bytes], value: T | None) -> bytes:
    """Option<T>: 0 for none, 1 and the element for some."""
    return b"\x00" if value is None else b"\x01" + encode(value)


class Reader:
    """Strict reader over a buffer: refuses truncation, non-shortest lengths, other booleans and trailing bytes.

    Raises:
        DecodeError: with reason `bcs-*` at the first byte that is not canonical.
    """

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, count: int) -> bytes:
        """The next `count` raw bytes."""
        end = self._offset + count
        if end > len(self._data):
            raise DecodeError(
                f"expected {count} bytes at offset {self._offset}, {len(self._data) - self._offset} are left",
                reason="bcs-truncated",
            )
        part = self._data[self._offset : end]
        self._offset = end
        return part

    def u8(self) -> int:
        """Unsigned 8-bit integer."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Unsigned 16-bit integer."""
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        """Unsigned 32-bit integer."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """Unsigned 64-bit integer."""
        return int.from_bytes(self.take(8), "little")

    def u128(self) -> int:
        """Unsigned 128-bit integer."""
        return int.from_bytes(self.take(16), "little")

    def boolean(self) -> bool:
        """One byte, 0 or 1 and nothing else."""
        value = self.u8()
        if value > 1:
            raise DecodeError(f"a boolean is 0 or 1, not {value}", reason="bcs-boolean")
        return value == 1

    def uleb128(self) -> int:
        """Length prefix in its shortest form, at most 2^31-1."""
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if value > MAX_LENGTH:
                raise DecodeError(f"length above {MAX_LENGTH}", reason="bcs-length-range")
            if byte < 0x80:
                if byte == 0 and shift:
                    raise DecodeError("length not in its shortest form", reason="bcs-length-form")
                return value
            shift += 7

    def bytes_(self) -> bytes:
        """vector<u8>."""
        return self.take(self.uleb128())

    def string(self) -> str:
        """UTF-8 string."""
        raw = self.bytes_()
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"string is not UTF-8: {error.reason}", reason="bcs-string") from None

    def address(self) -> bytes:
        """32 raw bytes."""
        return self.take(ADDRESS_LENGTH)

    def vector(self, decode: Callable[[], T]) -> list[T]:
        """vector<T>; the count is checked against the bytes left before anything is built."""
        count = self.uleb128()
        if count > len(self._data) - self._offset:
            raise DecodeError(f"vector of {count} elements in fewer bytes", reason="bcs-truncated")
        return [decode() for _ in range(count)]

    def option(self, decode: Callable[[], T]) -> T | None:
        """Option<T>."""
        return decode() if self.boolean() else None

    def end(self) -> None:
        """Asserts that nothing is left."""
        left = len(self._data) - self._offset
        if left:
            raise DecodeError(f"{left} trailing bytes after the value", reason="bcs-trailing")
