"""Sui addresses and object ids: 32 bytes inside, `0x` and 64 hexadecimal digits outside."""

import re
from typing import Final

from daas.common.errors import InvalidInput

ADDRESS_LENGTH: Final = 32
_TEXT: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")


def parse_address(text: str, field: str = "address") -> bytes:
    """32 bytes from `0x` and up to 64 digits (leading zeros may be left out).

    Raises:
        InvalidInput: `seal-address`.
    """
    if not _TEXT.fullmatch(text):
        raise InvalidInput("expected 0x and 1 to 64 hexadecimal digits", reason="seal-address", field=field)
    return bytes.fromhex(text[2:].rjust(2 * ADDRESS_LENGTH, "0"))


def format_address(address: bytes) -> str:
    """The one canonical text of an address."""
    return f"0x{address.hex()}"
