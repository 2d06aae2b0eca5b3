"""Envelopes: one Seal object wraps a data key; values are AES-256-GCM under it, each bound to where it belongs.

The Seal object's plaintext is the data key (32 random bytes). Its additional data, in clear inside the object, is BCS
{"k3s-daas/data-key/1", scope u8, cluster, namespace, name, policy 32, generation u64}, where the names beyond the scope
are empty. A value is

    "DAASv1" | nonce 12 | AES-256-GCM ciphertext and tag 16

with BCS {"k3s-daas/value/1", cluster, namespace, Secret's name, key's name, policy 32, generation u64, digest of the
Seal object 32} as additional data: a value that is moved to another key, Secret or namespace, or put beside another
envelope, does not open. What is not detected: a whole Secret set back to an older state of itself.

Nonces are random. Under one data key at most 2^32 values may be encrypted (NIST SP 800-38D, 8.3), far more than a
namespace holds.
"""

import os
from collections.abc import Sequence
from typing import Final, Never

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daas.common import bcs, merkle
from daas.common.errors import DecodeError
from daas.seal import EncryptedObject, Encryptor, ServerKey, format_address
from daas.secrets.errors import MalformedEnvelope, NotAuthentic, WrongPlace
from daas.secrets.identity import EnvelopeId, Place, Scope

DATA_KEY_LENGTH: Final = 32
MAGIC: Final = b"DAASv1"
_NONCE_LENGTH: Final = 12
_TAG_LENGTH: Final = 16
#: What sealing adds to a value.
OVERHEAD: Final = len(MAGIC) + _NONCE_LENGTH + _TAG_LENGTH
#: An envelope of 255 shares has 17 kB; more is no envelope.
_ENVELOPE_BYTES_MAX: Final = 32 * 1024


class Envelope(msgspec.Struct, frozen=True):
    """A Seal object that wraps a data key, and its id, read. Use `seal_envelope` or `Envelope.decode`."""

    sealed: EncryptedObject
    id: EnvelopeId
    #: BCS of `sealed`.
    encoded: bytes

    def __repr__(self) -> str:
        policy = format_address(self.id.policy)
        return f"Envelope({self.id.scope.name.lower()}, policy {policy}, generation {self.id.generation})"

    @classmethod
    def decode(cls, data: bytes) -> "Envelope":
        """Reads an envelope; whether it belongs to a place is for `check`.

        Raises:
            MalformedEnvelope: `envelope-size`, `envelope-object`, `envelope-id`.
        """
        if len(data) > _ENVELOPE_BYTES_MAX:
            raise MalformedEnvelope(f"an envelope has at most {_ENVELOPE_BYTES_MAX} bytes", reason="envelope-size")
        try:
            sealed = EncryptedObject.decode(data)
        except DecodeError as error:
            raise MalformedEnvelope(f"the envelope is no Seal object: {error.message}",
                                    reason="envelope-object") from None  # fmt: skip
        return cls(sealed, EnvelopeId.decode(sealed.inner_id), data)

    def check(self, place: Place) -> None:
        """Asserts that this envelope was sealed for a place.

        Raises:
            WrongPlace: `sealed-elsewhere`.
        """
        self.id.check(place)
        if self.sealed.aad != _key_aad(self.id, place):
            raise WrongPlace(f"the envelope was not sealed for {place}", reason="sealed-elsewhere")


class DataKey:
    """An open data key with its envelope: encrypts and decrypts values. Nothing here prints or pickles the key.

    Args:
        envelope: whose key it is.
        key: 32 bytes.

    Raises:
        NotAuthentic: `data-key`: what the envelope held is no data key.
    """

    __slots__ = ("_aead", "envelope")

    def __init__(self, envelope: Envelope, key: bytes) -> None:
        if len(key) != DATA_KEY_LENGTH:
            raise NotAuthentic("the envelope does not hold a data key", reason="data-key")
        self._aead = AESGCM(key)
        self.envelope = envelope

    def __repr__(self) -> str:
        return f"DataKey({self.envelope!r})"

    def __reduce__(self) -> Never:
        raise TypeError("a data key does not leave its process")

    def encrypt(self, place: Place, key_name: str, value: bytes) -> bytes:
        """Encrypts one value of a Secret.

        Raises:
            WrongPlace: `sealed-elsewhere`: the envelope is not for this place.
        """
        self.envelope.check(place)
        nonce = os.urandom(_NONCE_LENGTH)
        return MAGIC + nonce + self._aead.encrypt(nonce, value, self._aad(place, key_name))

    def decrypt(self, place: Place, key_name: str, sealed: bytes) -> bytes:
        """Opens one value of a Secret.

        Raises:
            MalformedEnvelope: `value-not-sealed`. WrongPlace: `sealed-elsewhere`.
            NotAuthentic: `value-changed`: changed, moved here from another key, or of another envelope.
        """
        self.envelope.check(place)
        if not is_sealed_value(sealed):
            raise MalformedEnvelope(f"{key_name} is not sealed", reason="value-not-sealed", field=key_name)
        nonce, ciphertext = sealed[len(MAGIC) :][:_NONCE_LENGTH], sealed[len(MAGIC) + _NONCE_LENGTH :]
        try:
            return self._aead.decrypt(nonce, ciphertext, self._aad(place, key_name))
        except InvalidTag:
            message = f"{key_name} of {place} was changed, moved or sealed with another envelope"
            raise NotAuthentic(message, reason="value-changed", field=key_name) from None

    def _aad(self, place: Place, key_name: str) -> bytes:
        names = (place.cluster, place.namespace, place.name, key_name)
        return b"".join(
            (
                bcs.string("k3s-daas/value/1"),
                *map(bcs.string, names),
                self.envelope.id.policy,
                bcs.u64(self.envelope.id.generation),
                merkle.digest(self.envelope.encoded),
            )
        )


def is_sealed_value(value: bytes) -> bool:
    """Whether bytes have the form of a sealed value."""
    return value.startswith(MAGIC) and len(value) >= OVERHEAD


def seal_envelope(
    encryptor: Encryptor, *, package_id: bytes, policy: bytes, generation: int, scope: Scope, place: Place
) -> DataKey:
    """A new data key, sealed for a place under a policy's generation. Needs no network.

    Args:
        encryptor: the key servers and their threshold.
        package_id: 32 bytes, of the FIRST version of the Move package.
        policy: object id of the policy, 32 bytes.
        generation: the policy's current one.
        scope: what the key is for.
        place: with exactly the names that the scope needs.

    Raises:
        InvalidInput: `sealed-place`, `seal-package-id`.
    """
    identity = EnvelopeId.fresh(policy, generation, scope, place)
    key = os.urandom(DATA_KEY_LENGTH)
    sealed = encryptor.encrypt(package_id, identity.encode(), key, aad=_key_aad(identity, place)).object
    return DataKey(Envelope(sealed, identity, sealed.encode()), key)


def encryptor_for(servers: Sequence[ServerKey], threshold: int) -> Encryptor:
    """An Encryptor for envelopes: every id is used once, so that none is worth a table.

    Raises:
        InvalidInput: `seal-servers`, `seal-threshold`. MalformedPoint: a public key.
    """
    return Encryptor(servers, threshold, cached_identities=0)


def _key_aad(identity: EnvelopeId, place: Place) -> bytes:
    covered = place.within(identity.scope)
    names = (covered.cluster, covered.namespace, covered.name)
    head = bcs.string("k3s-daas/data-key/1") + bcs.u8(identity.scope) + b"".join(map(bcs.string, names))
    return head + identity.policy + bcs.u64(identity.generation)
