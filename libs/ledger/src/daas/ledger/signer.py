"""Ed25519 keys that pay for transactions: from a keystore file or the environment, never shown."""

import base64
import binascii
import os
import stat
from hashlib import blake2b
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common import bcs
from daas.common.errors import ConfigurationError
from daas.ledger.address import ED25519_FLAG, ed25519_address

SEED_LENGTH = 32
#: Intent prefix of transactions: scope TransactionData, version 0, application Sui.
_TRANSACTION_INTENT = bytes(3)
_MESSAGE_INTENT = b"\x03\x00\x00"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
#: A keystore holds one line of 44 characters, or a JSON list with one: more is not a keystore.
_MAX_KEYSTORE_BYTES = 4096


class Signer:
    """One account. Nothing here prints, pickles or returns the private key."""

    __slots__ = ("_key", "address", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_LENGTH:
            raise ConfigurationError(f"an Ed25519 seed has {SEED_LENGTH} bytes, not {len(seed)}", reason="seed-length")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.address = ed25519_address(self.public_key)

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a signer does not leave its process")

    @classmethod
    def from_file(cls, path: Path) -> "Signer":
        """Reads base64 of flag and seed (the Sui keystore's form), or of the seed alone.

        Raises:
            ConfigurationError: `keystore-missing`, `keystore-mode` (others may read it), `keystore-format`.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"keystore {path}: {error.strerror}", reason="keystore-missing") from None
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & _OTHERS:
                raise ConfigurationError(
                    f"keystore {path} has mode {stat.S_IMODE(mode):04o}; it must be 0600", reason="keystore-mode"
                )
            text = file.read(_MAX_KEYSTORE_BYTES)
        return cls(_seed(text, f"keystore {path}"))

    @classmethod
    def from_environment(cls, variable: str) -> "Signer":
        """Reads the same form from an environment variable.

        Raises:
            ConfigurationError: `signer-missing`, `keystore-format`.
        """
        text = os.environ.get(variable)
        if not text:
            raise ConfigurationError(f"the environment variable {variable} is not set", reason="signer-missing")
        return cls(_seed(text.encode(), f"environment variable {variable}"))

    @classmethod
    def generate(cls, path: Path) -> "Signer":
        """Makes a new key and writes it to a new file with mode 0600.

        Raises:
            ConfigurationError: `keystore-exists`: keys are never overwritten.
        """
        seed = os.urandom(SEED_LENGTH)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise ConfigurationError(f"keystore {path} exists already", reason="keystore-exists") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(ED25519_FLAG + seed) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return cls(seed)

    def sign_transaction(self, transaction: bytes) -> bytes:
        """Sui's serialized signature over TransactionData: flag, signature, public key (97 bytes).

        Deterministic (RFC 8032): the same bytes have the same signature after a restart.
        """
        message = blake2b(_TRANSACTION_INTENT + transaction, digest_size=32).digest()
        return ED25519_FLAG + self._key.sign(message) + self.public_key

    async def sign_personal_message(self, message: bytes) -> str:
        """Base64 of Sui's serialized signature over a personal message, a text of a Seal session for example."""
        digest = blake2b(_MESSAGE_INTENT + bcs.bytes_(message), digest_size=32).digest()
        return base64.b64encode(ED25519_FLAG + self._key.sign(digest) + self.public_key).decode()


def _seed(text: bytes, where: str) -> bytes:
    """The 32 bytes; the error names the place, never the content."""
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) == SEED_LENGTH + 1 and raw.startswith(ED25519_FLAG):
        raw = raw[1:]
    if len(raw) != SEED_LENGTH:
        raise ConfigurationError(
            f"{where}: expected base64 of {SEED_LENGTH} bytes of Ed25519 seed, with or without the flag byte 0",
            reason="keystore-format",
        )
    return raw
