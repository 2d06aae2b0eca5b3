"""Genuine AWS documents are accepted at their own time, and refused at any other or with anything changed."""

import base64
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from daas.attestation import (
    AWS_ROOT_SHA256,
    UNCHECKED,
    Attestation,
    AttestationError,
    AttestationPolicy,
    ChainCache,
    Measurement,
    Reason,
    TimeMode,
    parse_document,
    verify,
)
from daas.attestation.certificates import verify_chain

_REPOSITORY = Path(__file__).resolve().parents[3]
_VECTORS = Path(os.environ.get("DAAS_NITRO_VECTORS", _REPOSITORY.parent / "shared" / "vectors" / "nitro"))
_INDEX = _VECTORS / "vectors.json"

pytestmark = pytest.mark.skipif(
    not _INDEX.is_file(), reason="no genuine documents here: set DAAS_NITRO_VECTORS to the directory that has them"
)


class Vector(msgspec.Struct, frozen=True):
    id: str
    expect: str
    sha256: str
    verify_at_ms: int
    module_id: str
    debug: bool
    payload_map: str
    high_s: bool
    pcr_indexes: list[int]
    pcrs: dict[str, str]
    public_key: str | None = None
    user_data: str | None = None
    nonce: str | None = None

    @property
    def document(self) -> bytes:
        return base64.b64decode((_VECTORS / f"{self.id}.b64").read_text())


_ALL = msgspec.json.decode(_INDEX.read_bytes(), type=list[Vector]) if _INDEX.is_file() else []
_VALID = [pytest.param(vector, id=vector.id) for vector in _ALL if vector.expect == "valid"]
_INVALID = [pytest.param(vector, id=vector.id) for vector in _ALL if vector.expect != "valid"]


def _policy(document: bytes, time_mode: TimeMode = TimeMode.PRESENT) -> AttestationPolicy:
    pcrs = parse_document(document).pcrs
    debug = parse_document(document).debug
    return AttestationPolicy(
        measurements=[] if debug else [Measurement(pcrs[0], pcrs[1], pcrs[2])],
        nonce=UNCHECKED,
        user_data=UNCHECKED,
        public_key_length_bytes=UNCHECKED,
        allow_debug=debug,
        time_mode=time_mode,
    )


def _verify(document: bytes, at_ms: int, time_mode: TimeMode = TimeMode.PRESENT) -> Attestation:
    return verify(document, _policy(document, time_mode), at_ms, chain_cache=ChainCache())


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


@pytest.mark.parametrize("vector", _VALID)
def test_a_genuine_document_is_accepted_at_its_own_time(vector: Vector) -> None:
    assert hashlib.sha256(vector.document).hexdigest() == vector.sha256
    attestation = _verify(vector.document, vector.verify_at_ms)
    assert (attestation.module_id, attestation.debug) == (vector.module_id, vector.debug)
    assert attestation.timestamp_ms == vector.verify_at_ms
    assert sorted(attestation.pcrs) == vector.pcr_indexes
    shown = {str(index): value.hex() for index, value in attestation.pcrs.items() if any(value)}
    assert shown == vector.pcrs
    assert _hex(attestation.public_key) == vector.public_key
    assert _hex(attestation.user_data) == vector.user_data
    assert _hex(attestation.nonce) == vector.nonce
    assert attestation.root_fingerprint == AWS_ROOT_SHA256.hex()
    assert not attestation.simulated
    # A leaf lives for 3 hours; a document may come late in its life.
    assert 0 < attestation.leaf_not_after_ms - attestation.timestamp_ms <= 3 * 3_600_000 + 3999


@pytest.mark.parametrize("vector", _VALID)
def test_a_genuine_document_is_refused_years_later_but_holds_for_an_auditor(vector: Vector) -> None:
    later_ms = vector.verify_at_ms + 5 * 365 * 24 * 3_600_000
    with pytest.raises(AttestationError) as refused:
        _verify(vector.document, later_ms)
    assert refused.value.reason == Reason.STALE
    assert _verify(vector.document, later_ms, TimeMode.HISTORICAL).historical


@pytest.mark.parametrize("vector", _VALID)
def test_a_genuine_debug_document_is_refused_by_a_policy_that_does_not_name_debug_mode(vector: Vector) -> None:
    policy = AttestationPolicy(
        measurements=[Measurement(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)],
        nonce=UNCHECKED,
        user_data=UNCHECKED,
        public_key_length_bytes=UNCHECKED,
    )
    with pytest.raises(AttestationError) as refused:
        verify(vector.document, policy, vector.verify_at_ms)
    assert refused.value.reason == (Reason.DEBUG_MODE if vector.debug else Reason.PCR_MISMATCH)


@pytest.mark.parametrize("vector", _VALID)
def test_a_genuine_document_with_one_bit_flipped_is_refused(vector: Vector) -> None:
    document = vector.document
    for position in range(0, len(document), len(document) // 20):
        changed = bytearray(document)
        changed[position] ^= 1
        with pytest.raises(AttestationError):
            verify(bytes(changed), _policy(document), vector.verify_at_ms)


@pytest.mark.parametrize("vector", _INVALID)
def test_a_document_of_a_foreign_root_is_refused(vector: Vector) -> None:
    with pytest.raises(AttestationError) as refused:
        verify_chain(parse_document(vector.document).cabundle, AWS_ROOT_SHA256, ChainCache())
    assert refused.value.reason == Reason.ROOT_NOT_PINNED


def test_both_forms_of_the_payload_map_and_of_s_are_among_the_documents() -> None:
    valid = [vector for vector in _ALL if vector.expect == "valid"]
    assert {vector.payload_map for vector in valid} == {"definite", "indefinite"}
    assert {vector.high_s for vector in valid} == {True, False}


def test_the_pinned_fingerprint_is_that_of_the_root_that_aws_publishes() -> None:
    assert hashlib.sha256((_VECTORS / "aws_root.der").read_bytes()).digest() == AWS_ROOT_SHA256
