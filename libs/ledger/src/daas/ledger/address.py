"""Sui addresses, object ids, digests and Move type names as text."""

from hashlib import blake2b
from typing import NamedTuple

import base58

from daas.common.errors import InvalidInput

ADDRESS_LENGTH = 32
DIGEST_LENGTH = 32
#: The chain's clock, a shared object since genesis.
CLOCK_ADDRESS = "0x" + "6".zfill(64)
#: The Sui framework.
FRAMEWORK_ADDRESS = "0x" + "2".zfill(64)
#: Flag byte of Ed25519 in addresses and signatures.
ED25519_FLAG = b"\x00"


class TypeName(NamedTuple):
    """A Move type without its type arguments."""

    package: str
    module: str
    name: str


def format_address(raw: bytes) -> str:
    """32 bytes as "0x" and 64 lower-case hex digits."""
    if len(raw) != ADDRESS_LENGTH:
        raise InvalidInput(f"an address has {ADDRESS_LENGTH} bytes, not {len(raw)}", reason="address-length")
    return "0x" + raw.hex()


def parse_address(text: str) -> bytes:
    """The 32 bytes of "0x..."; short forms such as 0x2 are filled with zeros.

    Raises:
        InvalidInput: `address-format`.
    """
    digits = text.removeprefix("0x")
    try:
        if text.startswith("0x") and 0 < len(digits) <= 2 * ADDRESS_LENGTH:
            return bytes.fromhex(digits.zfill(2 * ADDRESS_LENGTH))
    except ValueError:
        pass
    raise InvalidInput(f"expected an address (0x and up to 64 hex digits), not {text[:80]!r}", reason="address-format")


def normal_address(text: str) -> str:
    """The one long form of an address."""
    return format_address(parse_address(text))


def parse_type(text: str) -> TypeName:
    """Package, module and name of a Move type; type arguments are dropped.

    Raises:
        InvalidInput: `type-format`.
    """
    parts = text.split("<", 1)[0].split("::")
    if len(parts) != len(TypeName._fields):
        raise InvalidInput(f"expected package::module::name, not {text[:120]!r}", reason="type-format")
    return TypeName(normal_address(parts[0]), parts[1], parts[2])


def format_digest(raw: bytes) -> str:
    """A digest of Sui (transaction, object, checkpoint) in base58."""
    return str(base58.b58encode(raw), "ascii")


def parse_digest(text: str) -> bytes:
    """The 32 bytes of a base58 digest.

    Raises:
        InvalidInput: `digest-format`.
    """
    try:
        raw = base58.b58decode(text)
    except ValueError:
        raw = b""
    if len(raw) != DIGEST_LENGTH:
        raise InvalidInput(
            f"expected a digest of {DIGEST_LENGTH} bytes in base58, not {text[:80]!r}", reason="digest-format"
        )
    return bytes(raw)


def ed25519_address(public_key: bytes) -> str:
    """The address of a raw Ed25519 public key: blake2b-256(0x00 || public key)."""
    return format_address(blake2b(ED25519_FLAG + public_key, digest_size=ADDRESS_LENGTH).digest())
