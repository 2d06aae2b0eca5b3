"""Data encapsulation: the ciphers under the key that the shares protect.

Source: MystenLabs/seal, crates/crypto/src/dem.rs. Keys have 32 bytes and encrypt one message each: that is why a fixed
initialisation vector is safe.
"""

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daas.seal import tags
from daas.seal.errors import DecryptionFailed
from daas.seal.gf256 import xor

KEY_LENGTH: Final = 32
MAC_LENGTH: Final = 32
#: 16 bytes, as the format fixes it: not the usual 12.
_GCM_IV: Final = bytes.fromhex("8a3799fdc62e79dba0805907d69c94dc")
_GCM_TAG_LENGTH: Final = 16
_BLOCK: Final = 32


def aes256gcm_encrypt(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Ciphertext and 16-byte tag."""
    return AESGCM(key).encrypt(_GCM_IV, plaintext, aad)


def aes256gcm_decrypt(key: bytes, blob: bytes, aad: bytes) -> bytes:
    """The plaintext.

    Raises:
        DecryptionFailed: `seal-tag`.
    """
    if len(blob) < _GCM_TAG_LENGTH:
        raise DecryptionFailed("the ciphertext is shorter than its tag", reason="seal-tag")
    try:
        return AESGCM(key).decrypt(_GCM_IV, blob, aad)
    except InvalidTag:
        raise DecryptionFailed("the tag does not hold: other key, data or additional data", reason="seal-tag") from None


def hmac256ctr_encrypt(key: bytes, plaintext: bytes, aad: bytes) -> tuple[bytes, bytes]:
    """Ciphertext and 32-byte MAC. The only cipher that Move code can decrypt; about 0.15 ms a KiB."""
    blob = _keystream_xor(key, plaintext)
    return blob, _mac(key, blob, aad)


def hmac256ctr_decrypt(key: bytes, blob: bytes, mac: bytes, aad: bytes) -> bytes:
    """The plaintext.

    Raises:
        DecryptionFailed: `seal-tag`.
    """
    if not hmac.compare_digest(_mac(key, blob, aad), mac):
        raise DecryptionFailed("the MAC does not hold: other key, data or additional data", reason="seal-tag")
    return _keystream_xor(key, blob)


def _keystream_xor(key: bytes, data: bytes) -> bytes:
    blocks = (len(data) + _BLOCK - 1) // _BLOCK
    stream = b"".join(
        [hmac.digest(key, tags.HMAC_CTR_ENCRYPT + number.to_bytes(8, "little"), "sha3_256") for number in range(blocks)]
    )
    return xor(data, stream[: len(data)])


def _mac(key: bytes, blob: bytes, aad: bytes) -> bytes:
    return hmac.digest(key, tags.HMAC_CTR_MAC + len(aad).to_bytes(8, "little") + aad + blob, "sha3_256")
