"""Sui signatures over personal messages: made with Ed25519, verified for every scheme that pyca/cryptography knows.

Schemes by flag byte: 0 Ed25519, 1 secp256k1, 2 secp256r1, 3 multisig of these. zkLogin (5) needs the providers' keys
and a proof system, passkeys (6) a browser's signing ceremony: they are refused by name.
Source: Sui documentation, "Signatures"; MystenLabs/sui, crates/sui-types/src/{crypto,multisig}.rs.
"""

import base64
import binascii
from hashlib import blake2b
from typing import Final, Never, Protocol

from cryptography.exceptions import InvalidSignature as WrongSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from daas.common import bcs
from daas.common.errors import DecodeError
from daas.seal.errors import InvalidSignature

ED25519: Final = 0
SECP256K1: Final = 1
SECP256R1: Final = 2
MULTISIG: Final = 3
_UNSUPPORTED: Final = {4: "BLS12-381", 5: "zkLogin", 6: "passkey"}
_KEY_LENGTHS: Final = {ED25519: 32, SECP256K1: 33, SECP256R1: 33}
_SIGNATURE_LENGTH: Final = 64
_CURVES: Final[dict[int, ec.EllipticCurve]] = {SECP256K1: ec.SECP256K1(), SECP256R1: ec.SECP256R1()}
#: Orders of the two curves: Sui takes only signatures with s in the lower half.
_CURVE_ORDERS: Final = {
    SECP256K1: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    SECP256R1: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
#: Intent prefix of personal messages: scope PersonalMessage, version 0, application Sui.
_PERSONAL_MESSAGE_INTENT: Final = b"\x03\x00\x00"
_MULTISIG_MEMBERS_MAX: Final = 10


class PersonalMessageSigner(Protocol):
    """A Sui account that can sign personal messages: a key at hand, a wallet, a remote signer."""

    @property
    def address(self) -> str:
        """`0x` and 64 digits."""
        ...

    async def sign_personal_message(self, message: bytes) -> str:
        """Base64 of the serialized Sui signature: flag, signature, public key."""
        ...


class Ed25519Signer:
    """An account whose Ed25519 seed (32 bytes) is at hand. Nothing here prints or pickles it."""

    __slots__ = ("_key", "_public_key", "address")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public_key = self._key.public_key().public_bytes_raw()
        self.address: str = "0x" + address_of(ED25519, self._public_key).hex()

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.address})"

    def __reduce__(self) -> Never:
        raise TypeError("a signer does not leave its process")

    async def sign_personal_message(self, message: bytes) -> str:
        """Base64 of flag, signature, public key (97 bytes)."""
        signature = self._key.sign(personal_message_digest(message))
        return base64.b64encode(bytes([ED25519]) + signature + self._public_key).decode()


def personal_message_digest(message: bytes) -> bytes:
    """What is signed for a personal message: blake2b-256 over intent and BCS vector."""
    return blake2b(_PERSONAL_MESSAGE_INTENT + bcs.bytes_(message), digest_size=32).digest()


def address_of(scheme: int, public_key: bytes) -> bytes:
    """The address of a single key: blake2b-256 over flag and key."""
    return blake2b(bytes([scheme]) + public_key, digest_size=32).digest()


def verify_personal_message(message: bytes, signature: str, address: bytes) -> None:
    """Checks that the account of `address` (32 bytes) signed a personal message.

    Args:
        message: the text that was signed.
        signature: base64 of a serialized Sui signature.
        address: 32 bytes.

    Raises:
        InvalidSignature: `signature-encoding`, `signature-scheme` (not supported), `signature-address` (somebody else's
            key), `signature-wrong`.
    """
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSignature("the signature is not base64", reason="signature-encoding") from None
    if not raw:
        raise InvalidSignature("the signature is empty", reason="signature-encoding")
    digest = personal_message_digest(message)
    if raw[0] == MULTISIG:
        _verify_multisig(raw[1:], digest, address)
        return
    length = _KEY_LENGTHS.get(raw[0])
    if length is None:
        name = _UNSUPPORTED.get(raw[0], f"scheme {raw[0]}")
        raise InvalidSignature(f"signatures of {name} are not supported here", reason="signature-scheme")
    if len(raw) != 1 + _SIGNATURE_LENGTH + length:
        raise InvalidSignature(f"expected {1 + _SIGNATURE_LENGTH + length} bytes, not {len(raw)}",
                               reason="signature-encoding")  # fmt: skip
    key = raw[1 + _SIGNATURE_LENGTH :]
    if address_of(raw[0], key) != address:
        raise InvalidSignature("the signing key belongs to another address", reason="signature-address")
    verify_digest(raw[0], key, raw[1 : 1 + _SIGNATURE_LENGTH], digest)


def verify_digest(scheme: int, public_key: bytes, signature: bytes, digest: bytes) -> None:
    """One signature of 64 bytes over a 32-byte digest under one key.

    Raises:
        InvalidSignature: `signature-wrong`, also where the key is no key.
    """
    try:
        if scheme == ED25519:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, digest)
            return
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if s > _CURVE_ORDERS[scheme] // 2:
            raise InvalidSignature("s is in the upper half of the curve's order", reason="signature-wrong")
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[scheme], public_key)
        # Sui hashes the intent message's digest once more with SHA-256 on these curves.
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(hashes.SHA256()))
    except (WrongSignature, ValueError):
        raise InvalidSignature("the signature does not hold", reason="signature-wrong") from None


def _verify_multisig(data: bytes, digest: bytes, address: bytes) -> None:
    """BCS {signatures vector<enum>, bitmap u16, {members vector<(key enum, weight u8)>, threshold u16}}."""
    reader = bcs.Reader(data)
    try:
        signatures = reader.vector(lambda: (_supported(reader.uleb128()), reader.take(_SIGNATURE_LENGTH)))
        bitmap = reader.u16()
        members = reader.vector(lambda: (*_member_key(reader), reader.u8()))
        threshold = reader.u16()
        reader.end()
    except DecodeError as error:
        raise InvalidSignature(f"the multisig is malformed: {error.message}", reason="signature-encoding") from None
    if not 0 < len(members) <= _MULTISIG_MEMBERS_MAX or len(set(members)) != len(members) or threshold < 1:
        raise InvalidSignature("the multisig's members are none, too many or repeated", reason="signature-encoding")
    preimage = bytes([MULTISIG]) + bcs.u16(threshold)
    preimage += b"".join(bytes([scheme]) + key + bytes([weight]) for scheme, key, weight in members)
    if blake2b(preimage, digest_size=32).digest() != address:
        raise InvalidSignature("the multisig belongs to another address", reason="signature-address")
    signers = [place for place in range(16) if bitmap >> place & 1]
    if len(signers) != len(signatures) or any(place >= len(members) for place in signers):
        raise InvalidSignature("the multisig's bitmap does not fit its signatures", reason="signature-encoding")
    total = 0
    for place, (scheme, signature) in zip(signers, signatures, strict=True):
        member_scheme, key, weight = members[place]
        if member_scheme != scheme:
            raise InvalidSignature("a signature of the multisig is of another scheme than its key",
                                   reason="signature-encoding")  # fmt: skip
        verify_digest(scheme, key, signature, digest)
        total += weight
    if total < threshold:
        raise InvalidSignature(f"the signatures weigh {total}, the multisig asks for {threshold}",
                               reason="signature-wrong")  # fmt: skip


def _supported(scheme: int) -> int:
    if scheme not in _KEY_LENGTHS:
        name = {3: "zkLogin", 4: "passkey"}.get(scheme, f"scheme {scheme}")
        raise InvalidSignature(f"multisigs with a member of {name} are not supported here", reason="signature-scheme")
    return scheme


def _member_key(reader: bcs.Reader) -> tuple[int, bytes]:
    scheme = _supported(reader.uleb128())
    return scheme, reader.take(_KEY_LENGTHS[scheme])
