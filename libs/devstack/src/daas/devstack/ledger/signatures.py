"""User signatures: Ed25519 over the intent message of a transaction, by the sender and by whoever pays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.type_tags import format_address

ED25519_FLAG: Final = 0
_SIGNATURE_LENGTH: Final = 1 + 64 + 32
_TRANSACTION_INTENT: Final = bytes(3)  # scope transaction data, version 0, application Sui


def address_of(public_key: bytes) -> bytes:
    """The Sui address of an Ed25519 public key."""
    return hashlib.blake2b(bytes((ED25519_FLAG,)) + public_key, digest_size=32).digest()


def verify_signatures(data: bytes, signatures: Sequence[bytes], signers: Sequence[bytes]) -> None:
    """Refuse a transaction unless each of its signers, and nobody else, has signed it.

    Raises:
        TransactionRefusedError: a scheme other than Ed25519, a wrong signature, one too many or one too few.
    """
    message = hashlib.blake2b(_TRANSACTION_INTENT + data, digest_size=32).digest()
    missing = set(signers)
    if len(signatures) != len(missing):
        raise TransactionRefusedError(
            f"Invalid user signature: expected {len(missing)} signatures, got {len(signatures)}", field="signatures"
        )
    for signature in signatures:
        if len(signature) != _SIGNATURE_LENGTH or signature[0] != ED25519_FLAG:
            raise TransactionRefusedError(
                "Invalid user signature: the simulated ledger takes Ed25519 signatures of 97 bytes", field="signatures"
            )
        public_key = signature[65:]
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature[1:65], message)
        except (InvalidSignature, ValueError):
            raise TransactionRefusedError(
                "Invalid user signature: Signature is not valid for this transaction", field="signatures"
            ) from None
        missing.discard(address_of(public_key))
    if missing:
        wanted = ", ".join(format_address(address) for address in sorted(missing))
        raise TransactionRefusedError(f"Invalid user signature: no signature by {wanted}", field="signatures")
