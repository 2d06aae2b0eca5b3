"""NKeys: what a service signs in to NATS with. One seed a service, in a file that only its owner reads.

Source: github.com/nats-io/nkeys, strkey.go: base32 without padding of prefix, 32 bytes of Ed25519 and a CRC-16 (XMODEM,
little-endian). The same files as `nk -gen user -pubout` writes.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common.errors import ConfigurationError

_SEED: Final = 18 << 3  # "S"
_USER: Final = 20 << 3  # "U"
_SEED_BYTES: Final = 2 + 32 + 2


def _crc(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")


def _encode(data: bytes) -> str:
    return base64.b32encode(data + _crc(data)).decode().rstrip("=")


def nkey_seed(raw: bytes) -> str:
    """The seed (`SU...`) of a user with these 32 secret bytes."""
    return _encode(bytes([_SEED | _USER >> 5, (_USER & 31) << 3]) + raw)


def nkey_secret(seed: str) -> Ed25519PrivateKey:
    """The key of a user's seed.

    Raises:
        ConfigurationError: `nkey-seed`; the seed is not quoted.
    """
    try:
        data = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        data = b""
    if len(data) != _SEED_BYTES or _encode(data[:-2]) != seed or not seed.startswith("SU"):
        raise ConfigurationError("expected the NKey seed of a user (SU...)", reason="nkey-seed")
    return Ed25519PrivateKey.from_private_bytes(data[2:-2])


def nkey_public(seed: str) -> str:
    """The public key (`U...`) of a user's seed."""
    return _encode(bytes([_USER]) + nkey_secret(seed).public_key().public_bytes_raw())


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read; it appears whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)


def keep_nkey(path: Path) -> str:
    """The public key of the seed in a file, which is made with mode 0600 if there is none."""
    if not path.exists():
        write_private(path, nkey_seed(os.urandom(32)).encode())
    return nkey_public(path.read_text(encoding="ascii").strip())
