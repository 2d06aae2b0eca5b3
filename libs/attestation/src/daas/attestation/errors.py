"""Every way in which an attestation document can be refused, as one machine-readable vocabulary.

DaasError
└── Refused
    └── AttestationError   the document is malformed, not authentic, or not what the policy asks for

The errors of the NSM client are in `daas.attestation.nsm_errors`.
"""

from enum import StrEnum

from daas.common.errors import Refused


class Reason(StrEnum):
    """Why a document was refused. Stable: alerts, facts on the bus and tests are keyed by these strings."""

    # encoding
    DOCUMENT_SIZE = "doc-size"
    CBOR = "cbor"
    COSE_TAG = "cose-tag"
    COSE_SHAPE = "cose-shape"
    COSE_PROTECTED = "cose-protected"
    COSE_UNPROTECTED = "cose-unprotected"
    COSE_PAYLOAD_SIZE = "cose-payload-size"
    COSE_SIGNATURE_SIZE = "cose-signature-size"
    PAYLOAD_CBOR = "payload-cbor"
    PAYLOAD_SHAPE = "payload-shape"
    # fields of the payload
    FIELD_KEY = "field-key"
    FIELD_MISSING = "field-missing"
    FIELD_MODULE_ID = "field-module_id"
    FIELD_DIGEST = "field-digest"
    FIELD_TIMESTAMP = "field-timestamp"
    FIELD_PCRS = "field-pcrs"
    FIELD_CERTIFICATE = "field-certificate"
    FIELD_CABUNDLE = "field-cabundle"
    FIELD_PUBLIC_KEY = "field-public_key"
    FIELD_USER_DATA = "field-user_data"
    FIELD_NONCE = "field-nonce"
    PCR_INDEX = "pcr-index"
    PCR_SIZE = "pcr-size"
    PCR_MISSING = "pcr-missing"
    # the relying party's policy
    DEBUG_MODE = "debug-mode"
    PCR_MISMATCH = "pcr-mismatch"
    NONCE = "nonce"
    USER_DATA = "user-data"
    PUBLIC_KEY_SHAPE = "public-key-shape"
    FROM_THE_FUTURE = "from-the-future"
    STALE = "stale"
    # certificates
    ROOT_NOT_PINNED = "root-not-pinned"
    CERT_PARSE = "cert-parse"
    CERT_VERSION = "cert-version"
    CERT_SIGALG = "cert-sigalg"
    CERT_CURVE = "cert-curve"
    CERT_CRITICAL_EXT = "cert-critical-ext"
    CERT_VALIDITY = "cert-validity"
    CA_BASIC_CONSTRAINTS = "ca-basic-constraints"
    CA_PATHLEN = "ca-pathlen"
    CA_KEY_USAGE = "ca-key-usage"
    CA_EKU = "ca-eku"
    LEAF_BASIC_CONSTRAINTS = "leaf-basic-constraints"
    LEAF_KEY_USAGE = "leaf-key-usage"
    LEAF_EKU = "leaf-eku"
    CHAIN_SIGNATURE = "chain-signature"
    # what binds document and certificate
    MODULE_ID_NOT_IN_CERT = "module-id-not-in-cert"
    TIMESTAMP_OUTSIDE_CERT = "timestamp-outside-cert"
    SIGNATURE_RANGE = "signature-range"
    COSE_SIGNATURE = "cose-signature"


class AttestationError(Refused):
    """A refused attestation document; `reason` is one of `Reason`, `field` the offending part of the document.

    Whatever bytes the verifier is given, this one class comes out; a mistake in the caller's own policy is a
    `ConfigurationError` and is raised when the policy is made.
    """

    def __init__(self, message: str, *, reason: Reason, field: str | None = None) -> None:
        super().__init__(message, reason=reason.value, field=field)
