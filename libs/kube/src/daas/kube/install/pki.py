"""Certificates between API server and gateway: one authority, its leaves, and rotation by overlap.

Rotation by overlap, in two steps. First a new authority is made and both are trusted (`ca.crt` and everything that is
made of it holds both), while the leaves stay. When every server has these files, leaves are issued by the new one; the
old one leaves the bundle when it has expired. So nobody meets a certificate that it can't verify yet.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daas.common.errors import ConfigurationError

#: K3s gives its own authorities ten years and its leaves one; a leaf is renewed 90 days before its end.
AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 365
#: Clocks of two machines differ.
SKEW: Final = timedelta(minutes=5)
CA_CERTIFICATES, CA_KEY = "ca.crt", "ca.key"
_ORGANIZATION: Final = "K3s-DaaS"


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, PEM. Its repr shows neither."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        """Nothing that should not be in a log."""
        return "Issued(...)"

    def write(self, directory: Path, name: str) -> None:
        """`name.crt`, and `name.key` for its owner only."""
        write_private(directory / f"{name}.key", self.key)
        write_file(directory / f"{name}.crt", self.certificate)


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    write_file(path, content, 0o600)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """A certificate authority whose key is at hand.

    Args:
        certificate: its certificate.
        key: its private key.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    def __repr__(self) -> str:
        """The subject."""
        return f"Authority({self.certificate.subject.rfc4514_string()})"

    @classmethod
    def create(cls, now: datetime | None = None) -> "Authority":
        """A new authority, P-256, path length 0."""
        now = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"webhook authority {now:%Y-%m-%d}")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, directory: Path) -> "Authority":
        """The authority whose key lies in a directory; of a bundle, the certificate that belongs to the key.

        Raises:
            ConfigurationError: `authority`.
        """
        try:
            key = serialization.load_pem_private_key((directory / CA_KEY).read_bytes(), password=None)
            bundle = x509.load_pem_x509_certificates((directory / CA_CERTIFICATES).read_bytes())
        except (OSError, ValueError) as error:
            text = f"{directory}: no authority: {type(error).__name__}"
            raise ConfigurationError(text, reason="authority") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigurationError(f"{directory}/{CA_KEY}: expected an EC key", reason="authority")
        for certificate in bundle:
            if certificate.public_key() == key.public_key():
                return cls(certificate, key)
        raise ConfigurationError(f"{directory}: no certificate belongs to {CA_KEY}", reason="authority")

    def write(self, directory: Path, older: Sequence[x509.Certificate] = ()) -> None:
        """The key, and the bundle with the older authorities that are still trusted behind ours."""
        write_private(directory / CA_KEY, _pem(self._key))
        write_file(directory / CA_CERTIFICATES, b"".join(to_pem(one) for one in (self.certificate, *older)))

    def server(self, common: str, names: Sequence[str], now: datetime | None = None) -> Issued:
        """A serving certificate for host names and addresses."""
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        return self._issue(common, ExtendedKeyUsageOID.SERVER_AUTH, now, alternatives)

    def client(self, common: str, now: datetime | None = None) -> Issued:
        """A client certificate."""
        return self._issue(common, ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _issue(
        self, common: str, usage: x509.ObjectIdentifier, now: datetime | None, names: x509.ExtensionType | None = None
    ) -> Issued:
        now = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(min(now + timedelta(days=LEAF_DAYS), self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(to_pem(certificate), _pem(key))


def to_pem(certificate: x509.Certificate) -> bytes:
    """PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def rotate(directory: Path, now: datetime | None = None) -> Authority:
    """Puts a new authority in front of those that still hold; leaves are to be issued again by the one returned.

    Raises:
        ConfigurationError: `authority` where there is none yet.
    """
    now = now or datetime.now(UTC)
    Authority.load(directory)
    bundle = x509.load_pem_x509_certificates((directory / CA_CERTIFICATES).read_bytes())
    fresh = Authority.create(now)
    fresh.write(directory, [one for one in bundle if one.not_valid_after_utc > now])
    return fresh
