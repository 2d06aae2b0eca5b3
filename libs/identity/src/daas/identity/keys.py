"""Sui keys on disk: the keystore of the Sui command line (a JSON list) or a file with one key, Ed25519."""

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from daas.common.errors import ConfigurationError
from daas.seal.address import format_address, parse_address
from daas.seal.signatures import ED25519, Ed25519Signer

SEED_LENGTH: Final = 32
KEYSTORE_BYTES_MAX: Final = 65_536
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_signer(path: Path, address: str | None = None) -> Ed25519Signer:
    """The account of a keystore file; `address` chooses where there are several.

    Raises:
        ConfigurationError: `keystore-missing`, `keystore-mode` (others may read it), `keystore-format`,
            `keystore-address`. Never quotes the content.
    """
    signers = _read(path)
    if address is not None:
        wanted = format_address(parse_address(address))
        signers = [one for one in signers if one.address == wanted]
    if len(signers) != 1:
        which = f"for {address}" if address is not None else "(name one by its address)"
        text = f"keystore {path}: expected one Ed25519 key {which}, found {len(signers)}"
        raise ConfigurationError(text, reason="keystore-address")
    return signers[0]


def _read(path: Path) -> list[Ed25519Signer]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"keystore {path}: {error.strerror}", reason="keystore-missing") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & _OTHERS:
            text = f"keystore {path} has mode {stat.S_IMODE(mode):04o}; it must be 0600"
            raise ConfigurationError(text, reason="keystore-mode")
        content = file.read(KEYSTORE_BYTES_MAX).strip()
    try:
        lines = msgspec.json.decode(content, type=list[str]) if content.startswith(b"[") else [content.decode()]
        keys = [base64.b64decode(line, validate=True) for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError):
        raise _format(path) from None
    # The Sui keystore holds a flag byte and the key; keys of other schemes are passed over.
    seeds = [key[1:] if len(key) == SEED_LENGTH + 1 else key for key in keys if len(key) == SEED_LENGTH
             or (len(key) == SEED_LENGTH + 1 and key[0] == ED25519)]  # fmt: skip
    if not seeds:
        raise _format(path)
    return [Ed25519Signer(seed) for seed in seeds]


def _format(path: Path) -> ConfigurationError:
    text = f"keystore {path}: expected base64 of an Ed25519 key, or a JSON list of such"
    return ConfigurationError(text, reason="keystore-format")
