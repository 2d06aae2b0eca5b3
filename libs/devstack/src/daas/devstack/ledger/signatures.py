"""User signatures over the intent message of a transaction: Ed25519, ECDSA on secp256k1 and secp256r1, and multisig."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from daas.devstack.ledger.encoding import Cursor
from daas.devstack.ledger.errors import LedgerError, TransactionRefusedError
from daas.devstack.ledger.type_tags import format_address

ED25519_FLAG: Final = 0
SECP256K1_FLAG: Final = 1
SECP256R1_FLAG: Final = 2
MULTISIG_FLAG: Final = 3
MULTISIG_MEMBERS_MAX: Final = 10
SIGNATURE_LENGTH: Final = 64
_OTHER_SCHEMES: Final = {5: "zkLogin", 6: "passkey"}
_KEY_LENGTHS: Final = {ED25519_FLAG: 32, SECP256K1_FLAG: 33, SECP256R1_FLAG: 33}
_CURVES: Final = {SECP256K1_FLAG: ec.SECP256K1(), SECP256R1_FLAG: ec.SECP256R1()}
_SECP256K1_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
TRANSACTION_INTENT: Final = bytes(3)  # scope transaction data, version 0, application Sui
PERSONAL_MESSAGE_INTENT: Final = b"\x03\x00\x00"


def address_of(public_key: bytes, flag: int = ED25519_FLAG) -> bytes:
    """The Sui address of a public key; `flag` names its scheme."""
    return hashlib.blake2b(bytes((flag,)) + public_key, digest_size=32).digest()


def verify_signatures(data: bytes, signatures: Sequence[bytes], signers: Sequence[bytes]) -> None:
    """Refuse a transaction unless each of its signers, and nobody else, has signed it.

    Raises:
        TransactionRefusedError: a scheme that is not supported, a wrong signature, one too many or one too few.
    """
    missing = set(signers)
    if len(signatures) != len(missing):
        raise _refused(f"expected {len(missing)} signatures, got {len(signatures)}")
    for signature in signatures:
        missing.discard(signer_of(signature, TRANSACTION_INTENT + data))
    if missing:
        raise _refused(f"no signature by {', '.join(format_address(address) for address in sorted(missing))}")


def signer_of(signature: bytes, intent_message: bytes) -> bytes:
    """The address that signed an intent message.

    Raises:
        TransactionRefusedError: malformed, of an unsupported scheme, or wrong.
    """
    message = hashlib.blake2b(intent_message, digest_size=32).digest()
    flag = signature[0] if signature else -1
    if flag == MULTISIG_FLAG:
        return _multisig_signer(signature, message)
    key_length = _KEY_LENGTHS.get(flag)
    if key_length is None:
        name = _OTHER_SCHEMES.get(flag, f"scheme {flag}")
        raise _refused(f"the simulated ledger can't verify {name}: Ed25519, secp256k1, secp256r1 or multisig expected")
    if len(signature) != 1 + SIGNATURE_LENGTH + key_length:
        raise _refused(f"expected {1 + SIGNATURE_LENGTH + key_length} bytes of scheme {flag}, got {len(signature)}")
    public_key = signature[1 + SIGNATURE_LENGTH :]
    _verify(flag, public_key, signature[1 : 1 + SIGNATURE_LENGTH], message)
    return address_of(public_key, flag)


def _verify(flag: int, public_key: bytes, signature: bytes, message: bytes) -> None:
    if flag == SECP256K1_FLAG and int.from_bytes(signature[32:], "big") > _SECP256K1_ORDER // 2:
        raise _refused("Signature is not valid for this transaction: it is the second form of one")
    try:
        if flag == ED25519_FLAG:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
            return
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[flag], public_key)
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        raise _refused("Signature is not valid for this transaction") from None


def _multisig_signer(signature: bytes, message: bytes) -> bytes:
    cursor = Cursor(signature, 1)
    try:
        parts = [(cursor.uleb(), cursor.take(SIGNATURE_LENGTH)) for _ in range(cursor.uleb())]
        bitmap = cursor.integer(2)
        members = [_member(cursor) for _ in range(cursor.uleb())]
        threshold = cursor.integer(2)
        cursor.finish()
    except LedgerError as error:
        raise _refused(f"malformed multisig: {error.message}") from None
    positions = [position for position in range(16) if bitmap >> position & 1]
    keys = {(flag, key) for flag, key, _ in members}
    if not 1 <= len(members) <= MULTISIG_MEMBERS_MAX or len(keys) != len(members):
        raise _refused(f"expected a multisig of 1 to {MULTISIG_MEMBERS_MAX} different keys, got {len(members)}")
    if len(positions) != len(parts) or (positions and positions[-1] >= len(members)):
        raise _refused(f"the multisig names {len(positions)} of {len(members)} members and holds {len(parts)} parts")
    if threshold == 0 or any(weight == 0 for _, _, weight in members):
        raise _refused("expected a multisig whose weights and threshold are above zero")
    for (flag, part), position in zip(parts, positions, strict=True):
        member_flag, key, _ = members[position]
        if flag != member_flag:
            raise _refused(f"multisig member {position} has another scheme than its signature")
        _verify(flag, key, part, message)
    weight = sum(members[position][2] for position in positions)
    if weight < threshold:
        raise _refused(f"expected signatures of weight {threshold}, got {weight}")
    preimage = b"".join(bytes((flag,)) + key + bytes((weight,)) for flag, key, weight in members)
    return hashlib.blake2b(
        bytes((MULTISIG_FLAG,)) + threshold.to_bytes(2, "little") + preimage, digest_size=32
    ).digest()


def _member(cursor: Cursor) -> tuple[int, bytes, int]:
    flag = cursor.uleb()
    if flag not in _KEY_LENGTHS:
        raise LedgerError(f"member of scheme {flag}: Ed25519, secp256k1 or secp256r1 expected", reason="bad-multisig")
    return flag, cursor.take(_KEY_LENGTHS[flag]), cursor.integer(1)


def _refused(detail: str) -> TransactionRefusedError:
    return TransactionRefusedError(f"Invalid user signature: {detail}", field="signatures")
