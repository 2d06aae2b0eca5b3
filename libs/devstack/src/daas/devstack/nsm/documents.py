"""Builds attestation documents, payload map and COSE_Sign1, as the NSM does or deliberately otherwise."""

from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from daas.attestation import cbor
from daas.attestation.document import PROTECTED_HEADER, sig_structure

_MAP, _INDEFINITE_MAP, _BREAK = 5, b"\xbf", b"\xff"
_EMPTY_MAP = b"\xa0"
_ARRAY_OF_FOUR = b"\x84"
TAG_18 = b"\xd2"


def encode_payload(fields: Sequence[tuple[str, object]], *, indefinite: bool = True) -> bytes:
    """The payload map in the order given, with indefinite length as the NSM writes it since mid-2025, or definite."""
    body = b"".join(cbor.dumps(key) + cbor.dumps(value) for key, value in fields)
    return _INDEFINITE_MAP + body + _BREAK if indefinite else cbor.head(_MAP, len(fields)) + body


def sign_document(
    key: ec.EllipticCurvePrivateKey,
    payload: bytes,
    *,
    protected: bytes = PROTECTED_HEADER,
    unprotected: bytes = _EMPTY_MAP,
    tag: bytes = b"",
) -> bytes:
    """COSE_Sign1 over a payload. The NSM sends no tag and an empty unprotected map.

    Args:
        key: the leaf's.
        payload: any bytes.
        protected: content of the protected header; it is signed.
        unprotected: encoding of the unprotected map; it is not signed.
        tag: encoding of a tag in front.
    """
    signature = raw_signature(key, sig_structure(payload, protected))
    return tag + _ARRAY_OF_FOUR + cbor.bstr(protected) + unprotected + cbor.bstr(payload) + cbor.bstr(signature)


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-384 as r || s, each as long as the curve's order."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA384())))
    width = (key.curve.key_size + 7) // 8
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")
