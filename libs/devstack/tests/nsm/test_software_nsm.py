"""The software NSM behaves as the real one: registers, locks, documents, leaves, and answers to nonsense."""

import hashlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from daas.attestation import (
    UNCHECKED,
    Attestation,
    AttestationPolicy,
    ChainCache,
    Measurement,
    cbor,
    parse_document,
    verify,
)
from daas.devstack.nsm import DevelopmentAuthority, SoftwareNsm, create_root, development_measurement

START_MS = 1_790_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority() -> DevelopmentAuthority:
    return DevelopmentAuthority(create_root(START_MS))


@pytest.fixture
def nsm(authority: DevelopmentAuthority, clock: Clock) -> SoftwareNsm:
    return SoftwareNsm(authority, development_measurement(), clock)


def _ask(nsm: SoftwareNsm, request: object) -> cbor.Value:
    return cbor.loads(nsm.process(cbor.dumps(request)), allow_bool=True)


def _fields(nsm: SoftwareNsm, operation: str, **arguments: object) -> dict[int | str, cbor.Value]:
    answer = _ask(nsm, {operation: arguments} if arguments else operation)
    assert isinstance(answer, dict)
    fields = answer[operation]
    assert isinstance(fields, dict)
    return fields


def _document(nsm: SoftwareNsm, **statements: bytes) -> bytes:
    arguments = {"user_data": None, "nonce": None, "public_key": None} | statements
    document = _fields(nsm, "Attestation", **arguments)["document"]
    assert isinstance(document, bytes)
    return document


def _verify(document: bytes, authority: DevelopmentAuthority, now_ms: int, *, allow_debug: bool = False) -> Attestation:
    policy = AttestationPolicy(
        measurements=[development_measurement()],
        nonce=UNCHECKED,
        user_data=UNCHECKED,
        public_key_length_bytes=UNCHECKED,
        development_root_sha256=authority.root_sha256,
        allow_debug=allow_debug,
    )
    return verify(document, policy, now_ms, chain_cache=ChainCache())


def test_it_describes_itself_as_the_real_one_does(nsm: SoftwareNsm) -> None:
    assert _fields(nsm, "DescribeNSM") == {
        "version_major": 1,
        "version_minor": 0,
        "version_patch": 0,
        "module_id": nsm.module_id,
        "max_pcrs": 32,
        "locked_pcrs": list(range(16)),
        "digest": "SHA384",
    }


def test_extending_hashes_the_old_value_and_the_data(nsm: SoftwareNsm) -> None:
    once = hashlib.sha384(bytes(48) + b"a").digest()
    twice = hashlib.sha384(once + b"b").digest()
    assert _fields(nsm, "ExtendPCR", index=16, data=b"a") == {"data": once}
    assert _fields(nsm, "ExtendPCR", index=16, data=b"b") == {"data": twice}
    assert _fields(nsm, "DescribePCR", index=16) == {"lock": False, "data": twice}


def test_a_locked_register_is_read_only_and_enters_the_document(nsm: SoftwareNsm) -> None:
    assert 16 not in parse_document(_document(nsm)).pcrs
    value = _fields(nsm, "ExtendPCR", index=16, data=b"policy")["data"]
    assert _ask(nsm, {"LockPCR": {"index": 16}}) == "LockPCR"
    assert parse_document(_document(nsm)).pcrs[16] == value
    assert _fields(nsm, "DescribePCR", index=16) == {"lock": True, "data": value}
    assert _ask(nsm, {"ExtendPCR": {"index": 16, "data": b"more"}}) == {"Error": "ReadOnlyIndex"}
    assert _ask(nsm, {"LockPCR": {"index": 16}}) == {"Error": "ReadOnlyIndex"}


def test_a_range_of_registers_is_locked_at_once(nsm: SoftwareNsm) -> None:
    assert _ask(nsm, {"LockPCRs": {"range": 20}}) == "LockPCRs"
    assert list(parse_document(_document(nsm)).pcrs) == list(range(20))
    assert _ask(nsm, {"LockPCRs": {"range": 33}}) == {"Error": "InvalidIndex"}


@pytest.mark.parametrize(
    ("request_value", "code"),
    [
        ("NoSuchOperation", "InvalidOperation"),
        ({"NoSuchOperation": {}}, "InvalidOperation"),
        ({}, "InvalidOperation"),
        ({"DescribeNSM": {}, "GetRandom": {}}, "InvalidOperation"),
        (7, "InvalidOperation"),
        ({"DescribePCR": {}}, "InvalidArgument"),
        ({"DescribePCR": 3}, "InvalidArgument"),
        ({"DescribePCR": {"index": "3"}}, "InvalidArgument"),
        ({"DescribePCR": {"index": 32}}, "InvalidIndex"),
        ({"DescribePCR": {"index": -1}}, "InvalidIndex"),
        ({"ExtendPCR": {"index": 16}}, "InvalidArgument"),
        ({"ExtendPCR": {"index": 0, "data": b""}}, "ReadOnlyIndex"),
        ({"LockPCR": {"index": 15}}, "ReadOnlyIndex"),
        ({"LockPCRs": {}}, "InvalidArgument"),
        ({"Attestation": {"user_data": bytes(513)}}, "InvalidArgument"),
        ({"Attestation": {"nonce": bytes(513)}}, "InvalidArgument"),
        ({"Attestation": {"public_key": bytes(1025)}}, "InvalidArgument"),
        ({"Attestation": {"nonce": "text"}}, "InvalidArgument"),
        ({"ExtendPCR": {"index": 16, "data": bytes(4096)}}, "InputTooLarge"),
    ],
)
def test_a_wrong_request_is_answered_with_the_code_of_the_real_one(
    nsm: SoftwareNsm, request_value: object, code: str
) -> None:
    assert _ask(nsm, request_value) == {"Error": code}


@given(st.binary(max_size=100))
def test_whatever_the_bytes_the_answer_is_a_response(request_bytes: bytes) -> None:
    nsm = SoftwareNsm(_SHARED_AUTHORITY, development_measurement(), lambda: START_MS)
    answer = cbor.loads(nsm.process(request_bytes), allow_bool=True)
    assert isinstance(answer, str | dict)


_SHARED_AUTHORITY = DevelopmentAuthority(create_root(START_MS))


def test_a_document_carries_its_statements_in_an_indefinite_map_and_verifies(
    nsm: SoftwareNsm, authority: DevelopmentAuthority
) -> None:
    document = _document(nsm, user_data=b"u", nonce=b"n" * 32, public_key=b"k" * 32)
    attestation = _verify(document, authority, START_MS)
    assert (attestation.user_data, attestation.nonce, attestation.public_key) == (b"u", b"n" * 32, b"k" * 32)
    assert attestation.module_id == nsm.module_id
    assert document[:7] == b"\x84\x44\xa1\x01\x38\x22\xa0"
    assert document[10:11] == b"\xbf"


def test_the_older_definite_map_can_be_had(authority: DevelopmentAuthority, clock: Clock) -> None:
    document = _document(SoftwareNsm(authority, development_measurement(), clock, indefinite_payload=False))
    assert document[10:11] == b"\xa9"
    assert _verify(document, authority, START_MS).simulated


def test_one_leaf_serves_for_two_and_a_half_hours_and_then_another(
    nsm: SoftwareNsm, authority: DevelopmentAuthority, clock: Clock
) -> None:
    first = parse_document(_document(nsm)).certificate
    clock.now_ms += 149 * MINUTE_MS
    late = _document(nsm)
    assert parse_document(late).certificate == first
    attestation = _verify(late, authority, clock.now_ms)
    assert 30 * MINUTE_MS < attestation.leaf_not_after_ms - clock.now_ms < 32 * MINUTE_MS
    clock.now_ms += MINUTE_MS
    assert parse_document(_document(nsm)).certificate != first


def test_documents_verify_at_every_hour_of_a_month_as_the_chain_is_renewed(
    nsm: SoftwareNsm, authority: DevelopmentAuthority, clock: Clock
) -> None:
    chains = set()
    for _ in range(0, 30 * 24, 5):
        clock.now_ms += 5 * HOUR_MS
        attestation = _verify(_document(nsm), authority, clock.now_ms)
        assert attestation.chain_not_after_ms == attestation.leaf_not_after_ms
        chains.add(authority.cabundle(clock.now_ms))
    assert len(chains) > 20


def test_debug_mode_shows_zero_registers_but_the_instance(authority: DevelopmentAuthority, clock: Clock) -> None:
    document = _document(SoftwareNsm(authority, None, clock))
    attestation = _verify(document, authority, START_MS, allow_debug=True)
    assert attestation.debug
    assert [index for index, value in attestation.pcrs.items() if any(value)] == [4]


def test_no_name_in_the_chain_can_be_mistaken_for_amazons(nsm: SoftwareNsm) -> None:
    document = parse_document(_document(nsm))
    for der in (*document.cabundle, document.certificate):
        certificate = x509.load_der_x509_certificate(der)
        for name in (certificate.subject, certificate.issuer):
            text = name.rfc4514_string().lower()
            assert "o=dev-not-amazon" in text
            assert "aws" not in text
            assert "amazon" not in text.replace("dev-not-amazon", "")
    assert "simulated" in document.module_id


def test_the_chain_has_the_shape_of_the_genuine_one(nsm: SoftwareNsm) -> None:
    document = parse_document(_document(nsm))
    certificates = [x509.load_der_x509_certificate(der) for der in (*document.cabundle, document.certificate)]
    constraints = [c.extensions.get_extension_for_class(x509.BasicConstraints) for c in certificates]
    assert [(c.critical, c.value.ca, c.value.path_length) for c in constraints] == [
        (True, True, None),
        (True, True, 2),
        (True, True, 1),
        (True, True, 0),
        (True, False, None),
    ]
    lifetimes = [c.not_valid_after_utc - c.not_valid_before_utc for c in certificates]
    assert [lifetime.total_seconds() for lifetime in lifetimes[1:]] == [20 * 86400, 6 * 86400, 86400, 3 * 3600 + 3]
    [common_name] = certificates[-1].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert str(common_name.value).startswith(document.module_id + ".")
    assert 4300 < len(_document(nsm)) < 5300


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (lambda: development_measurement(["a", "b"]), lambda: development_measurement(["a", "b"]), True),
        (lambda: development_measurement(["a"]), lambda: development_measurement(["b"]), False),
        (development_measurement, lambda: development_measurement(["image", "kernel", "application"]), True),
    ],
)
def test_measurements_follow_from_the_strings_alone(
    one: Callable[[], Measurement], other: Callable[[], Measurement], equal: bool
) -> None:
    assert (one() == other()) is equal


def test_equal_strings_give_different_registers_in_different_places() -> None:
    measurement = development_measurement(["same", "same", "same"])
    assert len({measurement.pcr0, measurement.pcr1, measurement.pcr2}) == 3
    with pytest.raises(ValueError, match="at most 3"):
        development_measurement(["1", "2", "3", "4"])
