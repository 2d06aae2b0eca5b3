"""The attestation document as a value: strict parsing of COSE_Sign1 and of the payload; no cryptography, no policy.

Source: aws-nitro-enclaves-nsm-api docs/attestation_process.md, corrected by genuine documents: the signature is
96 bytes, unset optional fields are null, and since mid-2025 the payload map comes with indefinite length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from daas.attestation import cbor
from daas.attestation.errors import AttestationError, Reason

PAYLOAD_BYTES_MAX = 16384
# The payload, a tag, four heads, the protected header and the signature: 16,491 bytes at most.
DOCUMENT_BYTES_MAX = PAYLOAD_BYTES_MAX + 128
CERTIFICATE_BYTES_MAX = 1024
CABUNDLE_CERTIFICATES_MAX = 10  # AWS sends 4; the verifier on Sui takes 10 at most
PUBLIC_KEY_BYTES_MAX = 1024
USER_DATA_BYTES_MAX = 512
NONCE_BYTES_MAX = 512
PCR_COUNT_MAX = 32
PCR_BYTES = 48  # SHA-384, the only digest in use
SIGNATURE_BYTES = 96  # ECDSA P-384, raw r || s
MODULE_ID_CHARACTERS_MAX = 256  # it stands in a certificate of at most 1024 bytes
TIMESTAMP_MS_END = 1 << 53  # integers beyond can't cross JSON exactly

COSE_SIGN1_TAG = 18
PROTECTED_HEADER = b"\xa1\x01\x38\x22"  # {1: -35}: ECDSA P-384 with SHA-384 (RFC 9053)

_MANDATORY = ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationDocument:
    """What a document says, well-formed but with nothing verified. Only `verify` may be a reason to trust it."""

    module_id: str
    timestamp_ms: int
    digest: str
    pcrs: Mapping[int, bytes]
    """Index 0..31 to 48 bytes; the registers that were locked."""
    certificate: bytes
    """DER of the leaf, whose key signed the document."""
    cabundle: tuple[bytes, ...]
    """DER, root first, the issuer of the leaf last."""
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    signed_bytes: bytes
    """The COSE Sig_structure (RFC 9052, 4.4)."""
    signature: bytes

    @property
    def debug(self) -> bool:
        """True when PCR0, 1 and 2 are all zero: the enclave was started in debug mode and its operator can read it."""
        return not any(any(self.pcrs.get(index, b"")) for index in (0, 1, 2))


def parse_document(document: bytes) -> AttestationDocument:
    """Parse a document without verifying anything.

    Raises:
        AttestationError: it is not a well-formed attestation document.
    """
    if not isinstance(document, bytes) or not 0 < len(document) <= DOCUMENT_BYTES_MAX:
        size = f"{len(document)} bytes" if isinstance(document, bytes) else type(document).__name__
        _refuse(Reason.DOCUMENT_SIZE, f"an attestation document is 1 to {DOCUMENT_BYTES_MAX} bytes, got {size}")
    payload, signature = _parse_cose(document)
    return _parse_payload(payload, signature)


def sig_structure(payload: bytes, protected: bytes = PROTECTED_HEADER) -> bytes:
    """The bytes that the leaf key signs: `["Signature1", protected, h'', payload]` (RFC 9052, 4.4)."""
    return cbor.dumps(("Signature1", protected, b"", payload))


def _parse_cose(document: bytes) -> tuple[bytes, bytes]:
    try:
        outer = cbor.loads(document, allow_tag=True)
    except cbor.CborError as error:
        raise AttestationError(f"the document is not strict CBOR: {error.message}", reason=Reason.CBOR) from None
    if isinstance(outer, cbor.Tagged):
        if outer.tag != COSE_SIGN1_TAG:
            _refuse(Reason.COSE_TAG, f"expected no tag or {COSE_SIGN1_TAG}, got {outer.tag}")
        outer = outer.value
    if not isinstance(outer, list) or len(outer) != 4:
        _refuse(Reason.COSE_SHAPE, "COSE_Sign1 is an array of four")
    protected, unprotected, payload, signature = outer
    # One byte string only: there is one algorithm, and another encoding of it is another document to other readers.
    if protected != PROTECTED_HEADER:
        _refuse(Reason.COSE_PROTECTED, "the protected header is not exactly {1: -35} (ES384)", "protected")
    if not isinstance(unprotected, dict) or unprotected:
        _refuse(Reason.COSE_UNPROTECTED, "the unprotected header is not an empty map", "unprotected")
    if not isinstance(payload, bytes) or not 1 <= len(payload) <= PAYLOAD_BYTES_MAX:
        _refuse(Reason.COSE_PAYLOAD_SIZE, f"the payload is not a string of 1 to {PAYLOAD_BYTES_MAX} bytes", "payload")
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        _refuse(Reason.COSE_SIGNATURE_SIZE, f"the signature is not a string of {SIGNATURE_BYTES} bytes", "signature")
    return payload, signature


def _parse_payload(payload: bytes, signature: bytes) -> AttestationDocument:
    try:
        fields = cbor.loads(payload)
    except cbor.CborError as error:
        raise AttestationError(
            f"the payload is not strict CBOR: {error.message}", reason=Reason.PAYLOAD_CBOR, field="payload"
        ) from None
    if not isinstance(fields, dict):
        _refuse(Reason.PAYLOAD_SHAPE, "the payload is not a map", "payload")
    if not all(isinstance(key, str) for key in fields):
        _refuse(Reason.FIELD_KEY, "a key of the payload is not text", "payload")
    # Unknown keys are skipped: they are signed, and AWS may add some; known ones are held to their type and length.
    for name in _MANDATORY:
        if fields.get(name) is None:
            _refuse(Reason.FIELD_MISSING, f"{name} is missing or null", name)
    module_id, timestamp = fields["module_id"], fields["timestamp"]
    if not isinstance(module_id, str) or not 1 <= len(module_id) <= MODULE_ID_CHARACTERS_MAX:
        _refuse(Reason.FIELD_MODULE_ID, f"module_id is not 1 to {MODULE_ID_CHARACTERS_MAX} characters", "module_id")
    if fields["digest"] != "SHA384":
        _refuse(Reason.FIELD_DIGEST, 'digest is not "SHA384"', "digest")
    if not isinstance(timestamp, int) or not 0 < timestamp < TIMESTAMP_MS_END:
        _refuse(Reason.FIELD_TIMESTAMP, "timestamp is not a positive number of milliseconds", "timestamp")
    return AttestationDocument(
        module_id=module_id,
        timestamp_ms=timestamp,
        digest="SHA384",
        pcrs=_pcrs(fields["pcrs"]),
        certificate=_certificate(fields["certificate"]),
        cabundle=_cabundle(fields["cabundle"]),
        public_key=_optional(fields, "public_key", 1, PUBLIC_KEY_BYTES_MAX, Reason.FIELD_PUBLIC_KEY),
        user_data=_optional(fields, "user_data", 0, USER_DATA_BYTES_MAX, Reason.FIELD_USER_DATA),
        nonce=_optional(fields, "nonce", 0, NONCE_BYTES_MAX, Reason.FIELD_NONCE),
        signed_bytes=sig_structure(payload),
        signature=signature,
    )


def _pcrs(value: cbor.Value) -> Mapping[int, bytes]:
    if not isinstance(value, dict) or not 1 <= len(value) <= PCR_COUNT_MAX:
        _refuse(Reason.FIELD_PCRS, f"pcrs is not a map of 1 to {PCR_COUNT_MAX} entries", "pcrs")
    pcrs: dict[int, bytes] = {}
    for index, register in value.items():
        if not isinstance(index, int) or not 0 <= index < PCR_COUNT_MAX:
            _refuse(Reason.PCR_INDEX, f"a PCR index is not an integer from 0 to {PCR_COUNT_MAX - 1}", "pcrs")
        if not isinstance(register, bytes) or len(register) != PCR_BYTES:
            _refuse(Reason.PCR_SIZE, f"PCR{index} is not {PCR_BYTES} bytes", f"pcrs[{index}]")
        pcrs[index] = register
    return MappingProxyType(pcrs)


def _certificate(value: cbor.Value) -> bytes:
    if not isinstance(value, bytes) or not 1 <= len(value) <= CERTIFICATE_BYTES_MAX:
        _refuse(Reason.FIELD_CERTIFICATE, f"certificate is not 1 to {CERTIFICATE_BYTES_MAX} bytes", "certificate")
    return value


def _cabundle(value: cbor.Value) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= CABUNDLE_CERTIFICATES_MAX:
        _refuse(Reason.FIELD_CABUNDLE, f"cabundle is not 1 to {CABUNDLE_CERTIFICATES_MAX} certificates", "cabundle")
    certificates: list[bytes] = []
    for index, der in enumerate(value):
        if not isinstance(der, bytes) or not 1 <= len(der) <= CERTIFICATE_BYTES_MAX:
            _refuse(
                Reason.FIELD_CABUNDLE, f"not a certificate of 1 to {CERTIFICATE_BYTES_MAX} bytes", f"cabundle[{index}]"
            )
        certificates.append(der)
    return tuple(certificates)


def _optional(
    fields: Mapping[int | str, cbor.Value], name: str, bytes_min: int, bytes_max: int, reason: Reason
) -> bytes | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, bytes) or not bytes_min <= len(value) <= bytes_max:
        _refuse(reason, f"{name} is neither null nor {bytes_min} to {bytes_max} bytes", name)
    return value


def _refuse(reason: Reason, message: str, field: str | None = None) -> NoReturn:
    raise AttestationError(message, reason=reason, field=field)
