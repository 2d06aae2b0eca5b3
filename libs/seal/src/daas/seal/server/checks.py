"""The checks of one fetch request that need no ledger: encodings, certificate, signatures; in the official order."""

from hashlib import blake2b

import msgspec

from daas.common.bcs import bytes_
from daas.common.errors import DaasError, InvalidInput
from daas.seal import wire
from daas.seal.address import parse_address
from daas.seal.backend import BACKEND
from daas.seal.backend.protocol import G1, G1_LENGTH, G2_LENGTH
from daas.seal.errors import InvalidSignature, MalformedPoint
from daas.seal.ptb import InvalidPtb, ParsedPtb, Pure, parse_ptb
from daas.seal.server.refusal import Refusal
from daas.seal.session import (
    Certificate,
    certificate_message,
    request_message,
    session_key_of,
    verify_request,
)
from daas.seal.signatures import verify_personal_message

_SIGNATURE_LENGTH = 64
_MINUTE_MS = 60_000
#: Names of the Move registry are at most 63 + 63 characters and separators; more is no name.
_NAME_LENGTH_MAX = 256


class FetchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose encodings are right."""

    ptb: bytes
    parsed: ParsedPtb
    encryption_key: bytes
    encryption_point: G1
    verification_key: bytes
    signature: bytes
    certificate: Certificate
    user: bytes
    session_key: bytes


def decode_fetch_request(body: bytes) -> FetchRequest:
    """Reads a request.

    Raises:
        Refusal: `InvalidRequest`, `InvalidPTB`, `InvalidParameter` (the ElGamal keys), `InvalidCertificate`,
            `InvalidSessionSignature` (its encoding).
    """
    try:
        request = wire.decode_request(body)
    except InvalidInput:
        raise Refusal("InvalidRequest") from None
    try:
        ptb = wire.from_base64(request.ptb, "ptb")
        parsed = parse_ptb(ptb)
    except InvalidPtb as error:
        raise Refusal("InvalidPTB", error.message) from None
    except DaasError:
        raise Refusal("InvalidPTB") from None
    certificate = request.certificate
    try:
        user = parse_address(certificate.user, "certificate.user")
        session_key = session_key_of(certificate)
    except InvalidInput:
        raise Refusal("InvalidCertificate") from None
    if len(certificate.mvr_name or "") > _NAME_LENGTH_MAX:
        raise Refusal("InvalidMVRName")
    try:
        encryption_key = wire.from_base64(request.enc_key, "enc_key", G1_LENGTH)
        verification_key = wire.from_base64(request.enc_verification_key, "enc_verification_key", G2_LENGTH)
        # An identity point as key would hand out the user secret key in clear.
        encryption_point = BACKEND.g1_decode(encryption_key)
    except (InvalidInput, MalformedPoint):
        raise Refusal("InvalidParameter") from None
    try:
        signature = wire.from_base64(request.request_signature, "request_signature", _SIGNATURE_LENGTH)
    except InvalidInput:
        raise Refusal("InvalidSessionSignature") from None
    return FetchRequest(
        ptb=ptb,
        parsed=parsed,
        encryption_key=encryption_key,
        encryption_point=encryption_point,
        verification_key=verification_key,
        signature=signature,
        certificate=certificate,
        user=user,
        session_key=session_key,
    )


def check_certificate_time(certificate: Certificate, now_ms: int, *, ttl_min_max: int, future_skew_ms: int) -> None:
    """Holds a certificate to its time.

    Raises:
        Refusal: `InvalidCertificate`.
    """
    age_ms = now_ms - certificate.creation_time
    within = -future_skew_ms <= age_ms <= certificate.ttl_min * _MINUTE_MS
    if not 0 < certificate.ttl_min <= ttl_min_max or not within:
        raise Refusal("InvalidCertificate")


def check_user_signature(request: FetchRequest, package: str) -> None:
    """Holds the certificate to the user's signature.

    Args:
        request: the request.
        package: what the user signed: the first version's id as text, or the name.

    Raises:
        Refusal: `InvalidSignature`, with the reason where the scheme is not supported.
    """
    certificate = request.certificate
    try:
        message = certificate_message(package, certificate.ttl_min, certificate.creation_time, request.session_key)
        verify_personal_message(message, certificate.signature, request.user)
    except InvalidInput:
        raise Refusal("InvalidCertificate") from None
    except InvalidSignature as error:
        raise Refusal("InvalidSignature", error.message if error.reason == "signature-scheme" else "") from None


def check_session_signature(request: FetchRequest) -> None:
    """Holds the request to the session key's signature.

    Raises:
        Refusal: `InvalidSessionSignature`.
    """
    message = request_message(request.ptb, request.encryption_key, request.verification_key)
    try:
        verify_request(request.session_key, request.signature, message)
    except InvalidSignature:
        raise Refusal("InvalidSessionSignature") from None


def check_session_arguments(request: FetchRequest, bound: frozenset[str]) -> None:
    """Holds the calls of session-bound functions to the session that asks.

    Raises:
        Refusal: `NoAccess`.
    """
    expected = Pure(bytes_(request.session_key))
    for call in request.parsed.calls:
        if f"{call.module}::{call.function}" in bound and call.arguments[1:2] != (expected,):
            raise Refusal("NoAccess", "the right is for another session")


def digest_of(identity: bytes) -> str:
    """How a full identity appears in logs: 8 bytes of its blake2b, enough to find it again for who knows it."""
    return blake2b(identity, digest_size=8).hexdigest()
