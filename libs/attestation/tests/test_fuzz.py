"""Mutated documents: no exception but ours comes out, and nothing but the same statement is accepted."""

import random
from collections.abc import Callable

import pytest

from daas.attestation import UNCHECKED, Attestation, AttestationError, AttestationPolicy, verify
from daas.devstack.nsm.documents import TAG_18, sign_document
from daas.devstack.nsm.forge import MEASUREMENT, NONCE, Forge

NOW_MS = 1_790_000_000_000
_INTERESTING_BYTES = (
    0x00,
    0x01,
    0x17,
    0x18,
    0x19,
    0x1B,
    0x1F,
    0x40,
    0x5F,
    0x7F,
    0x80,
    0x9F,
    0xA0,
    0xBF,
    0xD2,
    0xF6,
    0xFF,
)


def _mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three small changes, of the kinds that parsers fall over."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(changed)) if changed else 0
        kind = rng.randrange(7)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and changed:
            changed[at] = rng.choice(_INTERESTING_BYTES)
        elif kind == 2:
            changed.insert(at, rng.choice(_INTERESTING_BYTES))
        elif kind == 3:
            del changed[at : at + rng.randrange(1, 5)]
        elif kind == 4:
            length = rng.randrange(1, 64)
            changed[at:at] = changed[at : at + length]
        elif kind == 5:
            del changed[at:]
        else:
            source = rng.randrange(len(changed)) if changed else 0
            length = rng.randrange(1, 32)
            changed[at : at + length] = changed[source : source + length]
    return bytes(changed)


def _outsider(forge: Forge, rng: random.Random) -> bytes:
    """Changes the bytes of a signed document."""
    return _mutate(forge.document(), rng)


def _holder_of_the_leaf_key(forge: Forge, rng: random.Random) -> bytes:
    """Changes the payload and signs it."""
    return sign_document(forge.leaf.key, _mutate(forge.payload(), rng))


def _forger_of_the_leaf(forge: Forge, rng: random.Random) -> bytes:
    """Changes the leaf certificate and signs the document."""
    return forge.document(certificate=_mutate(forge.leaf.der, rng))


def _forger_of_a_ca(forge: Forge, rng: random.Random) -> bytes:
    """Changes one certificate of the bundle and signs the document."""
    cabundle = list(forge.cabundle)
    at = rng.randrange(len(cabundle))
    cabundle[at] = _mutate(cabundle[at], rng)
    return forge.document(cabundle=cabundle)


def _without_optional_tag(document: bytes) -> bytes:
    return document.removeprefix(TAG_18)


def _fuzz(seed: int, mutants: int) -> int:
    """Verify that many mutants from a seed; returns how many were accepted, all of them harmless."""
    rng = random.Random(seed)
    forge = Forge.create(NOW_MS)
    policy = AttestationPolicy(
        measurements={MEASUREMENT},
        nonce=NONCE,
        user_data=UNCHECKED,
        public_key_length_bytes=32,
        development_root_sha256=forge.root_sha256,
    )
    original = verify(forge.document(), policy, NOW_MS)
    attackers: tuple[Callable[[Forge, random.Random], bytes], ...] = (
        _outsider,
        _holder_of_the_leaf_key,
        _forger_of_the_leaf,
        _forger_of_a_ca,
    )
    accepted = 0
    for number in range(mutants):
        attacker = attackers[number % len(attackers)]
        document = attacker(forge, rng)
        try:
            attestation = verify(document, policy, NOW_MS)
        except AttestationError:
            continue
        accepted += 1
        if attacker is _holder_of_the_leaf_key:
            _check_what_no_signer_can_change(attestation, original)
        else:
            # Only a mutation that changed nothing, or put the optional tag in front.
            assert attestation == original, f"seed {seed}, mutant {number}: accepted {document.hex()}"
    return accepted


def _check_what_no_signer_can_change(attestation: Attestation, original: Attestation) -> None:
    assert attestation.nonce == original.nonce
    assert attestation.measurement == original.measurement
    assert attestation.module_id == original.module_id
    assert attestation.public_key is not None
    assert len(attestation.public_key) == 32


def test_three_thousand_mutants_bring_out_no_foreign_exception_and_no_other_statement() -> None:
    assert _fuzz(seed=20260101, mutants=3_000) < 3_000


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
def test_three_hundred_thousand_mutants_bring_out_no_foreign_exception_and_no_other_statement(seed: int) -> None:
    assert _fuzz(seed, mutants=30_000) < 30_000
