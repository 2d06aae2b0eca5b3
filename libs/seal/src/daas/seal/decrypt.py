"""Decryption with user secret keys, and the checks that say whether the object's maker was honest.

A dishonest maker can hand out shares that open the object to different messages, or to none, depending on who holds
which keys. Two checks close that: every share at hand must lie on ONE polynomial of degree below the threshold (the
official clients miss a degree that is too high when more keys than the threshold are at hand), and with the servers'
public keys all other shares are recomputed from the encryption's own randomness and held to the same polynomial.
Source: MystenLabs/seal, crates/crypto/src/lib.rs (`seal_decrypt`).
"""

from collections.abc import Mapping

from daas.seal import dem, gf256, ibe
from daas.seal.backend import BACKEND
from daas.seal.backend.protocol import G1
from daas.seal.encrypted_object import Aes256Gcm, EncryptedObject, Plain
from daas.seal.errors import DecryptionFailed, NotEnoughKeys
from daas.seal.gf256 import Share


def decrypt(
    sealed: EncryptedObject,
    user_secret_keys: Mapping[bytes, bytes],
    public_keys: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """The plaintext.

    Objects of the plain encapsulation have none: see `decrypt_key`. They are refused here because nothing in an object
    binds its encapsulation: one with a ciphertext can be rewritten as a plain one, and its data key would pass for its
    plaintext.

    Args:
        sealed: the object.
        user_secret_keys: by key server's object id, for the object's full identity; those of other servers are ignored.
        public_keys: by object id, of ALL the object's key servers: with them it is certain that every other threshold
            of keys opens the object to the same plaintext. Without them only the shares at hand are compared.

    Raises:
        NotEnoughKeys: `seal-threshold`: the keys are worth fewer shares than the threshold.
        DecryptionFailed: `seal-randomness`, `seal-tag`: other keys, or a changed object; `seal-inconsistent`: the
            object's maker cheated, or one of the keys is wrong; `seal-public-keys`: one is missing; `seal-plain`.
        MalformedPoint: a key.
    """
    ciphertext = sealed.ciphertext
    if isinstance(ciphertext, Plain):
        raise DecryptionFailed("the object has no ciphertext: its key is its content", reason="seal-plain")
    data_key = _data_key(sealed, user_secret_keys, public_keys)
    if isinstance(ciphertext, Aes256Gcm):
        return dem.aes256gcm_decrypt(data_key, ciphertext.blob, sealed.aad)
    return dem.hmac256ctr_decrypt(data_key, ciphertext.blob, ciphertext.mac, sealed.aad)


def decrypt_key(
    sealed: EncryptedObject,
    user_secret_keys: Mapping[bytes, bytes],
    public_keys: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """The key of an object of the plain encapsulation, 32 bytes. Arguments and errors as of `decrypt`.

    Raises:
        DecryptionFailed: also `seal-plain`: the object has a ciphertext.
    """
    if not isinstance(sealed.ciphertext, Plain):
        raise DecryptionFailed("the object has a ciphertext: its key is not its content", reason="seal-plain")
    return _data_key(sealed, user_secret_keys, public_keys)


def _data_key(
    sealed: EncryptedObject, user_secret_keys: Mapping[bytes, bytes], public_keys: Mapping[bytes, bytes] | None
) -> bytes:
    """The key of the data encapsulation, after all checks."""
    sealed.check_structure()
    shares, missing, identity = _open_shares(sealed, user_secret_keys)
    if len(shares) < sealed.threshold:
        raise NotEnoughKeys(
            f"the keys are worth {len(shares)} shares, the threshold is {sealed.threshold}", reason="seal-threshold"
        )
    basis = shares[: sealed.threshold]
    base_key = gf256.combine(basis)
    object_ids = [service.object_id for service in sealed.services]
    randomness_key = ibe.derive_randomness_key(base_key, sealed.threshold, sealed.encrypted_shares, object_ids)
    scalar = ibe.check_randomness(gf256.xor(sealed.encrypted_randomness, randomness_key), sealed.nonce)
    if public_keys is not None:
        shares += _recompute(sealed, missing, scalar, identity, public_keys)
    for share in shares[sealed.threshold :]:
        if gf256.evaluate(basis, share.index) != share.value:
            raise DecryptionFailed("the object's shares do not lie on one polynomial of the threshold's degree",
                                   reason="seal-inconsistent")  # fmt: skip
    return ibe.derive_data_key(base_key, sealed.threshold, sealed.encrypted_shares, object_ids)


def _open_shares(sealed: EncryptedObject, keys: Mapping[bytes, bytes]) -> tuple[list[Share], list[int], G1]:
    """The shares that these keys unmask, the places of the others, and H1 of the identity."""
    nonce = ibe.decode_g2(sealed.nonce)
    point = ibe.hash_identity(sealed.full_id)
    encoded = BACKEND.encode(point)
    elements: dict[bytes, bytes] = {}
    shares, missing = [], []
    for place, service in enumerate(sealed.services):
        key = keys.get(service.object_id)
        if key is None:
            missing.append(place)
            continue
        if service.object_id not in elements:
            elements[service.object_id] = BACKEND.pairing(BACKEND.g1_decode(key), nonce)
        shares.append(_unmask(sealed, place, elements[service.object_id], encoded))
    return shares, missing, point


def _recompute(
    sealed: EncryptedObject, places: list[int], scalar: int, identity: G1, public_keys: Mapping[bytes, bytes]
) -> list[Share]:
    """Shares whose keys are not at hand, from the encryption's own randomness.

    Those at hand need no second look: for a right key e(usk, g2^r) and e(H1(id)^r, public key) are one element.
    """
    raised = BACKEND.multiply(identity, scalar)
    encoded = BACKEND.encode(identity)
    elements: dict[bytes, bytes] = {}
    shares = []
    for place in places:
        object_id = sealed.services[place].object_id
        if object_id not in elements:
            public_key = public_keys.get(object_id)
            if public_key is None:
                raise DecryptionFailed(f"the public key of key server 0x{object_id.hex()} is missing",
                                       reason="seal-public-keys")  # fmt: skip
            elements[object_id] = BACKEND.pairing(raised, ibe.decode_g2(public_key))
        shares.append(_unmask(sealed, place, elements[object_id], encoded))
    return shares


def _unmask(sealed: EncryptedObject, place: int, element: bytes, identity: bytes) -> Share:
    service = sealed.services[place]
    mask = ibe.mask(element, sealed.nonce, identity, service.object_id, service.index)
    return Share(service.index, gf256.xor(sealed.encrypted_shares[place], mask))
