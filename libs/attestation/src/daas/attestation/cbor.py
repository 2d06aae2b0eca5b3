"""A strict reader and a deterministic writer for the small CBOR subset (RFC 8949) that Nitro documents and the NSM use.

The reader accepts unsigned and negative integers, definite byte and text strings, arrays and maps (definite or
indefinite), null, and only where the caller says so booleans and one tag. It refuses chunked strings, floats, other
simple values, heads that are not the shortest, duplicate map keys, trailing bytes, truncation, counts larger than
the bytes left, and nesting deeper than `DEPTH_MAX`. General decoders are too lenient here: they keep the last of two
equal keys and ignore trailing bytes, so two verifiers can read two different documents out of the same signed bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from daas.common.errors import DecodeError, InvalidInput

# COSE array > payload is a byte string of its own; inside it map > pcrs or cabundle > value is depth 2. An NSM
# response is map > map > array > value. Four leaves one to spare.
DEPTH_MAX = 4

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_BREAK = 0xFF
_FALSE, _TRUE, _NULL = 20, 21, 22


@dataclass(frozen=True, slots=True)
class Tagged:
    """A CBOR tag number and the value under it."""

    tag: int
    value: "Value"


Value: TypeAlias = int | bytes | str | bool | list["Value"] | dict["int | str", "Value"] | Tagged | None


class CborError(DecodeError):
    """Bytes outside the accepted subset of CBOR."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="cbor")


def loads(data: bytes, *, allow_tag: bool = False, allow_bool: bool = False) -> Value:
    """Read exactly one value that fills `data`.

    Args:
        data: the encoding; nothing may follow the value.
        allow_tag: accept one tag around the outermost value, given back as `Tagged`.
        allow_bool: accept true and false (NSM responses have them, attestation documents don't).

    Raises:
        CborError: `data` is not one value of the subset.
    """
    reader = _Reader(data, allow_bool=allow_bool)
    value = reader.value(0, allow_tag=allow_tag)
    if reader.position != reader.end:
        raise CborError(f"trailing bytes: the value ends at {reader.position} of {reader.end}")
    return value


class _Reader:
    __slots__ = ("allow_bool", "data", "end", "position")

    def __init__(self, data: bytes, *, allow_bool: bool) -> None:
        self.data = data
        self.position = 0
        self.end = len(data)
        self.allow_bool = allow_bool

    def take(self, count: int) -> bytes:
        stop = self.position + count
        if stop > self.end:
            raise CborError(f"truncated: {count} bytes wanted at {self.position}, {self.end - self.position} left")
        taken = self.data[self.position : stop]
        self.position = stop
        return taken

    def head(self) -> tuple[int, int | None]:
        """Major type and argument; the argument is None for an indefinite length."""
        initial = self.take(1)[0]
        major, info = initial >> 5, initial & 31
        if info < 24:
            return major, info
        if info <= 27:
            width = 1 << (info - 24)
            argument = int.from_bytes(self.take(width), "big")
            if argument < (24 if width == 1 else 1 << (4 * width)):
                raise CborError(f"non-shortest head before {self.position}")
            return major, argument
        if info == 31 and major in (_ARRAY, _MAP):
            return major, None
        raise CborError(f"reserved, chunked or misplaced break head 0x{initial:02x} at {self.position - 1}")

    def at_break(self) -> bool:
        if self.position >= self.end:
            raise CborError("truncated: no break byte")
        if self.data[self.position] == _BREAK:
            self.position += 1
            return True
        return False

    def value(self, depth: int, *, allow_tag: bool = False) -> Value:
        if depth > DEPTH_MAX:
            raise CborError(f"too deep: more than {DEPTH_MAX} levels")
        major, argument = self.head()
        if major == _ARRAY:
            return self._array(argument, depth)
        if major == _MAP:
            return self._map(argument, depth)
        if argument is None:  # head() allows no argument for arrays and maps only
            raise CborError("indefinite length of something that is no array or map")
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            try:
                return self.take(argument).decode("utf-8")
            except UnicodeDecodeError:
                raise CborError(f"text that is not UTF-8 before {self.position}") from None
        if major == _TAG:
            if not allow_tag:
                raise CborError(f"tag not allowed here: {argument}")
            return Tagged(argument, self.value(depth + 1))
        if argument == _NULL:
            return None
        if self.allow_bool and argument in (_FALSE, _TRUE):
            return argument == _TRUE
        raise CborError(f"simple value or float not allowed: {argument}")

    def _array(self, count: int | None, depth: int) -> list[Value]:
        items: list[Value] = []
        if count is None:
            while not self.at_break():
                items.append(self.value(depth + 1))
            return items
        self._check_count(count)
        items.extend(self.value(depth + 1) for _ in range(count))
        return items

    def _map(self, count: int | None, depth: int) -> dict[int | str, Value]:
        pairs: dict[int | str, Value] = {}
        if count is None:
            while not self.at_break():
                self._pair(pairs, depth)
            return pairs
        self._check_count(2 * count)
        for _ in range(count):
            self._pair(pairs, depth)
        return pairs

    def _pair(self, pairs: dict[int | str, Value], depth: int) -> None:
        key = self.value(depth + 1)
        # bool is an int to Python: True would silently be the key 1.
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise CborError(f"map key is neither integer nor text before {self.position}")
        if key in pairs:
            raise CborError(f"duplicate map key before {self.position}")
        pairs[key] = self.value(depth + 1)

    def _check_count(self, items: int) -> None:
        """Each item takes at least one byte, so a larger claim is a lie; refuse it before allocating anything."""
        if items > self.end - self.position:
            raise CborError(f"count larger than input: {items} items, {self.end - self.position} bytes left")


def head(major: int, argument: int) -> bytes:
    """The shortest head of a major type (0..7) and an argument (0 .. 2**64 - 1)."""
    if not 0 <= major <= 7 or not 0 <= argument < 1 << 64:
        raise InvalidInput(f"CBOR head out of range: major {major}, argument {argument}", reason="cbor-encode")
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * width):
            return bytes([major << 5 | info]) + argument.to_bytes(width, "big")
    raise AssertionError("unreachable: the argument was checked to fit 8 bytes")


def bstr(data: bytes) -> bytes:
    """`data` as a definite byte string."""
    return head(_BYTES, len(data)) + data


def dumps(value: object) -> bytes:
    """Encode int, bytes, str, bool, None, sequences and mappings with shortest heads, keeping the order of mappings.

    Raises:
        InvalidInput: a type or a number outside that.
    """
    if value is None:
        return bytes([_SIMPLE << 5 | _NULL])
    if isinstance(value, bool):
        return bytes([_SIMPLE << 5 | (_TRUE if value else _FALSE)])
    if isinstance(value, int):
        return head(_UNSIGNED, value) if value >= 0 else head(_NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return bstr(value)
    if isinstance(value, str):
        text = value.encode("utf-8")
        return head(_TEXT, len(text)) + text
    if isinstance(value, Mapping):
        return head(_MAP, len(value)) + b"".join(dumps(key) + dumps(item) for key, item in value.items())
    if isinstance(value, Sequence):
        return head(_ARRAY, len(value)) + b"".join(dumps(item) for item in value)
    raise InvalidInput(f"no CBOR encoding for {type(value).__name__}", reason="cbor-encode")
