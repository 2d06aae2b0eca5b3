"""The enclave's signing key: made at start from two sources of entropy, kept in memory, never written anywhere."""

import hashlib
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.attestation import NsmClient
from daas.common import merkle

#: An enclave can boot with an empty kernel pool (kernels before 5.x), and the NSM alone is one vendor's word: mix both.
ENTROPY_BYTES = 64


class Identity:
    """An Ed25519 key with the hex form of its public half."""

    def __init__(self, nsm: NsmClient) -> None:
        random = nsm.get_random(ENTROPY_BYTES)
        seed = hashlib.sha512(os.urandom(ENTROPY_BYTES) + random).digest()[:32]
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_bytes = self._key.public_key().public_bytes_raw()
        self.public_key = self.public_bytes.hex()

    def __repr__(self) -> str:
        """Only the public half."""
        return f"Identity({self.public_key})"

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        return self._key.sign(message)


def user_data(chain: bytes, registry: bytes, policy: bytes) -> bytes:
    """What binds an attestation document to one registry and one policy: blake2b-256(chain || registry || policy)."""
    return merkle.digest(chain + registry + policy)
