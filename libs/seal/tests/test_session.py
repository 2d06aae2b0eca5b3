"""Sessions begin a little early, end a little early, and signatures of every scheme are held to their accounts."""

import base64
import os
from hashlib import blake2b

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from daas.common.bcs import u8, u16, uleb128, vector
from daas.common.errors import InvalidInput
from daas.seal import Ed25519Signer, InvalidSignature, SessionExpired, SessionKey, parse_address
from daas.seal.client.cache import KeyCache
from daas.seal.session import (
    BACKDATE_MS,
    EXPIRY_MARGIN_MS,
    certificate_message,
    request_message,
    session_key_of,
    verify_request,
)
from daas.seal.signatures import (
    _CURVE_ORDERS,
    ED25519,
    SECP256K1,
    SECP256R1,
    address_of,
    personal_message_digest,
    verify_personal_message,
)

NOW = 1_800_000_000_000
PACKAGE = os.urandom(32)
MESSAGE = b"a message"
CURVES = {SECP256K1: ec.SECP256K1(), SECP256R1: ec.SECP256R1()}


async def test_a_session_s_start_is_set_back_and_its_end_comes_early() -> None:
    now = [NOW]
    session = await SessionKey.create(Ed25519Signer(bytes(32)), PACKAGE, ttl_min=1, clock=lambda: now[0])
    assert session.certificate.creation_time == NOW - BACKDATE_MS
    end = NOW - BACKDATE_MS + 60_000 - EXPIRY_MARGIN_MS
    for moment, expired in ((NOW, False), (end, False), (end + 1, True)):
        now[0] = moment
        assert session.expired is expired
    with pytest.raises(SessionExpired):
        session.check()


async def test_a_session_is_for_the_certificate_that_names_it() -> None:
    signer = Ed25519Signer(bytes(32))
    first, second = [await SessionKey.create(signer, PACKAGE) for _ in range(2)]
    with pytest.raises(InvalidInput):
        SessionKey(first.export_secret(), PACKAGE, second.certificate)
    for ttl in (0, 31):
        with pytest.raises(InvalidInput):
            await SessionKey.create(signer, PACKAGE, ttl_min=ttl)


async def test_what_a_session_signs_is_held_to_each_part_of_the_request() -> None:
    session = await SessionKey.create(Ed25519Signer(bytes(32)), PACKAGE)
    signature = session.sign_request(b"ptb", b"key", b"verification")
    vk = session_key_of(session.certificate)
    verify_request(vk, signature, request_message(b"ptb", b"key", b"verification"))
    for parts in ((b"pt", b"bkey", b"verification"), (b"ptb", b"key", b"other"), (b"", b"", b"")):
        with pytest.raises(InvalidSignature):
            verify_request(vk, signature, request_message(*parts))
    with pytest.raises(InvalidSignature):
        verify_request(b"\xff" * 32, signature, b"")


def test_a_time_that_no_calendar_has_is_refused() -> None:
    for moment in (-1, 10**18):
        with pytest.raises(InvalidInput):
            certificate_message("0x1", 10, moment, bytes(32))


class Account:
    """A key of one scheme."""

    def __init__(self, scheme: int) -> None:
        self.scheme = scheme
        if scheme == ED25519:
            self.signer = Ed25519Signer(os.urandom(32))
            self.public = self.signer._public_key
        else:
            self.key = ec.generate_private_key(CURVES[scheme])
            self.public = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.address = address_of(scheme, self.public)

    def sign(self, message: bytes, *, high: bool = False) -> bytes:
        digest = personal_message_digest(message)
        if self.scheme == ED25519:
            return self.signer._key.sign(digest)
        r, s = decode_dss_signature(self.key.sign(digest, ec.ECDSA(hashes.SHA256())))
        order = _CURVE_ORDERS[self.scheme]
        s = max(s, order - s) if high else min(s, order - s)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def serialized(self, message: bytes, *, high: bool = False) -> str:
        return base64.b64encode(bytes([self.scheme]) + self.sign(message, high=high) + self.public).decode()


@pytest.mark.parametrize("scheme", [ED25519, SECP256K1, SECP256R1])
def test_each_scheme_is_held_to_message_key_and_account(scheme: int) -> None:
    account, other = Account(scheme), Account(scheme)
    signature = account.serialized(MESSAGE)
    verify_personal_message(MESSAGE, signature, account.address)
    raw = base64.b64decode(signature)
    changed = [
        (MESSAGE + b"!", signature, account.address),
        (MESSAGE, signature, other.address),
        (MESSAGE, other.serialized(MESSAGE), account.address),
        (MESSAGE, base64.b64encode(raw[:-1]).decode(), account.address),
        (MESSAGE, base64.b64encode(raw + b"\x00").decode(), account.address),
        (MESSAGE, base64.b64encode(raw[:1] + bytes(64) + raw[65:]).decode(), account.address),
        (MESSAGE, "!" + signature, account.address),
        (MESSAGE, "", account.address),
    ]
    for message, text, address in changed:
        with pytest.raises(InvalidSignature):
            verify_personal_message(message, text, address)
    if scheme != ED25519:
        with pytest.raises(InvalidSignature, match="upper half"):
            verify_personal_message(MESSAGE, account.serialized(MESSAGE, high=True), account.address)


def test_bytes_that_are_no_point_of_the_curve_are_no_key() -> None:
    public = b"\x02" + b"\xff" * 32
    text = base64.b64encode(bytes([SECP256K1]) + bytes(64) + public).decode()
    with pytest.raises(InvalidSignature):
        verify_personal_message(MESSAGE, text, address_of(SECP256K1, public))


@pytest.mark.parametrize(("flag", "name"), [(4, "BLS12-381"), (5, "zkLogin"), (6, "passkey"), (9, "scheme 9")])
def test_schemes_that_nothing_here_verifies_are_refused_by_name(flag: int, name: str) -> None:
    with pytest.raises(InvalidSignature, match=name) as caught:
        verify_personal_message(MESSAGE, base64.b64encode(bytes([flag]) + bytes(96)).decode(), bytes(32))
    assert caught.value.reason == "signature-scheme"


MEMBERS = [Account(scheme) for scheme in (ED25519, SECP256K1, SECP256R1)]


def multisig(
    signers: list[int],
    threshold: int = 2,
    weights: tuple[int, ...] = (1, 1, 1),
    *,
    bitmap: int | None = None,
    members: list[Account] | None = None,
    tail: bytes = b"",
) -> tuple[str, bytes]:
    """A serialized multisig and its address."""
    accounts = members or MEMBERS
    keys = [(account.scheme, account.public, weight) for account, weight in zip(accounts, weights, strict=True)]
    preimage = b"\x03" + u16(threshold) + b"".join(bytes([s]) + k + bytes([w]) for s, k, w in keys)
    signatures = [uleb128(accounts[place].scheme) + accounts[place].sign(MESSAGE) for place in signers]
    bits = sum(1 << place for place in signers) if bitmap is None else bitmap
    raw = b"\x03" + vector(bytes, signatures) + u16(bits)
    raw += vector(bytes, [uleb128(s) + k + u8(w) for s, k, w in keys]) + u16(threshold) + tail
    return base64.b64encode(raw).decode(), blake2b(preimage, digest_size=32).digest()


def test_a_multisig_counts_the_weights_of_those_who_signed() -> None:
    for signers in ([0, 1], [1, 2], [0, 2], [0, 1, 2]):
        verify_personal_message(MESSAGE, *multisig(signers))
    verify_personal_message(MESSAGE, *multisig([2], weights=(1, 1, 2)))


@pytest.mark.parametrize(
    ("signature", "address"),
    [
        multisig([0]),
        multisig([]),
        multisig([0, 1], bitmap=0b101),
        multisig([0, 1], bitmap=0b1),
        multisig([0, 1], bitmap=0b1001),
        multisig([0, 1], threshold=0),
        multisig([0, 1], weights=(0, 0, 9)),
        multisig([0, 1], tail=b"\x00"),
        multisig([0, 1], members=[MEMBERS[0]] * 3),
        (multisig([0, 1])[0], bytes(32)),
        (base64.b64encode(b"\x03").decode(), bytes(32)),
        (base64.b64encode(b"\x03\x01\x03" + bytes(64)).decode(), bytes(32)),
        (base64.b64encode(b"\x03\x00\x00\x00\x01\x04").decode(), bytes(32)),
    ],
    ids=map(str, range(13)),  # the values are random
)
def test_a_multisig_that_does_not_reach_its_threshold_or_form_is_refused(signature: str, address: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify_personal_message(MESSAGE, signature, address)


async def test_a_signer_s_address_is_that_of_its_key() -> None:
    signer = Ed25519Signer(os.urandom(32))
    verify_personal_message(MESSAGE, await signer.sign_personal_message(MESSAGE), parse_address(signer.address))


def test_the_key_cache_is_bounded_and_forgets_with_the_session() -> None:
    now = [0]
    cache = KeyCache(3, lambda: now[0])
    for number in range(5):
        cache.put(b"s", b"server", bytes([number]), b"key", 100)
    assert len(cache) == 3
    assert cache.get(b"s", b"server", b"\x00") is None
    assert cache.get(b"s", b"server", b"\x04") == b"key"
    assert cache.get(b"t", b"server", b"\x04") is None
    cache.put(b"t", b"server", b"\x04", b"other", 200)
    cache.forget(b"t")
    assert cache.get(b"t", b"server", b"\x04") is None
    now[0] = 100
    assert cache.get(b"s", b"server", b"\x04") is None
    cache.purge()
    assert not len(cache)
    assert "key'" not in repr(cache)
    nothing = KeyCache(0, lambda: 0)
    nothing.put(b"s", b"server", b"id", b"key", 100)
    assert not len(nothing)
