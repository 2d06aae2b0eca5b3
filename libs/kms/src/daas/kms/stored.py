"""What a Kubernetes API server stores of an object under a KMS v2 provider, and the data keys under it.

Form: `k8s:enc:kms:v2:NAME:` and an EncryptedObject. Its data is, under a seed, `info (32 random bytes) || nonce (12) ||
AES-256-GCM`, with key HKDF-SHA256-Expand(seed, info), or without `info` under the data key itself (before Kubernetes
1.29). The additional data is the object's etcd key. Source: k8s.io/apiserver, storage/value/encrypt/{envelope/kmsv2,
aes}; the limits are those of envelope/kmsv2/envelope.go.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from google.protobuf.message import DecodeError as WireError

from daas.common.errors import DecodeError, InvalidInput, Refused
from daas.kms import stored_pb2 as wire

PREFIX: Final = b"k8s:enc:kms:v2:"
#: Every provider's values begin so: what begins so is not plaintext.
ENCRYPTED_PREFIX: Final = b"k8s:enc:"
SEED_BYTES: Final = 32
KEY_ID_BYTES_MAX: Final = 1024
DEK_SOURCE_BYTES_MAX: Final = 1024
ANNOTATIONS_BYTES_MAX: Final = 32 * 1024
_INFO_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
#: Names of providers, which stand between colons.
PROVIDER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """One stored value, read.

    Attributes:
        provider: its name in the EncryptionConfiguration.
        key_id: of the key encryption key.
        dek_source: what the plugin made of the data key or seed.
        annotations: what the plugin asked to be kept with it.
        data: ciphertext of the object.
        seeded: whether the source is a seed, and not the data key itself.
    """

    provider: str
    key_id: str
    dek_source: bytes
    annotations: dict[str, bytes]
    data: bytes
    seeded: bool = True

    @property
    def source(self) -> tuple[str, bytes, tuple[tuple[str, bytes], ...], bool]:
        """What tells one data key from another."""
        return self.key_id, self.dek_source, tuple(sorted(self.annotations.items())), self.seeded

    def encode(self) -> bytes:
        """The stored value.

        Raises:
            InvalidInput: as `check_encrypted`; `kms-provider`.
        """
        if not PROVIDER_NAME.fullmatch(self.provider):
            raise InvalidInput(f"{self.provider!r} can't name a provider", reason="kms-provider")
        check_encrypted(self.key_id, self.dek_source, self.annotations)
        source_type = wire.HKDF_SHA256_XNONCE_AES_GCM_SEED if self.seeded else wire.AES_GCM_KEY
        message = wire.EncryptedObject(
            encrypted_data=self.data,
            key_id=self.key_id,
            encrypted_dek_source=self.dek_source,
            annotations=self.annotations,
            encrypted_dek_source_type=source_type,
        )
        return PREFIX + self.provider.encode() + b":" + message.SerializeToString(deterministic=True)

    @classmethod
    def decode(cls, body: bytes) -> "StoredObject":
        """Reads a stored value.

        Raises:
            DecodeError: `kms-stored`; InvalidInput: as `check_encrypted`.
        """
        name, colon, rest = body.removeprefix(PREFIX).partition(b":")
        if not body.startswith(PREFIX) or not colon or not PROVIDER_NAME.fullmatch(name.decode("ascii", "replace")):
            raise DecodeError("the value is not under a KMS v2 provider", reason="kms-stored")
        try:
            message = wire.EncryptedObject.FromString(rest)
        except (WireError, UnicodeDecodeError):
            raise DecodeError("the value is no EncryptedObject", reason="kms-stored") from None
        if message.encrypted_dek_source_type not in wire.DekSourceType.values():
            text = f"unknown source of a data key: {message.encrypted_dek_source_type}"
            raise DecodeError(text, reason="kms-stored")
        annotations = dict(message.annotations)
        check_encrypted(message.key_id, message.encrypted_dek_source, annotations)
        if not message.encrypted_data:
            raise DecodeError("the value has no data", reason="kms-stored")
        return cls(
            provider=name.decode(),
            key_id=message.key_id,
            dek_source=message.encrypted_dek_source,
            annotations=annotations,
            data=message.encrypted_data,
            seeded=message.encrypted_dek_source_type == wire.HKDF_SHA256_XNONCE_AES_GCM_SEED,
        )


def check_encrypted(key_id: str, dek_source: bytes, annotations: Mapping[str, bytes]) -> None:
    """Holds what a plugin answered to an API server's limits.

    Raises:
        InvalidInput: `kms-key-id`, `kms-ciphertext`, `kms-annotations`.
    """
    if not 0 < len(key_id.encode()) <= KEY_ID_BYTES_MAX:
        raise InvalidInput(f"a key id has 1 to {KEY_ID_BYTES_MAX} bytes", reason="kms-key-id")
    if not 0 < len(dek_source) <= DEK_SOURCE_BYTES_MAX:
        raise InvalidInput(f"an encrypted data key has 1 to {DEK_SOURCE_BYTES_MAX} bytes", reason="kms-ciphertext")
    if sum(len(name) + len(value) for name, value in annotations.items()) > ANNOTATIONS_BYTES_MAX:
        raise InvalidInput(f"annotations have at most {ANNOTATIONS_BYTES_MAX} bytes", reason="kms-annotations")
    if not all(_DOMAIN.fullmatch(name) and len(name) <= 253 for name in annotations):
        raise InvalidInput("keys of annotations are fully qualified domain names", reason="kms-annotations")


def new_seed() -> bytes:
    """A fresh seed, 32 bytes."""
    return os.urandom(SEED_BYTES)


def encrypt_data(seed: bytes, data: bytes, key: str) -> bytes:
    """Encrypts an object's bytes under a key of its own.

    Args:
        seed: 32 bytes.
        data: the object.
        key: its etcd key, as additional data.
    """
    info, nonce = os.urandom(_INFO_BYTES), os.urandom(_NONCE_BYTES)
    return info + nonce + AESGCM(_derived(seed, info)).encrypt(nonce, data, key.encode())


def decrypt_data(seed: bytes, data: bytes, key: str, *, seeded: bool = True) -> bytes:
    """Opens what `encrypt_data` made. Arguments as there; `seeded` as in StoredObject.

    Raises:
        Refused: `kms-data`: another seed, another place, or changed bytes.
    """
    info = data[:_INFO_BYTES] if seeded else b""
    rest = data[len(info) :]
    if len(rest) < _NONCE_BYTES + _TAG_BYTES:
        raise Refused("the stored data is too short", reason="kms-data")
    try:
        cipher = AESGCM(_derived(seed, info) if seeded else seed)
        return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], key.encode())
    except (InvalidTag, ValueError):
        raise Refused("the stored data does not open under its data key", reason="kms-data") from None


def _derived(seed: bytes, info: bytes) -> bytes:
    return HKDFExpand(SHA256(), SEED_BYTES, info).derive(seed)
