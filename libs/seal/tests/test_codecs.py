"""Every encoding is read back as it was written, and nothing but that encoding is read."""

import contextlib
import json
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from daas.common import bcs
from daas.common.errors import DaasError, DecodeError, InvalidInput
from daas.seal import (
    ApproveCall,
    Certificate,
    EncryptedObject,
    InvalidPtb,
    KeyServerData,
    KeyServerObject,
    MalformedAnswer,
    MalformedPoint,
    MasterKey,
    Owned,
    Pure,
    Shared,
    build_ptb,
    format_address,
    parse_address,
    parse_ptb,
    wire,
)
from daas.seal.backend import BACKENDS, load
from daas.seal.backend.protocol import FIELD, ORDER
from daas.seal.elgamal import Encryption
from daas.seal.encrypted_object import Aes256Gcm, Hmac256Ctr, Plain, Service
from daas.seal.key_server import PartialKeyServer
from daas.seal.ptb import Receiving
from daas.seal.versions import LIBRARY_VERSION, parse_version

LOADED = {name: load(name) for name in BACKENDS}
POINTS = [MasterKey.generate().public_key for _ in range(3)]
ids = st.binary(min_size=32, max_size=32)
aads = st.none() | st.binary(max_size=40)
ciphertexts = st.one_of(
    st.builds(Aes256Gcm, st.binary(max_size=200), aads),
    st.builds(Hmac256Ctr, st.binary(max_size=200), aads, ids),
    st.builds(Plain),
)


@st.composite
def objects(draw: st.DrawFn) -> EncryptedObject:
    indices = draw(st.lists(st.integers(1, 255), min_size=1, max_size=12, unique=True))
    servers = draw(st.lists(ids, min_size=1, max_size=len(indices)))
    return EncryptedObject(
        package_id=draw(ids),
        inner_id=draw(st.binary(max_size=200)),
        services=tuple(Service(servers[place % len(servers)], index) for place, index in enumerate(indices)),
        threshold=draw(st.integers(1, len(indices))),
        nonce=draw(st.sampled_from(POINTS)),
        encrypted_shares=tuple(draw(st.lists(ids, min_size=len(indices), max_size=len(indices)))),
        encrypted_randomness=draw(ids),
        ciphertext=draw(ciphertexts),
    )


@given(objects())
@settings(deadline=None)
def test_an_object_is_read_as_it_was_written(sealed: EncryptedObject) -> None:
    assert EncryptedObject.decode(sealed.encode()) == sealed
    assert sum(sealed.weights.values()) == len(sealed.services)


@given(objects(), st.data())
@settings(deadline=None)
def test_an_object_that_is_read_is_written_as_it_was(sealed: EncryptedObject, data: st.DataObject) -> None:
    raw = bytearray(sealed.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = EncryptedObject.decode(bytes(raw))
    except DecodeError:
        return
    assert again.encode() == bytes(raw)


@given(objects(), st.data())
@settings(deadline=None)
def test_a_truncated_or_prolonged_object_is_refused(sealed: EncryptedObject, data: st.DataObject) -> None:
    raw = sealed.encode()
    with pytest.raises(DecodeError):
        EncryptedObject.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(DecodeError):
        EncryptedObject.decode(raw + data.draw(st.binary(min_size=1, max_size=8)))


def some_object(**changes: object) -> EncryptedObject:
    fields: dict[str, object] = {
        "package_id": bytes(32),
        "inner_id": b"id",
        "services": (Service(b"\x01" * 32, 1), Service(b"\x02" * 32, 2)),
        "threshold": 2,
        "nonce": POINTS[0],
        "encrypted_shares": (bytes(32), bytes(32)),
        "encrypted_randomness": bytes(32),
        "ciphertext": Aes256Gcm(bytes(16), b""),
    }
    return EncryptedObject(**fields | changes)  # type: ignore[arg-type]  # the fields above


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"services": (Service(bytes(32), 1), Service(bytes(32), 1))}, "seal-services"),
        ({"services": (Service(bytes(32), 0), Service(bytes(32), 1))}, "seal-services"),
        ({"services": (Service(bytes(32), 256), Service(bytes(32), 1))}, "seal-services"),
        ({"services": (), "encrypted_shares": (), "threshold": 0}, "seal-threshold"),
        ({"threshold": 0}, "seal-threshold"),
        ({"threshold": 3}, "seal-threshold"),
        ({"encrypted_shares": (bytes(32),)}, "seal-shares"),
        ({"encrypted_shares": (bytes(32), bytes(31))}, "seal-length"),
        ({"package_id": bytes(31)}, "seal-length"),
        ({"encrypted_randomness": b""}, "seal-length"),
        ({"ciphertext": Hmac256Ctr(b"", None, bytes(31))}, "seal-length"),
        ({"nonce": b"\xc0" + bytes(95)}, "seal-nonce"),
        ({"nonce": bytes(96)}, "seal-nonce"),
        ({"nonce": b""}, "seal-nonce"),
    ],
)
def test_an_object_that_breaks_a_rule_is_neither_written_nor_read(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        some_object(**changes).encode()
    assert caught.value.reason == reason


def test_rules_hold_for_bytes_as_for_values() -> None:
    raw = some_object().encode()
    at = 1 + 32 + 3 + 1
    cases = {
        "seal-version": b"\x01" + raw[1:],
        "seal-services": raw[: at + 32] + b"\x02" + raw[at + 33 :],
        "seal-threshold": raw[: at + 66] + b"\x00" + raw[at + 67 :],
        "seal-kem": raw[: at + 67] + b"\x01" + raw[at + 68 :],
        "seal-nonce": raw[: at + 68] + b"\xc0" + bytes(95) + raw[at + 68 + 96 :],
        "seal-point-g2": raw[: at + 69] + bytes(94) + b"\x07" + raw[at + 68 + 96 :],
        "seal-dem": raw[:-20] + b"\x03",
        "bcs-trailing": raw + b"\x00",
        "bcs-length-form": raw[:33] + b"\x82\x00" + raw[34:],
        "bcs-truncated": raw[:-1],
    }
    for reason, data in cases.items():
        with pytest.raises(DecodeError) as caught:
            EncryptedObject.decode(data)
        assert caught.value.reason == reason


def test_an_absent_and_an_empty_aad_are_kept_apart_and_mean_the_same() -> None:
    absent, empty = (some_object(ciphertext=Aes256Gcm(bytes(16), aad)) for aad in (None, b""))
    assert absent.encode() != empty.encode()
    assert EncryptedObject.decode(absent.encode()).encode() == absent.encode()
    assert absent.aad == empty.aad == some_object(ciphertext=Plain()).aad == b""


@pytest.mark.parametrize("name", BACKENDS)
def test_points_have_one_encoding_and_are_never_the_identity_or_outside_the_group(name: str) -> None:
    backend = load(name)
    good1, good2 = backend.encode(backend.g1), backend.encode(backend.g2)
    assert backend.encode(backend.g1_decode(good1)) == good1
    assert backend.encode(backend.g2_decode(good2)) == good2
    above = (int.from_bytes(good1, "big") + FIELD).to_bytes(48, "big")
    outside = (4 | 1 << 383).to_bytes(48, "big")  # on the curve, in no subgroup of the right order
    bad1 = [
        b"", good1[:-1], good1 + b"\x00", bytes(48), b"\xff" * 48, b"\xc0" + bytes(47), b"\xe0" + bytes(47),
        b"\xc0" + bytes(46) + b"\x01", bytes([good1[0] & 0x7F]) + good1[1:], b"\x80" + bytes(47), above, outside,
    ]  # fmt: skip
    for data in bad1:
        with pytest.raises(MalformedPoint):
            backend.g1_decode(data)
    top = good2[48:]
    bad2 = [
        b"", good2[:-1], bytes(96), b"\xff" * 96, b"\xc0" + bytes(95), bytes([good2[0] & 0x7F]) + good2[1:],
        good2[:48] + (int.from_bytes(top, "big") + FIELD).to_bytes(48, "big"), b"\x80" + bytes(95),
    ]  # fmt: skip
    for data in bad2:
        with pytest.raises(MalformedPoint):
            backend.g2_decode(data)


@given(st.binary(min_size=48, max_size=48), st.binary(min_size=96, max_size=96), st.sampled_from([0x80, 0xA0]))
@settings(deadline=None, max_examples=200)
def test_both_backends_take_and_refuse_the_same_bytes(one: bytes, two: bytes, flags: int) -> None:
    for kind, data in (("g1_decode", one), ("g2_decode", two)):
        marked = bytes([flags | data[0] & 0x1F]) + data[1:]
        verdicts = []
        for name in BACKENDS:
            backend = LOADED[name]
            try:
                verdicts.append(backend.encode(getattr(backend, kind)(marked)) == marked)
            except MalformedPoint:
                verdicts.append(False)
        assert len(set(verdicts)) == 1


@given(st.integers(1, ORDER - 1), st.integers(1, ORDER - 1))
@settings(deadline=None, max_examples=15)
def test_backends_agree_on_every_operation(a: int, b: int) -> None:
    results = []
    for backend in LOADED.values():
        p, q = backend.multiply(backend.g1, a), backend.multiply(backend.g2, b)
        hashed = backend.hash_to_g1(a.to_bytes(32, "big"))
        power = backend.pairing_power(hashed, q)
        assert power(b) == backend.pairing(backend.multiply(hashed, b), q)
        assert backend.equal_pairings([(p, q)], [(backend.multiply(p, b), backend.g2)])
        assert not backend.equal_pairings([(p, q)], [(p, backend.g2)]) or b == 1
        total = backend.add(p, backend.negate(hashed))
        results.append((backend.pairing(p, q), backend.encode(total), backend.encode(backend.multiply_g2(a))))
    assert len(set(results)) == 1


names = st.text(st.characters(codec="utf-8"), max_size=20)
inputs = st.one_of(
    st.builds(Pure, st.binary(max_size=40)),
    st.builds(Owned, ids, st.integers(0, 2**64 - 1), ids),
    st.builds(Receiving, ids, st.integers(0, 2**64 - 1), ids),
    st.builds(Shared, ids, st.integers(0, 2**64 - 1), st.booleans()),
)
calls = st.builds(
    ApproveCall,
    module=names,
    function=names.map(lambda name: "seal_approve" + name),
    inner_id=st.binary(max_size=200),
    arguments=st.lists(inputs, max_size=4).map(tuple),
)


@given(ids, st.lists(calls, min_size=1, max_size=100))
@settings(deadline=None)
def test_a_transaction_is_read_as_it_was_built(package: bytes, listed: list[ApproveCall]) -> None:
    parsed = parse_ptb(build_ptb(package, listed))
    assert parsed.package_id == package
    assert parsed.inner_ids == tuple(call.inner_id for call in listed)
    for call, again in zip(listed, parsed.calls, strict=True):
        assert (again.module, again.function) == (call.module, call.function)
        assert again.arguments == (Pure(bcs.bytes_(call.inner_id)), *call.arguments)


@given(st.binary(max_size=300))
@example(b"\x01\x00\x01\x00\x01\x00")
def test_bytes_that_are_no_transaction_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidPtb):
        parse_ptb(data)


def test_no_call_other_names_and_too_many_calls_are_refused_before_they_are_sent() -> None:
    call = ApproveCall(module="m", function="seal_approve", inner_id=b"")
    for wrong in ([], [call] * 101, [ApproveCall(module="m", function="approve", inner_id=b"")]):
        with pytest.raises(InvalidPtb):
            build_ptb(bytes(32), wrong)


def test_types_nested_too_deeply_are_refused() -> None:
    head = bcs.vector(bytes, [b"\x00" + bcs.bytes_(bcs.bytes_(b"id"))]) + b"\x01\x00" + bytes(32)
    head += bcs.string("m") + bcs.string("seal_approve")
    tail = bcs.vector(bytes, [b"\x01" + bcs.u16(0)])
    struct = b"\x07" + bytes(32) + bcs.string("m") + bcs.string("T") + b"\x01\x02"
    for types in (b"\x00", b"\x01" + b"\x06" * 15 + b"\x01", b"\x01" + struct):
        (call,) = parse_ptb(head + types + tail).calls
        assert bcs.vector(bytes, call.type_arguments) == types
    for types in (b"\x01" + b"\x06" * 17 + b"\x01", b"\x01\x0b", b"\x01" + b"\x06" * 100_000):
        with pytest.raises(InvalidPtb):
            parse_ptb(head + types + tail)


@given(st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60)), max_size=8))
def test_an_answer_is_read_as_it_was_written(keys: list[tuple[bytes, bytes, bytes]]) -> None:
    listed = [(identity, Encryption(a, b)) for identity, a, b in keys]
    assert wire.decode_answer(wire.encode_answer(listed)) == listed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 300) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b'{"decryption_keys":[{"id":[256],"encrypted_key":["",""]}]}')
@example(b'{"decryption_keys":[{"id":[-1],"encrypted_key":["",""]}]}')
@example(b'{"decryption_keys":[{"id":[1],"encrypted_key":["a",""]}]}')
@example(b'{"decryption_keys":[{"id":[1],"encrypted_key":["\xc3\xa9",""]}]}')
@example(b"[" * 100_000)
@example(b'{"a":' + b"[" * 100_000)
@example(b'{"\xff":1}')
def test_other_json_is_no_answer(data: bytes) -> None:
    for decode in (wire.decode_answer, wire.decode_service):
        with pytest.raises(MalformedAnswer):
            decode(data)
    with contextlib.suppress(MalformedAnswer):
        wire.decode_error(data)
    with pytest.raises(InvalidInput):
        wire.decode_request(data)


@given(st.text(max_size=40), st.integers(0, 2**53), st.integers(0, 2**16), st.none() | st.text(max_size=20))
def test_a_certificate_survives_json(user: str, created: int, ttl: int, name: str | None) -> None:
    certificate = Certificate(
        user=user, session_vk="vk", creation_time=created, ttl_min=ttl, signature="s", mvr_name=name
    )
    request = wire.FetchKeyRequest("a", "b", "c", "d", certificate)
    raw = msgspec.json.encode(request)
    assert wire.decode_request(raw) == request
    assert ("mvr_name" in json.loads(raw)["certificate"]) is (name is not None)


@given(ids)
def test_an_address_is_read_as_it_was_written(address: bytes) -> None:
    assert parse_address(format_address(address)) == address
    assert parse_address("0x" + address.hex().upper()) == address


@given(st.text(max_size=70))
@example("0x")
@example("0x" + "1" * 65)
@example("0x\uff11")
def test_other_text_is_no_address(text: str) -> None:
    assume(not text.startswith("0x") or len(text) in {2, 67} or not text.isascii())
    with pytest.raises(InvalidInput):
        parse_address(text)


def test_versions_compare_by_number() -> None:
    assert parse_version("1.10.0-beta.1+build") > parse_version("1.9.99")
    for text in ("1", "1.2", "1.2.3.4", "v1.2.3", "1.02.3", "1.2.x", "", "\uff11.2.3", "1.2.3 ", "9" * 99 + ".1.1"):
        with pytest.raises(InvalidInput):
            parse_version(text)


def key_server_bytes(kind: int = 0, tail: bytes = b"\x00\x03url", key: bytes = POINTS[0]) -> bytes:
    return bcs.string("name") + bcs.u8(kind) + bcs.bytes_(key) + tail


def committee(threshold: int, members: list[tuple[str, int]]) -> bytes:
    listed = [bcs.string(n) + bcs.string("u") + bcs.bytes_(POINTS[1]) + bcs.u16(party) for n, party in members]
    return b"\x01" + bcs.u32(7) + bcs.u16(threshold) + bcs.vector(bytes, listed)


def test_a_key_server_s_data_is_read_strictly() -> None:
    good = KeyServerData.decode(key_server_bytes(tail=committee(2, [("a", 0), ("b", 1)])), 2)
    assert good.committee is not None
    assert good.committee.members[1] == PartialKeyServer("b", "u", POINTS[1], 1)
    bad = [
        (key_server_bytes(kind=1), 2),
        (key_server_bytes(key=bytes(96)), 2),
        (key_server_bytes(tail=b"\x02"), 2),
        (key_server_bytes() + b"\x00", 2),
        (key_server_bytes(), 1),
        (key_server_bytes(), 3),
        (key_server_bytes(tail=committee(1, [("a", 0), ("b", 1)])), 2),
        (key_server_bytes(tail=committee(3, [("a", 0), ("b", 1)])), 2),
        (key_server_bytes(tail=committee(2, [("a", 0), ("a", 1)])), 2),
        (key_server_bytes(tail=committee(2, [("a", 1), ("b", 0)])), 2),
    ]
    for data, version in bad:
        with pytest.raises(DecodeError):
            KeyServerData.decode(data, version)
    with pytest.raises(DecodeError):
        _ = KeyServerObject(bytes(32), 3, 9).version


@given(st.binary(max_size=200), st.sampled_from([1, 2, 3]))
@settings(deadline=None)
def test_bytes_that_are_no_key_server_are_refused(data: bytes, version: int) -> None:
    with pytest.raises(DaasError):
        KeyServerData.decode(data, version)


def test_the_version_that_others_are_told_is_the_one_of_the_distribution() -> None:
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == LIBRARY_VERSION
