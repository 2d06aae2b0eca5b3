"""ElGamal in G1: how a key server hands out a user secret key so that only the session that asked can read it.

Source: MystenLabs/seal, crates/crypto/src/elgamal.rs.
"""

from typing import Never

import msgspec

from daas.seal.backend import BACKEND
from daas.seal.backend.protocol import G1
from daas.seal.errors import MalformedPoint
from daas.seal.ibe import decode_g2, hash_identity, random_scalar


class Encryption(msgspec.Struct, frozen=True):
    """(g1^s, key^s * message): two points of G1, 48 bytes each."""

    ephemeral: bytes
    blinded: bytes


class DecryptionKey:
    """A session's ElGamal key pair. Nothing here prints or pickles the secret.

    Attributes:
        public_key: g1^x, 48 bytes (`enc_key`).
        verification_key: g2^x, 96 bytes (`enc_verification_key`).
    """

    __slots__ = ("_scalar", "public_key", "verification_key")

    def __init__(self, scalar: int | None = None) -> None:
        self._scalar = random_scalar() if scalar is None else scalar
        self.public_key: bytes = BACKEND.encode(BACKEND.multiply(BACKEND.g1, self._scalar))
        self.verification_key: bytes = BACKEND.encode(BACKEND.multiply(BACKEND.g2, self._scalar))

    def __repr__(self) -> str:
        return f"DecryptionKey(public_key={self.public_key.hex()[:16]}...)"

    def __reduce__(self) -> Never:
        raise TypeError("an ElGamal key does not leave its process")

    def decrypt(self, encryption: Encryption) -> bytes:
        """The point that was encrypted, 48 bytes.

        Raises:
            MalformedPoint: a component is no point of G1, or the result is the identity.
        """
        ephemeral, blinded = BACKEND.g1_decode(encryption.ephemeral), BACKEND.g1_decode(encryption.blinded)
        return _finite(BACKEND.add(blinded, BACKEND.negate(BACKEND.multiply(ephemeral, self._scalar))))


def encrypt(point: G1, public_key: G1, *, scalar: int | None = None) -> Encryption:
    """Encrypts a point of G1 to a decoded public key; `scalar` is random unless a test gives it."""
    secret = random_scalar() if scalar is None else scalar
    return Encryption(
        BACKEND.encode(BACKEND.multiply(BACKEND.g1, secret)),
        BACKEND.encode(BACKEND.add(BACKEND.multiply(public_key, secret), point)),
    )


def verify_encryption(encryption: Encryption, identity: bytes, verification_key: bytes, public_key: bytes) -> bool:
    """Whether an encrypted user secret key of a full identity is right, without decrypting it (three pairings).

    e(blinded, g2) = e(ephemeral, g2^x) * e(H1(identity), public key). What an aggregator checks of a member.
    """
    try:
        ephemeral, blinded = BACKEND.g1_decode(encryption.ephemeral), BACKEND.g1_decode(encryption.blinded)
        verification, public = decode_g2(verification_key), decode_g2(public_key)
    except MalformedPoint:
        return False
    return BACKEND.equal_pairings(
        [(blinded, BACKEND.g2)], [(ephemeral, verification), (hash_identity(identity), public)]
    )


def _finite(point: G1) -> bytes:
    encoded = BACKEND.encode(point)
    if encoded[0] & 0x40:
        raise MalformedPoint("the encrypted point is the identity", reason="seal-point-g1")
    return encoded
