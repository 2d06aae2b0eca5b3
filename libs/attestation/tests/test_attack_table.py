"""The table of 72 well-formed, malformed and hostile documents: each is handled as the table asks, for a named reason.

Every document is signed under the very root that the policy trusts, so the attacker has more than he would have: the
table shows what the verifier refuses even from somebody who holds a key.
"""

import dataclasses
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from daas.attestation import (
    UNCHECKED,
    Attestation,
    AttestationError,
    AttestationPolicy,
    ChainCache,
    Reason,
    cbor,
    verify,
)
from daas.attestation.document import PROTECTED_HEADER, sig_structure
from daas.devstack.nsm.certificates import (
    INSTANCE_PROFILE,
    LEAF_PROFILE,
    ZONAL_PROFILE,
    new_key,
)
from daas.devstack.nsm.documents import TAG_18, encode_payload, sign_document
from daas.devstack.nsm.forge import MEASUREMENT, MODULE_ID, NONCE, PCRS, Forge

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
P384_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973


def _raw_payload(forge: Forge, **encodings: bytes) -> bytes:
    """The payload with the encodings of some values replaced by given bytes."""
    pairs = [cbor.dumps(name) + encodings.get(name, cbor.dumps(value)) for name, value in forge.fields().items()]
    return b"\xbf" + b"".join(pairs) + b"\xff"


def _signed(forge: Forge, payload: bytes, protected: bytes = PROTECTED_HEADER) -> bytes:
    return sign_document(forge.leaf.key, payload, protected=protected)


def _unprotected(forge: Forge, encoding: bytes) -> bytes:
    return sign_document(forge.leaf.key, forge.payload(), unprotected=encoding)


def _with_signature(document: bytes, change: Callable[[bytes], bytes]) -> bytes:
    assert document[-98:-96] == b"\x58\x60"
    return document[:-98] + cbor.bstr(change(document[-96:]))


def _high_s(signature: bytes) -> bytes:
    s = int.from_bytes(signature[48:], "big")
    return signature[:48] + (P384_ORDER - s).to_bytes(48, "big")


def _foreign_chain_behind_our_root(forge: Forge) -> bytes:
    foreign = Forge.create(NOW_MS)
    return foreign.document(cabundle=[forge.root.der, *foreign.cabundle[1:]])


def _leaf_on_p256(forge: Forge) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    forge = forge.with_leaf(key=key)
    payload = forge.payload()
    r, s = decode_dss_signature(key.sign(sig_structure(payload), ec.ECDSA(hashes.SHA384())))
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    return b"\x84" + cbor.bstr(PROTECTED_HEADER) + b"\xa0" + cbor.bstr(payload) + cbor.bstr(signature)


def _leaf(**changes: object) -> Callable[[Forge], bytes]:
    profile = dataclasses.replace(LEAF_PROFILE, **changes)  # type: ignore[arg-type]  # names checked at run time
    return lambda forge: forge.with_leaf(profile).document()


def _instance(**changes: object) -> Callable[[Forge], bytes]:
    profile = dataclasses.replace(INSTANCE_PROFILE, **changes)  # type: ignore[arg-type]  # names checked at run time
    return lambda forge: forge.with_instance(profile).document()


def _zonal_with_path_length_0(forge: Forge) -> bytes:
    return Forge.create(
        NOW_MS, root=forge.root, zonal_profile=dataclasses.replace(ZONAL_PROFILE, path_length=0)
    ).document()


def _old(forge: Forge) -> bytes:
    forge = forge.with_leaf(not_before_ms=NOW_MS - 2 * HOUR_MS - 3000, not_after_ms=NOW_MS + HOUR_MS)
    return forge.document(timestamp=NOW_MS - 2 * HOUR_MS)


_UNKNOWN_CRITICAL = ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)
_CLIENT_AUTH = ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),)
_CHUNKED_NONCE = b"\x5f\x50" + NONCE[:16] + b"\x50" + NONCE[16:] + b"\xff"

# (number and name of the row, how to make the document, the reason for which it is refused or None)
ROWS: list[tuple[str, Callable[[Forge], bytes], Reason | None]] = [
    ("00 good, payload map indefinite", lambda f: f.document(), None),
    (
        "01 good, payload map definite",
        lambda f: _signed(f, encode_payload(list(f.fields().items()), indefinite=False)),
        None,
    ),
    ("02 good, with CBOR tag 18", lambda f: TAG_18 + f.document(), None),
    ("03 tag 17", lambda f: b"\xd1" + f.document(), Reason.COSE_TAG),
    ("03 tag 98", lambda f: b"\xd8\x62" + f.document(), Reason.COSE_TAG),
    ("04 tag 18 twice", lambda f: TAG_18 + TAG_18 + f.document(), Reason.CBOR),
    ("05 self-described CBOR in front", lambda f: b"\xd9\xd9\xf7" + f.document(), Reason.COSE_TAG),
    ("06 trailing byte after the COSE array", lambda f: f.document() + b"\x00", Reason.CBOR),
    ("07 COSE array of 5", lambda f: b"\x85" + f.document()[1:] + b"\xf6", Reason.COSE_SHAPE),
    ("08 alg ES256", lambda f: _signed(f, f.payload(), cbor.dumps({1: -7})), Reason.COSE_PROTECTED),
    ("09 empty protected header", lambda f: _signed(f, f.payload(), b""), Reason.COSE_PROTECTED),
    ("10 alg as text", lambda f: _signed(f, f.payload(), cbor.dumps({1: "ES384"})), Reason.COSE_PROTECTED),
    (
        "11 extra protected field",
        lambda f: _signed(f, f.payload(), cbor.dumps({1: -35, 4: b"kid"})),
        Reason.COSE_PROTECTED,
    ),
    (
        "12 trailing bytes inside the protected header",
        lambda f: _signed(f, f.payload(), PROTECTED_HEADER + b"\x00"),
        Reason.COSE_PROTECTED,
    ),
    ("13 unprotected alg override", lambda f: _unprotected(f, cbor.dumps({1: -7})), Reason.COSE_UNPROTECTED),
    ("14 unprotected x5chain", lambda f: _unprotected(f, cbor.dumps({33: f.leaf.der})), Reason.COSE_UNPROTECTED),
    ("15 payload map with trailing bytes", lambda f: _signed(f, f.payload() + b"\x00"), Reason.PAYLOAD_CBOR),
    (
        "16 duplicate key pcrs",
        lambda f: _signed(f, encode_payload([*f.fields().items(), ("pcrs", PCRS)])),
        Reason.PAYLOAD_CBOR,
    ),
    (
        "17 duplicate PCR index 0",
        lambda f: _signed(
            f,
            _raw_payload(f, pcrs=b"\xb1" + cbor.dumps(PCRS)[1:] + b"\x00" + cbor.bstr(MEASUREMENT.pcr0)),
        ),
        Reason.PAYLOAD_CBOR,
    ),
    ("18 unknown extra key", lambda f: f.document(something_new=b"signed but unread"), None),
    ("19 chunked nonce", lambda f: _signed(f, _raw_payload(f, nonce=_CHUNKED_NONCE)), Reason.PAYLOAD_CBOR),
    ("20 missing break byte", lambda f: _signed(f, f.payload()[:-1]), Reason.PAYLOAD_CBOR),
    ("21 public_key of 1025 bytes", lambda f: f.document(public_key=bytes(1025)), Reason.FIELD_PUBLIC_KEY),
    ("22 user_data of 513 bytes", lambda f: f.document(user_data=bytes(513)), Reason.FIELD_USER_DATA),
    ("23 nonce of 513 bytes", lambda f: f.document(nonce=bytes(513)), Reason.FIELD_NONCE),
    ("24 PCR of 47 bytes", lambda f: f.document(pcrs=PCRS | {5: bytes(47)}), Reason.PCR_SIZE),
    ("25 PCR of 32 bytes under SHA384", lambda f: f.document(pcrs=PCRS | {5: bytes(32)}), Reason.PCR_SIZE),
    ("26 PCR index 32", lambda f: f.document(pcrs=PCRS | {32: bytes(48)}), Reason.PCR_INDEX),
    ("27 PCR index as text", lambda f: f.document(pcrs={"0": MEASUREMENT.pcr0}), Reason.PCR_INDEX),
    (
        "28 no PCR0 in the map",
        lambda f: f.document(pcrs={index: value for index, value in PCRS.items() if index}),
        Reason.PCR_MISSING,
    ),
    ("29 digest SHA512", lambda f: f.document(digest="SHA512"), Reason.FIELD_DIGEST),
    ("30 timestamp 0", lambda f: f.document(timestamp=0), Reason.FIELD_TIMESTAMP),
    ("31 timestamp as text", lambda f: f.document(timestamp=str(NOW_MS)), Reason.FIELD_TIMESTAMP),
    ("32 module_id empty", lambda f: f.document(module_id=""), Reason.FIELD_MODULE_ID),
    ("33 public_key is text", lambda f: f.document(public_key="k" * 32), Reason.FIELD_PUBLIC_KEY),
    (
        "34 signature of 95 bytes",
        lambda f: _with_signature(f.document(), lambda signature: signature[:-1]),
        Reason.COSE_SIGNATURE_SIZE,
    ),
    (
        "35 one signature bit flipped",
        lambda f: _with_signature(f.document(), lambda signature: signature[:-1] + bytes([signature[-1] ^ 1])),
        Reason.COSE_SIGNATURE,
    ),
    ("36 signature (r, n - s)", lambda f: _with_signature(f.document(), _high_s), None),
    ("37 signed by another key, chain kept", lambda f: sign_document(new_key(), f.payload()), Reason.COSE_SIGNATURE),
    ("38 whole chain under another root", lambda _: Forge.create(NOW_MS).document(), Reason.ROOT_NOT_PINNED),
    ("39 our root in front of a foreign chain", _foreign_chain_behind_our_root, Reason.CHAIN_SIGNATURE),
    ("40 cabundle without the root", lambda f: f.document(cabundle=f.cabundle[1:]), Reason.ROOT_NOT_PINNED),
    ("41 cabundle reversed", lambda f: f.document(cabundle=f.cabundle[::-1]), Reason.ROOT_NOT_PINNED),
    ("42 cabundle empty", lambda f: f.document(cabundle=[]), Reason.FIELD_CABUNDLE),
    ("43 leaf expired", lambda f: f.with_leaf(not_after_ms=NOW_MS - 1000).document(), Reason.CERT_VALIDITY),
    (
        "44 instance CA expired",
        lambda f: f.with_instance(INSTANCE_PROFILE, not_after_ms=NOW_MS - 1000).document(),
        Reason.CERT_VALIDITY,
    ),
    ("45 leaf not yet valid", lambda f: f.with_leaf(not_before_ms=NOW_MS + HOUR_MS).document(), Reason.CERT_VALIDITY),
    ("46 leaf without digitalSignature", _leaf(key_usage=frozenset({"content_commitment"})), Reason.LEAF_KEY_USAGE),
    ("47 leaf without keyUsage", _leaf(key_usage=None), Reason.LEAF_KEY_USAGE),
    ("48 leaf is a CA", _leaf(ca=True), Reason.LEAF_BASIC_CONSTRAINTS),
    ("49 instance CA is no CA", _instance(ca=False, path_length=None), Reason.CA_BASIC_CONSTRAINTS),
    (
        "50 instance CA without keyCertSign",
        _instance(key_usage=frozenset({"digital_signature"})),
        Reason.CA_KEY_USAGE,
    ),
    ("51 path length exceeded", _zonal_with_path_length_0, Reason.CA_PATHLEN),
    ("52 CA basicConstraints not critical", _instance(basic_constraints_critical=False), Reason.CA_BASIC_CONSTRAINTS),
    ("53 leaf with extended key usage", _leaf(extra=_CLIENT_AUTH), Reason.LEAF_EKU),
    ("54 unknown critical extension in the leaf", _leaf(extra=_UNKNOWN_CRITICAL), Reason.CERT_CRITICAL_EXT),
    ("55 leaf key on P-256", _leaf_on_p256, Reason.CERT_CURVE),
    ("56 leaf signed with ECDSA-SHA256", _leaf(signature_hash=hashes.SHA256()), Reason.CERT_SIGALG),
    (
        "57 certificate with trailing DER bytes",
        lambda f: f.document(certificate=f.leaf.der + b"\x00"),
        Reason.CERT_PARSE,
    ),
    (
        "58 another enclave's leaf",
        lambda f: f.with_leaf(module_id="i-simulated00000000-encffffffffffffffff").document(),
        Reason.MODULE_ID_NOT_IN_CERT,
    ),
    ("59 debug enclave", lambda f: f.document(pcrs=PCRS | dict.fromkeys((0, 1, 2), bytes(48))), Reason.DEBUG_MODE),
    ("60 PCR0 of another image", lambda f: f.document(pcrs=PCRS | {0: b"\x01" * 48}), Reason.PCR_MISMATCH),
    ("61 replayed nonce", lambda f: f.document(nonce=bytes(32)), Reason.NONCE),
    ("62 two hours old, leaf still valid", _old, Reason.STALE),
    ("63 timestamp a day ahead", lambda f: f.document(timestamp=NOW_MS + DAY_MS), Reason.FROM_THE_FUTURE),
    ("64 no public_key", lambda f: f.document(public_key=None), Reason.PUBLIC_KEY_SHAPE),
    ("65 public_key of 64 bytes", lambda f: f.document(public_key=bytes(64)), Reason.PUBLIC_KEY_SHAPE),
    ("66 payload of 20 KiB", lambda f: f.document(padding=bytes(20 * 1024)), Reason.DOCUMENT_SIZE),
    ("67 cabundle of 40 certificates", lambda f: f.document(cabundle=f.cabundle * 10), Reason.DOCUMENT_SIZE),
    ("68 nesting of 5000 arrays", lambda _: b"\x81" * 5000, Reason.CBOR),
    ("69 array claims 2^60 elements", lambda _: b"\x9b" + (1 << 60).to_bytes(8, "big"), Reason.CBOR),
    ("70 empty input", lambda _: b"", Reason.DOCUMENT_SIZE),
    (
        "71 non-shortest head in the payload",
        lambda f: _signed(f, _raw_payload(f, nonce=b"\x59\x00\x20" + NONCE)),
        Reason.PAYLOAD_CBOR,
    ),
]


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge.create(NOW_MS)


def _verify(document: bytes, forge: Forge) -> Attestation:
    policy = AttestationPolicy(
        measurements={MEASUREMENT},
        nonce=NONCE,
        user_data=UNCHECKED,
        public_key_length_bytes=32,
        development_root_sha256=forge.root_sha256,
    )
    return verify(document, policy, NOW_MS, chain_cache=ChainCache())


@pytest.mark.parametrize(("make", "reason"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_each_row_of_the_table_is_handled_as_it_asks(
    make: Callable[[Forge], bytes], reason: Reason | None, forge: Forge
) -> None:
    document = make(forge)
    if reason is None:
        assert _verify(document, forge).module_id == MODULE_ID
        return
    with pytest.raises(AttestationError) as refused:
        _verify(document, forge)
    assert refused.value.reason == reason


def test_the_table_has_all_72_rows() -> None:
    assert sorted({int(name[:2]) for name, _, _ in ROWS}) == list(range(72))
    assert sorted({name[:2] for name, _, reason in ROWS if reason is None}) == ["00", "01", "02", "18", "36"]


def test_the_refusal_names_the_certificate_that_is_to_blame(forge: Forge) -> None:
    with pytest.raises(AttestationError) as refused:
        _verify(forge.with_instance(dataclasses.replace(INSTANCE_PROFILE, key_usage=None)).document(), forge)
    assert (refused.value.reason, refused.value.field) == (Reason.CA_KEY_USAGE, "cabundle[3]")
    with pytest.raises(AttestationError) as refused:
        _verify(forge.with_instance(INSTANCE_PROFILE, not_after_ms=NOW_MS - 1000).document(), forge)
    assert (refused.value.reason, refused.value.field) == (Reason.CERT_VALIDITY, "cabundle[3]")
