"""What the plugin makes of an API server's data key: AES-256-GCM under a key of its own, derived from the seed.

Ciphertext, 49 bytes more than the plaintext: version 1 | salt (32 random bytes) | AES-256-GCM with tag. Key and nonce
are HKDF-SHA256(seed, salt, label): no nonce is ever used twice under a key. The additional data is the label and the
key id, which is a digest of the sealed seed: a ciphertext opens under the generation that it was made under, or not.

The sealed seed itself travels in an annotation, so that a copy of etcd alone holds all that t key servers need to open
it. It is for a restore: the plugin never takes a seed from there, since anyone can seal one under a policy.
"""

import os
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from daas.common import bcs
from daas.common.errors import DecodeError, InvalidInput, Refused

SEED_BYTES: Final = 32
#: Where the sealed seed travels.
ANNOTATION: Final = "sealed-seed.kms.k3s-daas.io"
#: API servers send 32 bytes; ciphertexts stay far below their limit of 1 kB.
PLAINTEXT_BYTES_MAX: Final = 512
_VERSION: Final = 1
_SALT_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LABEL: Final = b"k3s-daas/kms-envelope/1"
OVERHEAD_BYTES: Final = 1 + _SALT_BYTES + _TAG_BYTES


def wrap(seed: bytes, key_id: str, plaintext: bytes) -> bytes:
    """Encrypts a data key.

    Args:
        seed: of the generation, 32 bytes.
        key_id: of the generation.
        plaintext: 1 to 512 bytes.

    Raises:
        InvalidInput: `kms-plaintext`.
    """
    if not 0 < len(plaintext) <= PLAINTEXT_BYTES_MAX:
        text = f"expected a data key of 1 to {PLAINTEXT_BYTES_MAX} bytes, not {len(plaintext)}"
        raise InvalidInput(text, reason="kms-plaintext", field="plaintext")
    salt = os.urandom(_SALT_BYTES)
    cipher, nonce = _derived(seed, salt)
    return bytes([_VERSION]) + salt + cipher.encrypt(nonce, plaintext, _associated(key_id))


def unwrap(seed: bytes, key_id: str, ciphertext: bytes) -> bytes:
    """Opens what `wrap` made. Arguments as there.

    Raises:
        DecodeError: `kms-ciphertext`. Refused: `kms-tag`: made under another seed or key id, or changed.
    """
    if not OVERHEAD_BYTES < len(ciphertext) <= OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX:
        text = f"a ciphertext has {OVERHEAD_BYTES + 1} to {OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX} bytes"
        raise DecodeError(f"{text}, not {len(ciphertext)}", reason="kms-ciphertext", field="ciphertext")
    if ciphertext[0] != _VERSION:
        text = f"expected version {_VERSION} of a ciphertext, not {ciphertext[0]}"
        raise DecodeError(text, reason="kms-ciphertext", field="ciphertext")
    body = 1 + _SALT_BYTES
    cipher, nonce = _derived(seed, ciphertext[1:body])
    try:
        return cipher.decrypt(nonce, ciphertext[body:], _associated(key_id))
    except InvalidTag:
        raise Refused("the ciphertext does not open under the key it names", reason="kms-tag") from None


def check_annotations(annotations: Mapping[str, bytes], sealed: bytes) -> None:
    """Holds what came with a ciphertext to what was given out with it.

    Args:
        annotations: as they came.
        sealed: the sealed seed of the generation.

    Raises:
        InvalidInput: `kms-annotations`.
    """
    if dict(annotations) != {ANNOTATION: sealed}:
        text = f"expected the one annotation {ANNOTATION}, with the sealed seed of the key"
        raise InvalidInput(text, reason="kms-annotations", field="annotations")


def _derived(seed: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    assert len(seed) == SEED_BYTES
    okm = HKDF(SHA256(), 32 + _NONCE_BYTES, salt, _LABEL).derive(seed)
    return AESGCM(okm[:32]), okm[32:]


def _associated(key_id: str) -> bytes:
    return bcs.bytes_(_LABEL) + bcs.string(key_id)
