"""Who signed: every scheme that pysui offers is verified, and nothing that only looks like a signature is taken."""

import base64
import hashlib

import pytest
from pysui.sui.sui_crypto import MultiSig, SignatureScheme, SuiKeyPair, create_new_keypair

from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.signatures import TRANSACTION_INTENT, signer_of, verify_signatures
from daas.devstack.ledger.type_tags import parse_address

DATA = b"transaction data"
SCHEMES = (SignatureScheme.ED25519, SignatureScheme.SECP256K1, SignatureScheme.SECP256R1)
SECP256K1_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


def key_pair(scheme: SignatureScheme) -> SuiKeyPair:
    (_, pair) = create_new_keypair(scheme)
    assert isinstance(pair, SuiKeyPair)
    return pair


def sign(pair: SuiKeyPair, data: bytes = DATA) -> bytes:
    return base64.b64decode(pair.new_sign_secure(base64.b64encode(data).decode()))


def address(pair: SuiKeyPair) -> bytes:
    return hashlib.blake2b(pair.public_key.scheme_and_key(), digest_size=32).digest()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signature_of_pysui_is_verified_for_its_address_only(scheme: SignatureScheme) -> None:
    pair = key_pair(scheme)
    signature = sign(pair)
    verify_signatures(DATA, [signature], [address(pair)])
    with pytest.raises(TransactionRefusedError, match="no signature by"):
        verify_signatures(DATA, [signature], [bytes(32)])
    with pytest.raises(TransactionRefusedError, match="not valid"):
        verify_signatures(DATA + b"!", [signature], [address(pair)])
    for position in (1, 40, 70):
        damaged = bytearray(signature)
        damaged[position] ^= 1
        with pytest.raises(TransactionRefusedError):
            verify_signatures(DATA, [bytes(damaged)], [address(pair)])
    with pytest.raises(TransactionRefusedError, match="bytes of scheme"):
        verify_signatures(DATA, [signature[:-1]], [address(pair)])


def test_the_second_form_of_a_secp256k1_signature_is_refused() -> None:
    pair = key_pair(SignatureScheme.SECP256K1)
    signature = sign(pair)
    s = SECP256K1_ORDER - int.from_bytes(signature[33:65], "big")
    with pytest.raises(TransactionRefusedError, match="not valid"):
        signer_of(signature[:33] + s.to_bytes(32, "big") + signature[65:], TRANSACTION_INTENT + DATA)


@pytest.mark.parametrize("flag", [4, 5, 6, 200])
def test_schemes_that_can_not_be_verified_are_refused_by_name(flag: int) -> None:
    with pytest.raises(TransactionRefusedError, match="can't verify"):
        signer_of(bytes((flag,)) + bytes(100), TRANSACTION_INTENT + DATA)


def multisig(weights: list[int], threshold: int) -> tuple[MultiSig, list[SuiKeyPair]]:
    pairs = [key_pair(scheme) for scheme in SCHEMES]
    return MultiSig(pairs, weights, threshold), pairs


def test_a_multisig_of_mixed_schemes_is_verified_when_its_weight_suffices() -> None:
    group, pairs = multisig([1, 2, 3], 4)
    text = base64.b64encode(DATA).decode()
    for chosen in ((0, 2), (1, 2), (0, 1, 2)):
        signature = base64.b64decode(group.sign(text, [pairs[i].public_key for i in chosen]))
        verify_signatures(DATA, [signature], [parse_address(group.address)])


def test_a_multisig_without_enough_weight_or_with_a_wrong_part_is_refused() -> None:
    group, pairs = multisig([1, 2, 3], 4)
    text = base64.b64encode(DATA).decode()
    signature = bytearray(base64.b64decode(group.sign(text, [pairs[0].public_key, pairs[2].public_key])))
    assert signature[1] == 2
    wrong = bytearray(signature)
    wrong[4] ^= 1
    with pytest.raises(TransactionRefusedError, match="not valid"):
        signer_of(bytes(wrong), TRANSACTION_INTENT + DATA)
    lighter = bytearray(signature)
    lighter[1] = 1
    del lighter[2 + 65 : 2 + 2 * 65]
    lighter[2 + 65 : 2 + 67] = b"\x01\x00"
    with pytest.raises(TransactionRefusedError, match="weight 4, got 1"):
        signer_of(bytes(lighter), TRANSACTION_INTENT + DATA)
    lying = bytearray(signature)
    lying[2 + 130 : 2 + 132] = b"\x03\x00"  # names the second member, whose scheme is another
    with pytest.raises(TransactionRefusedError, match="another scheme"):
        signer_of(bytes(lying), TRANSACTION_INTENT + DATA)
    with pytest.raises(TransactionRefusedError, match="malformed"):
        signer_of(bytes(signature[:-1]), TRANSACTION_INTENT + DATA)
