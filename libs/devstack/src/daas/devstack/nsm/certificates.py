"""Issues certificates of the shape that AWS gives its Nitro Enclaves, and deliberately misshapen ones for tests.

Shapes are those of genuine documents: P-384 and SHA-384, basicConstraints critical, a path length that counts down
from 2, key usage critical in CAs and not in leaves, no extended key usage.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ORGANIZATION = "DEV-NOT-AMAZON"
"""Stands in every name: nobody who reads one can take it for Amazon's."""

DOMAIN = "dev-not-amazon"

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateProfile:
    """The extensions and the algorithm of a certificate."""

    ca: bool | None
    """None leaves basicConstraints out."""
    path_length: int | None = None
    basic_constraints_critical: bool = True
    key_usage: frozenset[str] | None
    """Names as in `cryptography.x509.KeyUsage`; None leaves the extension out."""
    key_usage_critical: bool = True
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    """Further extensions, each with its criticality."""
    signature_hash: hashes.SHA256 | hashes.SHA384 = field(default_factory=hashes.SHA384)


_CA_USAGE = frozenset({"digital_signature", "key_cert_sign", "crl_sign"})
ROOT_PROFILE = CertificateProfile(ca=True, key_usage=_CA_USAGE)
REGIONAL_PROFILE = CertificateProfile(ca=True, path_length=2, key_usage=_CA_USAGE)
ZONAL_PROFILE = CertificateProfile(ca=True, path_length=1, key_usage=_CA_USAGE)
INSTANCE_PROFILE = CertificateProfile(ca=True, path_length=0, key_usage=frozenset({"key_cert_sign"}))
LEAF_PROFILE = CertificateProfile(
    ca=False, key_usage=frozenset({"digital_signature", "content_commitment"}), key_usage_critical=False
)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        """The certificate's encoding."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def new_key() -> PrivateKey:
    """A fresh P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def subject_name(common_name: str) -> x509.Name:
    """A name under `ORGANIZATION`."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "SIMULATED"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def issue(
    common_name: str,
    key: PrivateKey,
    issuer: Issuer | None,
    *,
    profile: CertificateProfile,
    not_before_ms: int,
    not_after_ms: int,
) -> Issuer:
    """Issue a certificate for `key`; self-signed when `issuer` is None.

    Args:
        common_name: of the subject.
        key: the subject's key.
        issuer: who signs.
        profile: extensions and algorithm.
        not_before_ms: start of validity, cut to whole seconds.
        not_after_ms: end of validity, cut to whole seconds.
    """
    subject = subject_name(common_name)
    issuer_key = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_datetime(not_before_ms))
        .not_valid_after(_datetime(not_after_ms))
    )
    for extension, critical in _extensions(profile, key, issuer):
        builder = builder.add_extension(extension, critical)
    return Issuer(builder.sign(issuer_key, profile.signature_hash), key)


def _extensions(
    profile: CertificateProfile, key: PrivateKey, issuer: Issuer | None
) -> Iterable[tuple[x509.ExtensionType, bool]]:
    if profile.ca is not None:
        yield x509.BasicConstraints(profile.ca, profile.path_length), profile.basic_constraints_critical
    if issuer is not None:
        yield x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False
    if profile.ca:
        yield x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
    if profile.key_usage is not None:
        usages = {name: name in profile.key_usage for name in _KEY_USAGES}
        yield x509.KeyUsage(**usages), profile.key_usage_critical
    yield from profile.extra


def _datetime(moment_ms: int) -> datetime:
    return datetime.fromtimestamp(moment_ms // 1000, UTC)
