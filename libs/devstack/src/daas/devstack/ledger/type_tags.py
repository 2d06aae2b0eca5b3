"""Move types as values: parsing, printing, substitution of type parameters, and the BCS form of type tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from daas.devstack.ledger.errors import LedgerError

ADDRESS_LENGTH: Final = 32
STD: Final = bytes(31) + b"\x01"
SUI: Final = bytes(31) + b"\x02"

INTEGER_BITS: Final[Mapping[str, int]] = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "u128": 128, "u256": 256}
PRIMITIVES: Final = frozenset(INTEGER_BITS) | {"bool", "address", "signer"}


class Vector(msgspec.Struct, frozen=True, cache_hash=True):
    """`vector<element>`."""

    element: Type


class Datatype(msgspec.Struct, frozen=True, cache_hash=True):
    """A struct type, with its type arguments filled in."""

    address: bytes
    module: str
    name: str
    arguments: tuple[Type, ...] = ()

    @property
    def key(self) -> tuple[bytes, str, str]:
        """The definition this type instantiates."""
        return (self.address, self.module, self.name)


class Reference(msgspec.Struct, frozen=True, cache_hash=True):
    """`&target` or `&mut target`."""

    target: Type
    mutable: bool


class Parameter(msgspec.Struct, frozen=True, cache_hash=True):
    """The type parameter of a generic function or struct, by position."""

    index: int


Type = str | Vector | Datatype | Reference | Parameter

BYTES: Final = Vector("u8")
TX_CONTEXT: Final = Datatype(SUI, "tx_context", "TxContext")
COIN_KEY: Final = (SUI, "coin", "Coin")
SUI_TYPE: Final = Datatype(SUI, "sui", "SUI")
GAS_COIN: Final = Datatype(SUI, "coin", "Coin", (SUI_TYPE,))


def substitute(type_: Type, arguments: tuple[Type, ...]) -> Type:
    """`type_` with every type parameter replaced by the argument at its position."""
    if isinstance(type_, str) or not arguments:
        return type_
    if isinstance(type_, Parameter):
        return arguments[type_.index]
    if isinstance(type_, Vector):
        return Vector(substitute(type_.element, arguments))
    if isinstance(type_, Reference):
        return Reference(substitute(type_.target, arguments), type_.mutable)
    if not type_.arguments:
        return type_
    return Datatype(type_.address, type_.module, type_.name, tuple(substitute(t, arguments) for t in type_.arguments))


def format_address(address: bytes) -> str:
    """The canonical form: 0x and 64 hex digits."""
    return "0x" + address.hex()


def parse_address(text: str) -> bytes:
    """32 bytes of an address with or without 0x, short forms padded on the left.

    Raises:
        LedgerError: not hexadecimal, or longer than 32 bytes.
    """
    digits = text.removeprefix("0x").removeprefix("0X")
    if not 1 <= len(digits) <= 2 * ADDRESS_LENGTH or not re.fullmatch(r"[0-9a-fA-F]+", digits):
        raise LedgerError(f"expected an address of 1 to 64 hex digits, got {text[:80]!r}", reason="bad-address")
    return bytes.fromhex(digits.zfill(2 * ADDRESS_LENGTH))


def format_type(type_: Type) -> str:
    """Canonical string of a type, with full-length addresses."""
    if isinstance(type_, str):
        return type_
    if isinstance(type_, Vector):
        return f"vector<{format_type(type_.element)}>"
    if isinstance(type_, Reference):
        return ("&mut " if type_.mutable else "&") + format_type(type_.target)
    if isinstance(type_, Parameter):
        return f"T{type_.index}"
    text = f"{format_address(type_.address)}::{type_.module}::{type_.name}"
    return text + (f"<{','.join(format_type(t) for t in type_.arguments)}>" if type_.arguments else "")


_TOKEN = re.compile(r"\s*(&mut\b|&|::|[<>,()]|[A-Za-z_0-9]+)")
_NESTING_MAX: Final = 16  # Sui's own limit on the depth of a type tag


class TypeParser:
    """Recursive descent over a type's text; `resolve` answers names that carry no address."""

    def __init__(self, text: str, resolve: Callable[[str], Type | None] | None = None) -> None:
        self.tokens: list[str] = []
        self.text = text
        self.position = 0
        self._resolve = resolve
        at = 0
        stripped = text.rstrip()
        while at < len(stripped):
            match = _TOKEN.match(stripped, at)
            if match is None:
                raise self.error("a type")
            self.tokens.append(match[1])
            at = match.end()

    def error(self, expected: str) -> LedgerError:
        """What was expected at the current token."""
        return LedgerError(f"expected {expected} at token {self.position} of {self.text[:200]!r}", reason="bad-type")

    def peek(self) -> str:
        """The next token, or an empty string at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        """Consume the next token, which must be `expected` if given."""
        token = self.peek()
        if not token or (expected is not None and token != expected):
            raise self.error(expected or "a token")
        self.position += 1
        return token

    def type(self, depth: int = 0) -> Type:
        """Parse one type."""
        if depth > _NESTING_MAX:
            raise self.error(f"at most {_NESTING_MAX} nested types")
        word = self.take()
        if word in {"&", "&mut"}:
            return Reference(self.type(depth + 1), mutable=word == "&mut")
        if word == "vector":
            (element,) = self.arguments(depth)
            return Vector(element)
        if word in PRIMITIVES:
            return word
        if self.peek() == "::":
            self.take("::")
            module = self.take()
            self.take("::")
            return Datatype(parse_address(word), module, self.take(), self.arguments(depth))
        resolved = self._resolve(word) if self._resolve else None
        if resolved is None:
            raise self.error("a known type")
        if isinstance(resolved, Datatype):
            return Datatype(resolved.address, resolved.module, resolved.name, self.arguments(depth))
        return resolved

    def arguments(self, depth: int) -> tuple[Type, ...]:
        """Parse `<T, ...>` if it is there."""
        if self.peek() != "<":
            return ()
        self.take("<")
        found = [self.type(depth + 1)]
        while self.peek() == ",":
            self.take(",")
            found.append(self.type(depth + 1))
        self.take(">")
        return tuple(found)


def parse_type(text: str) -> Type:
    """A type from its canonical or short string.

    Raises:
        LedgerError: the text is not a type.
    """
    parser = TypeParser(text)
    parsed = parser.type()
    if parser.peek():
        raise parser.error("the end")
    return parsed


_TAG_INDEX: Final = {
    "bool": 0, "u8": 1, "u64": 2, "u128": 3, "address": 4, "signer": 5, "u16": 8, "u32": 9, "u256": 10,
}  # fmt: skip
TAG_NAMES: Final = {index: name for name, index in _TAG_INDEX.items()}
TAG_VECTOR: Final = 6
TAG_STRUCT: Final = 7


def struct_tag_bytes(type_: Datatype) -> bytes:
    """BCS of a StructTag."""
    module, name = type_.module.encode(), type_.name.encode()
    return b"".join(
        (
            type_.address,
            bytes((len(module),)),
            module,
            bytes((len(name),)),
            name,
            bytes((len(type_.arguments),)),
            *(type_tag_bytes(t) for t in type_.arguments),
        )
    )


def type_tag_bytes(type_: Type) -> bytes:
    """BCS of a TypeTag; references and parameters have none."""
    if isinstance(type_, str):
        return bytes((_TAG_INDEX[type_],))
    if isinstance(type_, Vector):
        return bytes((TAG_VECTOR,)) + type_tag_bytes(type_.element)
    if isinstance(type_, Datatype):
        return bytes((TAG_STRUCT,)) + struct_tag_bytes(type_)
    raise LedgerError(f"expected a concrete type, got {format_type(type_)}", reason="bad-type")
