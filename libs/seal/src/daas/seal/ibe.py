"""Boneh-Franklin identity-based encryption on BLS12-381: master keys, user secret keys, masks of shares.

Public keys and nonces lie in G2 (96 bytes), user secret keys in G1 (48 bytes). Source: MystenLabs/seal,
crates/crypto/src/ibe.rs and crates/key-server/src/master_keys.rs.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Final, Never

from daas.common.errors import InvalidInput
from daas.seal import tags
from daas.seal.backend import BACKEND
from daas.seal.backend.protocol import G1, G2, ORDER, SCALAR_LENGTH
from daas.seal.errors import DecryptionFailed, InvalidSignature, MalformedPoint

ID_LENGTH: Final = 32
#: Purposes of the keys derived from the base key.
_RANDOMNESS: Final = 0
_DATA: Final = 1
#: Bits of the random factors of a batch verification: a wrong key passes with probability 2^-128.
_BATCH_FACTOR_BITS: Final = 128


def full_id(package_id: bytes, inner_id: bytes) -> bytes:
    """The identity that a user secret key is made for.

    Args:
        package_id: 32 bytes, of the FIRST version of the package.
        inner_id: any bytes, also none.
    """
    if len(package_id) != ID_LENGTH:
        raise InvalidInput(f"a package id has {ID_LENGTH} bytes, not {len(package_id)}", reason="seal-package-id")
    return package_id + inner_id


@lru_cache(maxsize=256)
def decode_g2(data: bytes) -> G2:
    """A point of G2, remembered: public keys and nonces, which are public, come again and again.

    Raises:
        MalformedPoint: it is none.
    """
    return BACKEND.g2_decode(data)


def hash_identity(identity: bytes) -> G1:
    """H1: a full identity as a point of G1."""
    return BACKEND.hash_to_g1(tags.IDENTITY + identity)


def random_scalar() -> int:
    """Uniform in 1..ORDER-1."""
    return secrets.randbelow(ORDER - 1) + 1


class MasterKey:
    """A key server's secret: a scalar. Nothing here prints, pickles or compares it.

    Args:
        scalar: 1..ORDER-1.

    Raises:
        InvalidInput: `seal-master-key`.
    """

    __slots__ = ("_scalar", "public_key")

    def __init__(self, scalar: int) -> None:
        if not 0 < scalar < ORDER:
            raise InvalidInput("a master key is a scalar from 1 to the group order - 1", reason="seal-master-key")
        self._scalar = scalar
        # Not from the table: its accesses to memory depend on the scalar.
        self.public_key: bytes = BACKEND.encode(BACKEND.multiply(BACKEND.g2, scalar))

    def __repr__(self) -> str:
        return f"MasterKey(public_key={self.public_key.hex()[:16]}...)"

    def __reduce__(self) -> Never:
        raise TypeError("a master key does not leave its process")

    @classmethod
    def generate(cls) -> "MasterKey":
        """A new one."""
        return cls(random_scalar())

    @classmethod
    def from_bytes(cls, data: bytes) -> "MasterKey":
        """From 32 bytes, big-endian."""
        if len(data) != SCALAR_LENGTH:
            raise InvalidInput(f"a master key has {SCALAR_LENGTH} bytes, not {len(data)}", reason="seal-master-key")
        return cls(int.from_bytes(data, "big"))

    @classmethod
    def derive(cls, seed: bytes, index: int) -> "MasterKey":
        """Key number `index` of a seed: HKDF-SHA3-256 without salt, info u64 big-endian, 64 bytes, modulo the order."""
        if len(seed) != SCALAR_LENGTH or not 0 <= index < 1 << 64:
            raise InvalidInput("expected a seed of 32 bytes and an index below 2^64", reason="seal-seed")
        pseudorandom = hmac.digest(bytes(32), seed, "sha3_256")
        info, block, output = index.to_bytes(8, "big"), b"", b""
        for number in (1, 2):
            block = hmac.digest(pseudorandom, block + info + bytes([number]), "sha3_256")
            output += block
        return cls(int.from_bytes(output, "big") % ORDER)

    def extract_point(self, identity: bytes) -> G1:
        """The user secret key of a full identity, as a point."""
        return BACKEND.multiply(hash_identity(identity), self._scalar)

    def extract(self, identity: bytes) -> bytes:
        """The user secret key of a full identity, 48 bytes. Who has it opens all objects of this identity."""
        return BACKEND.encode(self.extract_point(identity))

    def prove_possession(self, service_id: bytes) -> bytes:
        """Signature over public key and object id of the key server, 48 bytes."""
        message = tags.PROOF_OF_POSSESSION + self.public_key + _object_id(service_id)
        return BACKEND.encode(BACKEND.multiply(BACKEND.hash_to_g1(message), self._scalar))

    def split(self, threshold: int, count: int) -> "list[MasterKey]":
        """Shares of a committee's members 0..count-1 (Shamir over the scalar field), dealt by one who knows the key.

        Raises:
            InvalidInput: `seal-threshold`: expected 2 <= threshold <= count <= 65535.
        """
        if not 2 <= threshold <= count <= 0xFFFF:
            raise InvalidInput(
                f"expected 2 <= threshold <= members, not {threshold} of {count}", reason="seal-threshold"
            )
        coefficients = [self._scalar, *(random_scalar() for _ in range(threshold - 1))]
        return [
            MasterKey(reduce(lambda total, c: (total * (party + 1) + c) % ORDER, reversed(coefficients), 0))
            for party in range(count)
        ]


def verify_possession(proof: bytes, public_key: bytes, service_id: bytes) -> None:
    """Checks a key server's proof that it knows the secret of its public key.

    Raises:
        InvalidSignature: `seal-possession`.
        MalformedPoint: proof or key is no point.
    """
    point, key = BACKEND.g1_decode(proof), decode_g2(public_key)
    message = BACKEND.hash_to_g1(tags.PROOF_OF_POSSESSION + public_key + _object_id(service_id))
    if not BACKEND.equal_pairings([(point, BACKEND.g2)], [(message, key)]):
        raise InvalidSignature(
            "the proof of possession does not hold for this key and service", reason="seal-possession"
        )


def verify_user_secret_key(key: bytes, identity: bytes, public_key: bytes) -> bool:
    """Whether `key` is the user secret key of a full identity under a key server's public key (two pairings)."""
    try:
        point, public = BACKEND.g1_decode(key), decode_g2(public_key)
    except MalformedPoint:
        return False
    return BACKEND.equal_pairings([(point, BACKEND.g2)], [(hash_identity(identity), public)])


def verify_user_secret_keys(keys: Sequence[tuple[bytes, bytes]], public_key: bytes) -> list[bool]:
    """Verifies pairs of (full identity, user secret key) of one key server at the price of two pairings if all hold.

    A random linear combination is checked first; only if it fails each key is checked on its own.
    """
    try:
        points = [BACKEND.g1_decode(key) for _, key in keys]
        public = decode_g2(public_key)
    except MalformedPoint:
        points = []
    if len(points) > 1:
        factors = [secrets.randbits(_BATCH_FACTOR_BITS) | 1 for _ in points]
        total = reduce(BACKEND.add, (BACKEND.multiply(p, f) for p, f in zip(points, factors, strict=True)))
        hashes = (hash_identity(identity) for identity, _ in keys)
        expected = reduce(BACKEND.add, (BACKEND.multiply(h, f) for h, f in zip(hashes, factors, strict=True)))
        if BACKEND.equal_pairings([(total, BACKEND.g2)], [(expected, public)]):
            return [True] * len(keys)
    return [verify_user_secret_key(key, identity, public_key) for identity, key in keys]


def mask(element: bytes, nonce: bytes, identity_point: bytes, object_id: bytes, index: int) -> bytes:
    """What hides one share, 32 bytes.

    Args:
        element: e(H1(identity), public key)^r, canonical 576 bytes.
        nonce: g2^r, 96 bytes.
        identity_point: H1(identity), 48 bytes.
        object_id: of the key server, 32 bytes.
        index: of the share.
    """
    return hashlib.sha3_256(b"".join((tags.KDF, element, nonce, identity_point, object_id, bytes([index])))).digest()


def derive_randomness_key(
    base_key: bytes, threshold: int, shares: Sequence[bytes], object_ids: Sequence[bytes]
) -> bytes:
    """What hides the encryption's randomness, 32 bytes."""
    return _derive(_RANDOMNESS, base_key, threshold, shares, object_ids)


def derive_data_key(base_key: bytes, threshold: int, shares: Sequence[bytes], object_ids: Sequence[bytes]) -> bytes:
    """The key of the data encapsulation, 32 bytes."""
    return _derive(_DATA, base_key, threshold, shares, object_ids)


def check_randomness(data: bytes, nonce: bytes) -> int:
    """The encryption's r from its 32 bytes, held to the nonce.

    Raises:
        DecryptionFailed: `seal-randomness`: not a scalar, or g2^r is not the nonce: a wrong key or a false object.
    """
    scalar = int.from_bytes(data, "big")
    if not 0 < scalar < ORDER or BACKEND.encode(BACKEND.multiply_g2(scalar)) != nonce:
        raise DecryptionFailed("the keys do not open this object: its randomness does not fit its nonce",
                               reason="seal-randomness")  # fmt: skip
    return scalar


def _derive(purpose: int, base_key: bytes, threshold: int, shares: Sequence[bytes], ids: Sequence[bytes]) -> bytes:
    return hashlib.sha3_256(b"".join((tags.DERIVE_KEY, base_key, bytes([purpose, threshold]), *shares, *ids))).digest()


def _object_id(value: bytes) -> bytes:
    if len(value) != ID_LENGTH:
        raise InvalidInput(f"an object id has {ID_LENGTH} bytes, not {len(value)}", reason="seal-object-id")
    return value
