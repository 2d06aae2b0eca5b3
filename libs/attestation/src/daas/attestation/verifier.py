"""`verify`: from the bytes of an attestation document and a policy to a fact, or to a refusal with a reason."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from daas.attestation.certificates import Certificate, Chain, ChainCache, common_name, verify_chain, verify_leaf
from daas.attestation.document import AttestationDocument, parse_document
from daas.attestation.errors import AttestationError, Reason
from daas.attestation.policy import UNCHECKED, AttestationPolicy, Measurement, TimeMode

# Order of the group of P-384 (FIPS 186-5, SP 800-186 3.2.1.4).
_P384_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
_ECDSA_SHA384 = ec.ECDSA(hashes.SHA384())
_SHARED_CHAIN_CACHE = ChainCache()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What a verified document proves. Only `verify` makes one.

    An ECDSA signature (r, n - s) is as good as (r, s), so the same statement has two valid encodings: tell documents
    apart by (module_id, timestamp_ms, public_key), never by a hash of their bytes.
    """

    module_id: str
    timestamp_ms: int
    """When the hypervisor signed, by its clock."""
    pcrs: Mapping[int, bytes]
    measurement: Measurement | None
    """The allowed image that the enclave runs; None in debug mode."""
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    leaf_not_after_ms: int
    """End of the leaf certificate. A leaf is used for 3 hours, so a fresh document may have minutes left."""
    chain_not_after_ms: int
    """End of the first certificate to end, the leaf included: until then the document can be verified as present."""
    root_fingerprint: str
    """SHA-256 of the root's DER, hexadecimal."""
    debug: bool
    """The operator of the host can read this enclave's memory."""
    simulated: bool
    """The document comes from a stand-in, not from Nitro hardware."""
    historical: bool
    """Certificates were judged at the document's own time."""

    def to_builtins(self) -> dict[str, object]:
        """For JSON: bytes as lower-case hexadecimal, registers by their index as text."""
        return {
            "module_id": self.module_id,
            "timestamp_ms": self.timestamp_ms,
            "pcrs": {str(index): value.hex() for index, value in sorted(self.pcrs.items())},
            "public_key": _hex(self.public_key),
            "user_data": _hex(self.user_data),
            "nonce": _hex(self.nonce),
            "leaf_not_after_ms": self.leaf_not_after_ms,
            "chain_not_after_ms": self.chain_not_after_ms,
            "root_fingerprint": self.root_fingerprint,
            "debug": self.debug,
            "simulated": self.simulated,
            "historical": self.historical,
        }


def verify(
    document: bytes, policy: AttestationPolicy, now_ms: int, *, chain_cache: ChainCache | None = None
) -> Attestation:
    """Verify an attestation document.

    Args:
        document: the bytes as the NSM returned them (COSE_Sign1, with or without tag 18).
        policy: what is asked beyond authenticity.
        now_ms: the verifier's clock, milliseconds since the epoch.
        chain_cache: verified CA chains; the process-wide cache when left out.

    Raises:
        AttestationError: the document is refused; `reason` is one of `Reason`.
    """
    parsed = parse_document(document)
    # The policy costs microseconds, the signatures milliseconds: what the policy refuses never gets to them.
    measurement = _check_policy(parsed, policy, now_ms)
    chain = verify_chain(
        parsed.cabundle, policy.root_sha256, _SHARED_CHAIN_CACHE if chain_cache is None else chain_cache
    )
    leaf = verify_leaf(parsed.certificate, chain)
    _check_times(parsed, policy, chain, leaf, now_ms)
    # A module id has no dot; the leaf is named "<module id>.<region>.aws".
    if common_name(leaf).partition(".")[0] != parsed.module_id:
        raise AttestationError(
            "the leaf certificate names another module than the document",
            reason=Reason.MODULE_ID_NOT_IN_CERT,
            field="module_id",
        )
    _check_signature(parsed, leaf)
    return Attestation(
        module_id=parsed.module_id,
        timestamp_ms=parsed.timestamp_ms,
        pcrs=parsed.pcrs,
        measurement=measurement,
        public_key=parsed.public_key,
        user_data=parsed.user_data,
        nonce=parsed.nonce,
        leaf_not_after_ms=leaf.not_after_ms,
        chain_not_after_ms=min(leaf.not_after_ms, chain.not_after_ms),
        root_fingerprint=policy.root_sha256.hex(),
        debug=parsed.debug,
        simulated=policy.simulated,
        historical=policy.time_mode is TimeMode.HISTORICAL,
    )


def _check_policy(document: AttestationDocument, policy: AttestationPolicy, now_ms: int) -> Measurement | None:
    measurement = _check_registers(document, policy)
    if policy.nonce is not UNCHECKED and not _equal(document.nonce, policy.nonce):
        raise AttestationError("the nonce is not our challenge", reason=Reason.NONCE, field="nonce")
    if policy.user_data is not UNCHECKED and not _equal(document.user_data, policy.user_data):
        raise AttestationError("the user data is not what is expected", reason=Reason.USER_DATA, field="user_data")
    length = policy.public_key_length_bytes
    actual = None if document.public_key is None else len(document.public_key)
    if length is not UNCHECKED and actual != length:
        raise AttestationError(
            f"the public key's length is {actual}, expected {length} bytes",
            reason=Reason.PUBLIC_KEY_SHAPE,
            field="public_key",
        )
    ahead_ms = document.timestamp_ms - now_ms
    if ahead_ms > policy.clock_skew_ms:
        raise AttestationError(
            f"the document is {ahead_ms} ms ahead of our clock, at most {policy.clock_skew_ms} are allowed",
            reason=Reason.FROM_THE_FUTURE,
            field="timestamp",
        )
    if policy.time_mode is TimeMode.PRESENT and -ahead_ms > policy.age_ms_max:
        raise AttestationError(
            f"the document is {-ahead_ms} ms old, at most {policy.age_ms_max} are allowed",
            reason=Reason.STALE,
            field="timestamp",
        )
    return measurement


def _check_registers(document: AttestationDocument, policy: AttestationPolicy) -> Measurement | None:
    pcrs = document.pcrs
    for index in (0, 1, 2, *policy.pcrs):
        if index not in pcrs:
            raise AttestationError(
                f"PCR{index} is not in the document", reason=Reason.PCR_MISSING, field=f"pcrs[{index}]"
            )
    for index, allowed in policy.pcrs.items():
        if pcrs[index] not in allowed:
            raise AttestationError(
                f"PCR{index} is {pcrs[index].hex()}: not allowed", reason=Reason.PCR_MISMATCH, field=f"pcrs[{index}]"
            )
    if document.debug:
        if not policy.allow_debug:
            raise AttestationError(
                "PCR0, 1 and 2 are zero: the enclave runs in debug mode and its operator can read its memory",
                reason=Reason.DEBUG_MODE,
                field="pcrs",
            )
        return None
    for measurement in policy.measurements:
        if (pcrs[0], pcrs[1], pcrs[2]) == (measurement.pcr0, measurement.pcr1, measurement.pcr2):
            return measurement
    raise AttestationError(
        f"PCR0 {pcrs[0].hex()}, PCR1 {pcrs[1].hex()}, PCR2 {pcrs[2].hex()}: not an allowed image",
        reason=Reason.PCR_MISMATCH,
        field="pcrs[0..2]",
    )


def _check_times(
    document: AttestationDocument, policy: AttestationPolicy, chain: Chain, leaf: Certificate, now_ms: int
) -> None:
    # The document may be ahead of our clock by the allowed skew, and its leaf is 3 s old: judged by our clock alone,
    # a verifier that is 4 seconds slow would refuse every new leaf.
    historical = policy.time_mode is TimeMode.HISTORICAL
    at_ms = document.timestamp_ms if historical else max(now_ms, document.timestamp_ms)
    if not chain.not_before_ms <= at_ms <= chain.not_after_ms:
        raise AttestationError(
            f"the CAs are valid from {chain.not_before_ms} to {chain.not_after_ms} ms, judged at {at_ms}",
            reason=Reason.CERT_VALIDITY,
            field=chain.limited_by if at_ms > chain.not_after_ms else "cabundle",
        )
    if not leaf.not_before_ms <= at_ms <= leaf.not_after_ms:
        raise AttestationError(
            f"the leaf is valid from {leaf.not_before_ms} to {leaf.not_after_ms} ms, judged at {at_ms}",
            reason=Reason.CERT_VALIDITY,
            field=leaf.where,
        )
    if not leaf.not_before_ms <= document.timestamp_ms <= leaf.not_after_ms:
        raise AttestationError(
            f"the document's time {document.timestamp_ms} ms lies outside of its leaf's validity",
            reason=Reason.TIMESTAMP_OUTSIDE_CERT,
            field="timestamp",
        )


def _check_signature(document: AttestationDocument, leaf: Certificate) -> None:
    r, s = int.from_bytes(document.signature[:48], "big"), int.from_bytes(document.signature[48:], "big")
    # High s is accepted: half of the genuine documents have it.
    if not (0 < r < _P384_ORDER and 0 < s < _P384_ORDER):
        raise AttestationError("r or s is not in 1 .. order - 1", reason=Reason.SIGNATURE_RANGE, field="signature")
    try:
        leaf.public_key.verify(encode_dss_signature(r, s), document.signed_bytes, _ECDSA_SHA384)
    except InvalidSignature:
        raise AttestationError(
            "the leaf's key did not sign this document", reason=Reason.COSE_SIGNATURE, field="signature"
        ) from None


def _equal(actual: bytes | None, expected: bytes) -> bool:
    return actual is not None and hmac.compare_digest(actual, expected)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
