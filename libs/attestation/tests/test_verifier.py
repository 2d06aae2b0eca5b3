"""What `verify` gives back, and what a policy can and can't ask for."""

import dataclasses

import pytest

from daas.attestation import (
    AWS_ROOT_SHA256,
    UNCHECKED,
    AttestationError,
    AttestationPolicy,
    ChainCache,
    Measurement,
    Reason,
    TimeMode,
    parse_document,
    verify,
)
from daas.common.errors import ConfigurationError, Refused
from daas.devstack.nsm import DevelopmentAuthority, SoftwareNsm, create_root
from daas.devstack.nsm.certificates import INSTANCE_PROFILE
from daas.devstack.nsm.forge import MEASUREMENT, MODULE_ID, NONCE, PCRS, PUBLIC_KEY, Forge

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
ZERO = bytes(48)


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge.create(NOW_MS)


def _policy(forge: Forge, **changes: object) -> AttestationPolicy:
    policy = AttestationPolicy(
        measurements={MEASUREMENT},
        nonce=NONCE,
        user_data=UNCHECKED,
        public_key_length_bytes=32,
        development_root_sha256=forge.root_sha256,
    )
    return dataclasses.replace(policy, **changes)  # type: ignore[arg-type]  # names checked at run time


def _reason(document: bytes, policy: AttestationPolicy, now_ms: int = NOW_MS) -> str:
    with pytest.raises(AttestationError) as refused:
        verify(document, policy, now_ms)
    return refused.value.reason


def test_an_accepted_document_says_everything_that_a_relying_party_needs(forge: Forge) -> None:
    attestation = verify(forge.document(user_data=b"policy digest"), _policy(forge), NOW_MS)
    assert attestation.module_id == MODULE_ID
    assert attestation.timestamp_ms == NOW_MS - 1000
    assert attestation.pcrs == PCRS
    assert attestation.measurement == MEASUREMENT
    assert (attestation.public_key, attestation.user_data, attestation.nonce) == (PUBLIC_KEY, b"policy digest", NONCE)
    assert attestation.leaf_not_after_ms == attestation.chain_not_after_ms == NOW_MS + 2 * HOUR_MS + 999
    assert attestation.root_fingerprint == forge.root_sha256.hex()
    assert (attestation.debug, attestation.simulated, attestation.historical) == (False, True, False)


def test_an_attestation_as_json_has_its_bytes_in_hexadecimal(forge: Forge) -> None:
    builtins = verify(forge.document(), _policy(forge), NOW_MS).to_builtins()
    assert builtins["public_key"] == PUBLIC_KEY.hex()
    assert builtins["user_data"] is None
    assert builtins["pcrs"] == {str(index): value.hex() for index, value in PCRS.items()}


def test_the_chain_may_end_before_the_leaf(forge: Forge) -> None:
    short = forge.with_instance(INSTANCE_PROFILE, not_after_ms=NOW_MS + HOUR_MS)
    attestation = verify(short.document(), _policy(forge), NOW_MS)
    assert attestation.chain_not_after_ms == NOW_MS + HOUR_MS + 999
    assert attestation.leaf_not_after_ms == NOW_MS + 2 * HOUR_MS + 999


def test_a_development_root_is_trusted_only_where_it_is_named(forge: Forge) -> None:
    production = _policy(forge, development_root_sha256=None)
    assert (production.root_sha256, production.simulated) == (AWS_ROOT_SHA256, False)
    assert _reason(forge.document(), production) == Reason.ROOT_NOT_PINNED


def test_the_aws_root_cannot_be_named_as_a_development_root(forge: Forge) -> None:
    with pytest.raises(ConfigurationError, match="no development root"):
        _policy(forge, development_root_sha256=AWS_ROOT_SHA256)


@pytest.mark.parametrize(
    "changes",
    [
        {"measurements": []},
        {"pcrs": {0: [b"\x01" * 48]}},
        {"pcrs": {32: [b"\x01" * 48]}},
        {"pcrs": {4: []}},
        {"pcrs": {4: [b"\x01" * 47]}},
        {"nonce": bytes(513)},
        {"nonce": None},
        {"user_data": bytes(513)},
        {"public_key_length_bytes": 0},
        {"public_key_length_bytes": 1025},
        {"age_ms_max": 0},
        {"clock_skew_ms": -1},
        {"development_root_sha256": b"short"},
    ],
)
def test_an_empty_or_contradictory_policy_is_refused_when_it_is_made(forge: Forge, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        _policy(forge, **changes)


def test_a_policy_without_measurement_nonce_user_data_or_key_length_cannot_be_written() -> None:
    with pytest.raises(TypeError, match=r"measurements.*nonce.*user_data.*public_key_length_bytes"):
        AttestationPolicy()  # type: ignore[call-arg]  # that is the point


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_all_zero_register_is_no_measurement(position: int) -> None:
    registers = [b"\x01" * 48] * 3
    registers[position] = ZERO
    with pytest.raises(ConfigurationError, match="all zero"):
        Measurement(*registers)


def test_measurements_are_read_from_hexadecimal() -> None:
    assert Measurement.from_hex("01" * 48, "02" * 48, "03" * 48).pcr1 == b"\x02" * 48
    for wrong in ("01" * 47, "zz" * 48):
        with pytest.raises(ConfigurationError):
            Measurement.from_hex(wrong, "02" * 48, "03" * 48)


def test_registers_of_two_allowed_images_do_not_mix(forge: Forge) -> None:
    other = Measurement(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
    policy = _policy(forge, measurements=[MEASUREMENT, other])
    verify(forge.document(), policy, NOW_MS)
    assert _reason(forge.document(pcrs=PCRS | {0: other.pcr0}), policy) == Reason.PCR_MISMATCH


def test_debug_mode_needs_to_be_named_and_is_shown(forge: Forge) -> None:
    document = forge.document(pcrs=PCRS | {0: ZERO, 1: ZERO, 2: ZERO})
    assert _reason(document, _policy(forge)) == Reason.DEBUG_MODE
    attestation = verify(document, _policy(forge, allow_debug=True, measurements=[]), NOW_MS)
    assert (attestation.debug, attestation.measurement) == (True, None)


def test_a_single_zero_register_is_not_debug_mode_and_matches_nothing(forge: Forge) -> None:
    document = forge.document(pcrs=PCRS | {0: ZERO})
    assert _reason(document, _policy(forge, allow_debug=True)) == Reason.PCR_MISMATCH


def test_further_registers_are_compared_with_the_values_allowed_for_each(forge: Forge) -> None:
    policy = _policy(forge, pcrs={16: [b"\x01" * 48, b"\x02" * 48]})
    verify(forge.document(pcrs=PCRS | {16: b"\x02" * 48}), policy, NOW_MS)
    assert _reason(forge.document(pcrs=PCRS | {16: b"\x03" * 48}), policy) == Reason.PCR_MISMATCH
    assert _reason(forge.document(), policy) == Reason.PCR_MISSING


def test_user_data_is_compared_when_it_is_named(forge: Forge) -> None:
    policy = _policy(forge, user_data=b"expected")
    verify(forge.document(user_data=b"expected"), policy, NOW_MS)
    assert _reason(forge.document(user_data=b"other"), policy) == Reason.USER_DATA
    assert _reason(forge.document(user_data=None), policy) == Reason.USER_DATA


def test_a_missing_nonce_is_not_an_empty_one(forge: Forge) -> None:
    policy = _policy(forge, nonce=b"")
    verify(forge.document(nonce=b""), policy, NOW_MS)
    assert _reason(forge.document(nonce=None), policy) == Reason.NONCE


def test_a_policy_can_ask_for_no_public_key(forge: Forge) -> None:
    policy = _policy(forge, public_key_length_bytes=None)
    verify(forge.document(public_key=None), policy, NOW_MS)
    assert _reason(forge.document(), policy) == Reason.PUBLIC_KEY_SHAPE
    verify(forge.document(), _policy(forge, public_key_length_bytes=UNCHECKED), NOW_MS)


def test_age_and_skew_are_allowed_up_to_their_bounds(forge: Forge) -> None:
    policy = _policy(forge, age_ms_max=5000, clock_skew_ms=3000)
    leaf = forge.with_leaf(not_before_ms=NOW_MS - HOUR_MS)
    verify(leaf.document(timestamp=NOW_MS - 5000), policy, NOW_MS)
    assert _reason(leaf.document(timestamp=NOW_MS - 5001), policy) == Reason.STALE
    verify(leaf.document(timestamp=NOW_MS + 3000), policy, NOW_MS)
    assert _reason(leaf.document(timestamp=NOW_MS + 3001), policy) == Reason.FROM_THE_FUTURE


def test_a_verifier_whose_clock_is_a_little_slow_accepts_a_new_leaf(forge: Forge) -> None:
    verify(forge.document(), _policy(forge), NOW_MS - 20_000)


def test_an_auditor_judges_at_the_documents_own_time_and_says_so(forge: Forge) -> None:
    years_later_ms = NOW_MS + 3 * 365 * 24 * HOUR_MS
    assert _reason(forge.document(), _policy(forge), years_later_ms) == Reason.STALE
    policy = _policy(forge, time_mode=TimeMode.HISTORICAL)
    assert verify(forge.document(), policy, years_later_ms).historical
    assert _reason(forge.document(), policy, NOW_MS - HOUR_MS) == Reason.FROM_THE_FUTURE
    expired = forge.with_leaf(not_before_ms=NOW_MS - 3 * HOUR_MS, not_after_ms=NOW_MS - HOUR_MS)
    assert _reason(expired.document(), policy, years_later_ms) == Reason.CERT_VALIDITY


def test_a_document_older_than_its_leaf_is_refused_while_the_leaf_is_valid(forge: Forge) -> None:
    late = forge.with_leaf(not_before_ms=NOW_MS - 5000)
    assert _reason(late.document(timestamp=NOW_MS - 60_000), _policy(forge)) == Reason.TIMESTAMP_OUTSIDE_CERT


def test_a_signature_of_zeros_or_of_the_order_is_out_of_range(forge: Forge) -> None:
    document = forge.document()
    assert _reason(document[:-96] + bytes(96), _policy(forge)) == Reason.SIGNATURE_RANGE
    assert _reason(document[:-96] + b"\xff" * 96, _policy(forge)) == Reason.SIGNATURE_RANGE


def test_something_that_is_not_bytes_is_refused_like_any_other_document(forge: Forge) -> None:
    assert _reason("text", _policy(forge)) == Reason.DOCUMENT_SIZE  # type: ignore[arg-type]  # a caller without types


def test_a_refusal_is_a_refused_request_with_reason_and_field(forge: Forge) -> None:
    with pytest.raises(Refused) as refused:
        verify(forge.document(nonce=bytes(32)), _policy(forge), NOW_MS)
    assert (refused.value.reason, refused.value.field) == ("nonce", "nonce")


def test_parsing_alone_reads_a_document_of_any_signer(forge: Forge) -> None:
    document = parse_document(forge.document())
    assert (document.module_id, document.nonce, document.debug) == (MODULE_ID, NONCE, False)


def test_a_cached_chain_saves_work_but_no_check(forge: Forge) -> None:
    cache = ChainCache()
    policy = _policy(forge)
    first = verify(forge.document(), policy, NOW_MS, chain_cache=cache)
    assert len(cache) == 1
    assert verify(forge.document(), policy, NOW_MS, chain_cache=cache) == first
    assert len(cache) == 1
    for document, now_ms, reason in (
        (forge.document(cabundle=forge.cabundle[::-1]), NOW_MS, Reason.ROOT_NOT_PINNED),
        (Forge.create(NOW_MS).document(), NOW_MS, Reason.ROOT_NOT_PINNED),
    ):
        with pytest.raises(AttestationError) as refused:
            verify(document, policy, now_ms, chain_cache=cache)
        assert refused.value.reason == reason
    with pytest.raises(AttestationError) as refused:
        verify(forge.document(), _policy(forge, age_ms_max=100 * HOUR_MS), NOW_MS + 30 * HOUR_MS, chain_cache=cache)
    assert (refused.value.reason, refused.value.field) == (Reason.CERT_VALIDITY, "cabundle[0]")
    assert len(cache) == 1


def test_the_cache_of_chains_is_bounded_and_forgets_the_least_recently_used() -> None:
    cache = ChainCache(entries_max=2)
    forges = [Forge.create(NOW_MS) for _ in range(3)]
    for forge in forges:
        verify(forge.document(), _policy(forge), NOW_MS, chain_cache=cache)
    assert len(cache) == 2


def test_the_software_nsm_is_accepted_under_its_own_root_only() -> None:
    authority = DevelopmentAuthority(create_root(NOW_MS))
    nsm = SoftwareNsm(authority, MEASUREMENT, lambda: NOW_MS)
    response = nsm.process(b"\xa1\x6bAttestation\xa3\x69user_data\xf6\x65nonce\xf6\x6apublic_key\xf6")
    document = response[response.index(b"\x84\x44") :]
    policy = AttestationPolicy(
        measurements={MEASUREMENT},
        nonce=UNCHECKED,
        user_data=UNCHECKED,
        public_key_length_bytes=None,
        development_root_sha256=authority.root_sha256,
    )
    assert verify(document, policy, NOW_MS).simulated
    assert _reason(document, dataclasses.replace(policy, development_root_sha256=None)) == Reason.ROOT_NOT_PINNED
