"""Encryption: a message for an identity, such that a threshold of key servers is needed to open it.

Source: MystenLabs/seal, crates/crypto/src/lib.rs (`seal_encrypt`).
"""

import enum
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from daas.common.errors import InvalidInput
from daas.seal import dem, gf256, ibe
from daas.seal.backend import BACKEND
from daas.seal.backend.protocol import G1, G2, ORDER, GtPower
from daas.seal.encrypted_object import Aes256Gcm, Ciphertext, EncryptedObject, Hmac256Ctr, Plain, Service

_BASE_KEY_LENGTH: Final = 32
#: From this use on an identity gets tables of its pairings: they cost about as much as four encryptions.
_USES_BEFORE_TABLES: Final = 4
#: Identities whose uses are counted, and those with tables (0.6 MB for each of their key servers).
_COUNTED_IDENTITIES: Final = 4096
DEFAULT_CACHED_IDENTITIES: Final = 16


class Dem(enum.Enum):
    """How the data is encrypted."""

    AES_256_GCM = "aes-256-gcm"
    #: Slower, but Move code can decrypt it.
    HMAC_256_CTR = "hmac-256-ctr"
    #: No data: the derived key is the secret. Official TypeScript clients do not read it.
    PLAIN = "plain"


class ServerKey(msgspec.Struct, frozen=True):
    """A key server (or a committee, which counts as one) as encryption sees it.

    Attributes:
        object_id: of its KeyServer object, 32 bytes.
        public_key: 96 bytes.
        weight: how many of the shares it holds.
    """

    object_id: bytes
    public_key: bytes
    weight: int = 1


class Randomness(msgspec.Struct, frozen=True):
    """All that is random in an encryption. Only tests give it: a scalar that is used twice opens both objects."""

    base_key: bytes
    coefficients: tuple[bytes, ...]
    scalar: int


class Encrypted(msgspec.Struct, frozen=True):
    """An encrypted object, and the key of its data for those who want to keep it as a backup."""

    object: EncryptedObject
    data_key: bytes

    def __repr__(self) -> str:
        return "Encrypted(...)"


class _Identity:
    """H1 of an identity and, once it is worth it, tables of its pairings with the servers' keys."""

    __slots__ = ("encoded", "point", "powers")

    def __init__(self, identity: bytes) -> None:
        self.point: G1 = ibe.hash_identity(identity)
        self.encoded: bytes = BACKEND.encode(self.point)
        self.powers: list[GtPower] | None = None


class Encryptor:
    """Encrypts to one set of key servers with one threshold; safe for use from several threads.

    Args:
        servers: at most 255 shares in all, no server twice (give it a weight instead).
        threshold: how many shares open an object, 1..sum of the weights.
        cached_identities: how many often used identities keep tables of their pairings.

    Raises:
        InvalidInput: `seal-servers`, `seal-threshold`.
        MalformedPoint: a public key.
    """

    def __init__(
        self, servers: Sequence[ServerKey], threshold: int, *, cached_identities: int = DEFAULT_CACHED_IDENTITIES
    ) -> None:
        ids = [server.object_id for server in servers]
        if len(set(ids)) != len(ids) or any(len(each) != ibe.ID_LENGTH for each in ids):
            raise InvalidInput("key servers need different object ids of 32 bytes", reason="seal-servers")
        if any(server.weight < 1 for server in servers):
            raise InvalidInput("a key server's weight is 1 or more", reason="seal-servers")
        self._keys: list[G2] = [BACKEND.g2_decode(server.public_key) for server in servers]
        #: Place of its server, for each share.
        self._owners = [place for place, server in enumerate(servers) for _ in range(server.weight)]
        self._object_ids = [ids[place] for place in self._owners]
        if not 1 <= threshold <= len(self._owners) <= gf256.MAX_SHARES:
            raise InvalidInput(
                f"expected 1 <= threshold <= shares <= {gf256.MAX_SHARES}, not {threshold} of {len(self._owners)}",
                reason="seal-threshold",
            )
        self.threshold = threshold
        self._cached_max = cached_identities
        self._uses: OrderedDict[bytes, int] = OrderedDict()
        self._cache: OrderedDict[bytes, _Identity] = OrderedDict()
        self._lock = threading.Lock()

    def encrypt(
        self,
        package_id: bytes,
        inner_id: bytes,
        plaintext: bytes,
        *,
        aad: bytes | None = b"",
        cipher: Dem = Dem.AES_256_GCM,
        randomness: Randomness | None = None,
    ) -> Encrypted:
        """Encrypts a message for the identity (package id, inner id).

        Args:
            package_id: 32 bytes, of the FIRST version of the package whose `seal_approve*` functions decide.
            inner_id: the identity within the package.
            plaintext: of any length; must be empty with `Dem.PLAIN`.
            aad: bound to the message and stored with it in clear; None is written as absent and means empty.
            cipher: how the data is encrypted.
            randomness: for tests only.

        Raises:
            InvalidInput: `seal-package-id`, `seal-plain`.
        """
        if cipher is Dem.PLAIN and (plaintext or aad):
            raise InvalidInput("with the plain encapsulation there is nothing but the key", reason="seal-plain")
        identity = self._identity(ibe.full_id(package_id, inner_id))
        if randomness is None:
            base_key, coefficients, scalar = secrets.token_bytes(_BASE_KEY_LENGTH), None, ibe.random_scalar()
        else:
            base_key, coefficients, scalar = randomness.base_key, randomness.coefficients, randomness.scalar
        if not 0 < scalar < ORDER or len(base_key) != _BASE_KEY_LENGTH:
            raise InvalidInput("expected a scalar below the group order and 32 bytes", reason="seal-randomness")
        shares = gf256.split(base_key, self.threshold, len(self._owners), coefficients=coefficients)
        nonce = BACKEND.encode(BACKEND.multiply_g2(scalar))
        elements = self._elements(identity, scalar)
        encrypted = tuple(
            gf256.xor(
                share.value,
                ibe.mask(elements[owner], nonce, identity.encoded, object_id, share.index),
            )
            for share, owner, object_id in zip(shares, self._owners, self._object_ids, strict=True)
        )
        randomness_key = ibe.derive_randomness_key(base_key, self.threshold, encrypted, self._object_ids)
        data_key = ibe.derive_data_key(base_key, self.threshold, encrypted, self._object_ids)
        value = EncryptedObject(
            package_id=package_id,
            inner_id=inner_id,
            services=tuple(
                Service(object_id, share.index) for object_id, share in zip(self._object_ids, shares, strict=True)
            ),
            threshold=self.threshold,
            nonce=nonce,
            encrypted_shares=encrypted,
            encrypted_randomness=gf256.xor(randomness_key, scalar.to_bytes(32, "big")),
            ciphertext=_encapsulate(cipher, data_key, plaintext, aad),
        )
        return Encrypted(value, data_key)

    def _elements(self, identity: _Identity, scalar: int) -> list[bytes]:
        """e(H1(identity), public key)^scalar for each server."""
        if identity.powers is not None:
            return [power(scalar) for power in identity.powers]
        raised = BACKEND.multiply(identity.point, scalar)
        return BACKEND.pairings(raised, self._keys)

    def _identity(self, name: bytes) -> _Identity:
        with self._lock:
            known = self._cache.get(name)
            if known is not None:
                self._cache.move_to_end(name)
                return known
            if not self._cached_max:
                return _Identity(name)
            uses = self._uses.pop(name, 0) + 1
            if uses < _USES_BEFORE_TABLES:
                self._uses[name] = uses
                if len(self._uses) > _COUNTED_IDENTITIES:
                    self._uses.popitem(last=False)
                return _Identity(name)
            identity = _Identity(name)
            identity.powers = [BACKEND.pairing_power(identity.point, key) for key in self._keys]
            self._cache[name] = identity
            if len(self._cache) > self._cached_max:
                self._cache.popitem(last=False)
            return identity


def encrypt(
    servers: Sequence[ServerKey],
    threshold: int,
    package_id: bytes,
    inner_id: bytes,
    plaintext: bytes,
    *,
    aad: bytes | None = b"",
    cipher: Dem = Dem.AES_256_GCM,
) -> bytes:
    """One encryption; the object's bytes. See `Encryptor`, which is faster for many."""
    encryptor = Encryptor(servers, threshold, cached_identities=0)
    return encryptor.encrypt(package_id, inner_id, plaintext, aad=aad, cipher=cipher).object.encode()


def _encapsulate(cipher: Dem, key: bytes, plaintext: bytes, aad: bytes | None) -> Ciphertext:
    match cipher:
        case Dem.AES_256_GCM:
            return Aes256Gcm(dem.aes256gcm_encrypt(key, plaintext, aad or b""), aad)
        case Dem.HMAC_256_CTR:
            blob, mac = dem.hmac256ctr_encrypt(key, plaintext, aad or b"")
            return Hmac256Ctr(blob, aad, mac)
        case Dem.PLAIN:
            return Plain()
