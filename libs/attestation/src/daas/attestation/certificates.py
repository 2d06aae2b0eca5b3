"""The certificates of a document: parsing, the rules each must obey, and the chain from the pinned root to the leaf.

Rules: aws-nitro-enclaves-nsm-api docs/attestation_process.md 3.2.3 and RFC 5280, tightened to what AWS issues
(P-384 and SHA-384 throughout, critical basicConstraints in CAs, no extended key usage). Revocation lists are not
consulted: AWS says not to, and the intermediates live for days.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from threading import Lock
from typing import NoReturn, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from daas.attestation.errors import AttestationError, Reason

_UNDERSTOOD_WHEN_CRITICAL = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
# What cryptography raises for hostile DER. Its warnings (a serial number that is not positive) become errors where
# warnings are errors; the serial is checked below for everyone else.
_PARSE_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,
)
# Chains change once a day per host; a verifier of many operators' enclaves sees as many chains as hosts.
CHAIN_CACHE_ENTRIES_MAX = 256

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A parsed certificate that satisfies what root, CAs and leaf have in common."""

    parsed: x509.Certificate
    extensions: x509.Extensions
    public_key: ec.EllipticCurvePublicKey
    not_before_ms: int
    not_after_ms: int
    where: str
    """Its place in the document, for errors."""

    def extension(self, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
        """The extension of this kind, or None."""
        try:
            return self.extensions.get_extension_for_class(kind)
        except x509.ExtensionNotFound:
            return None


@dataclass(frozen=True, slots=True)
class Chain:
    """A verified chain of CAs: its last certificate may issue leaves from `not_before_ms` to `not_after_ms`."""

    issuer: Certificate
    not_before_ms: int
    not_after_ms: int
    limited_by: str
    """The CA certificate that ends first."""


class ChainCache:
    """The chains that were verified last, at most `entries_max` of them; safe to share between threads.

    Only chains that verified up to the pinned root enter, under a key that commits to the root and to every byte of
    every certificate, so nobody without the root's key can fill it. Times are not cached: they are judged each time.
    """

    def __init__(self, entries_max: int = CHAIN_CACHE_ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._chains: OrderedDict[bytes, Chain] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._chains)

    def get(self, key: bytes) -> Chain | None:
        """The chain verified under this key, which becomes the most recent one."""
        with self._lock:
            chain = self._chains.get(key)
            if chain is not None:
                self._chains.move_to_end(key)
            return chain

    def put(self, key: bytes, chain: Chain) -> None:
        """Remember a verified chain, forgetting the one that was used least recently."""
        with self._lock:
            self._chains[key] = chain
            self._chains.move_to_end(key)
            while len(self._chains) > self._entries_max:
                self._chains.popitem(last=False)


def load_certificate(der: bytes, where: str) -> Certificate:
    """Parse one certificate and check version, signature algorithm, curve and critical extensions.

    Raises:
        AttestationError: one of the `cert-*` reasons.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        public_key = certificate.public_key()
        extensions = certificate.extensions
        serial_number = certificate.serial_number
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _PARSE_ERRORS as error:
        _refuse(Reason.CERT_PARSE, f"not a DER certificate ({type(error).__name__})", where)
    if serial_number <= 0:
        _refuse(Reason.CERT_PARSE, "the serial number is not positive (RFC 5280, 4.1.2.2)", where)
    if certificate.version is not x509.Version.v3:
        _refuse(Reason.CERT_VERSION, "not an X.509 version 3 certificate", where)
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        _refuse(Reason.CERT_SIGALG, "the certificate is not signed with ecdsa-with-SHA384", where)
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP384R1):
        _refuse(Reason.CERT_CURVE, "the certificate's key is not on P-384", where)
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD_WHEN_CRITICAL:
            _refuse(Reason.CERT_CRITICAL_EXT, f"unknown critical extension {extension.oid.dotted_string}", where)
    return Certificate(certificate, extensions, public_key, _ms(not_before), _ms(not_after) + 999, where)


def verify_chain(cabundle: Sequence[bytes], root_sha256: bytes, cache: ChainCache) -> Chain:
    """Verify the CAs of a document, `[root, ..., issuer of the leaf]`, against the pinned root. Times are not judged.

    Args:
        cabundle: DER certificates, the root first.
        root_sha256: SHA-256 of the DER of the one root that is trusted.
        cache: where verified chains are remembered; four signatures are saved by a hit.

    Raises:
        AttestationError: `root-not-pinned`, `cert-*`, `ca-*` or `chain-signature`.
    """
    key = _cache_key(cabundle, root_sha256)
    known = cache.get(key)
    if known is not None:
        return known
    if hashlib.sha256(cabundle[0]).digest() != root_sha256:
        _refuse(Reason.ROOT_NOT_PINNED, f"the first certificate is not the root {root_sha256.hex()}", "cabundle[0]")
    certificates = [load_certificate(der, f"cabundle[{index}]") for index, der in enumerate(cabundle)]
    for index, certificate in enumerate(certificates):
        _check_ca(certificate, cas_below=len(certificates) - 1 - index)
    # The root's own signature is not checked: its bytes are pinned, a signature by itself over itself adds nothing.
    for issuer, certificate in pairwise(certificates):
        _check_issued_by(certificate, issuer)
    first_to_end = min(certificates, key=lambda certificate: certificate.not_after_ms)
    chain = Chain(
        issuer=certificates[-1],
        not_before_ms=max(certificate.not_before_ms for certificate in certificates),
        not_after_ms=first_to_end.not_after_ms,
        limited_by=first_to_end.where,
    )
    cache.put(key, chain)
    return chain


def verify_leaf(der: bytes, chain: Chain) -> Certificate:
    """Verify the certificate whose key signed the document. Times are not judged.

    Raises:
        AttestationError: `cert-*`, `leaf-*` or `chain-signature`.
    """
    leaf = load_certificate(der, "certificate")
    constraints = leaf.extension(x509.BasicConstraints)
    if constraints is not None and (constraints.value.ca or constraints.value.path_length is not None):
        _refuse(Reason.LEAF_BASIC_CONSTRAINTS, "the leaf is a CA or has a path length", leaf.where)
    usage = leaf.extension(x509.KeyUsage)
    if usage is None or not usage.value.digital_signature or usage.value.key_cert_sign:
        _refuse(Reason.LEAF_KEY_USAGE, "the leaf's key usage is not digitalSignature without keyCertSign", leaf.where)
    if leaf.extension(x509.ExtendedKeyUsage) is not None:
        _refuse(Reason.LEAF_EKU, "the leaf has an extended key usage; leaves of the NSM have none", leaf.where)
    _check_issued_by(leaf, chain.issuer)
    return leaf


def common_name(certificate: Certificate) -> str:
    """The one common name of the subject, or an empty string when there is none, several, or not text."""
    try:
        names = certificate.parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except _PARSE_ERRORS:
        return ""
    return names[0].value if len(names) == 1 and isinstance(names[0].value, str) else ""


def _check_ca(certificate: Certificate, *, cas_below: int) -> None:
    constraints = certificate.extension(x509.BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        _refuse(Reason.CA_BASIC_CONSTRAINTS, "no critical basicConstraints with CA:TRUE", certificate.where)
    path_length = constraints.value.path_length
    if path_length is not None and path_length < cas_below:
        message = f"the path length allows {path_length} CAs below, there are {cas_below}"
        _refuse(Reason.CA_PATHLEN, message, certificate.where)
    usage = certificate.extension(x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        _refuse(Reason.CA_KEY_USAGE, "the CA's key usage is not keyCertSign", certificate.where)
    if certificate.extension(x509.ExtendedKeyUsage) is not None:
        _refuse(Reason.CA_EKU, "the CA has an extended key usage", certificate.where)


def _check_issued_by(certificate: Certificate, issuer: Certificate) -> None:
    try:
        # Compares the names, the two statements of the algorithm, and verifies the signature.
        certificate.parsed.verify_directly_issued_by(issuer.parsed)
    except (InvalidSignature, *_PARSE_ERRORS):
        _refuse(Reason.CHAIN_SIGNATURE, f"not issued by {issuer.where}", certificate.where)


def _cache_key(cabundle: Sequence[bytes], root_sha256: bytes) -> bytes:
    digest = hashlib.sha256(root_sha256)
    for der in cabundle:
        digest.update(len(der).to_bytes(4, "big") + der)
    return digest.digest()


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _refuse(reason: Reason, message: str, where: str) -> NoReturn:
    raise AttestationError(message, reason=reason, field=where)
