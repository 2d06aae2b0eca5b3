"""The server's own certificate authority, its serving certificate and the admin kubeconfig."""

import base64
import ipaddress
import os
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daas.devstack.x509_parts import RENEW_DAYS, certificate_builder, key_usage


@dataclass(frozen=True)
class Identity:
    """What clients need: the CA's certificate file and the admin's token; and what the server needs."""

    ca_file: Path
    certificate_file: Path
    key_file: Path
    token: str

    def tls(self) -> ssl.SSLContext:
        """The serving context: TLS 1.2 or newer."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


#: `kubernetes` is the server's name among containers.
_NAMES: Final = (
    x509.DNSName("localhost"),
    x509.DNSName("kubernetes"),
    x509.DNSName("kubernetes.default.svc"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; it appears whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "K3s-DaaS development (simulated)"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _issue(directory: Path) -> None:
    """A CA whose key is thrown away, and one serving certificate by it."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("development API server CA (simulated)")
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        certificate_builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    serving = (
        certificate_builder(_name("development API server (simulated)"), ca_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    write_private(directory / "server.key", _pem(key))
    write_private(directory / "server.crt", serving.public_bytes(pem))
    write_private(directory / "ca.crt", authority.public_bytes(pem))


def _fresh(path: Path) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=RENEW_DAYS)


def _named(path: Path) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == list(_NAMES)


def load_identity(directory: Path) -> Identity:
    """The identity kept in a state directory, made on the first start and renewed before it runs out."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    serving = directory / "server.crt"
    if not (
        _fresh(directory / "ca.crt") and _fresh(serving) and _named(serving) and (directory / "server.key").exists()
    ):
        _issue(directory)
    token_file = directory / "admin.token"
    if not token_file.exists():
        write_private(token_file, secrets.token_urlsafe(32).encode())
    return Identity(
        directory / "ca.crt", directory / "server.crt", directory / "server.key", token_file.read_text().strip()
    )


def write_kubeconfig(path: Path, url: str, identity: Identity) -> None:
    """An admin kubeconfig (mode 0600) with the CA inside."""
    name = "daas-simulated"
    authority = base64.b64encode(identity.ca_file.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": "admin", "user": {"token": identity.token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin", "namespace": "default"}}],
        "current-context": name,
    }
    write_private(path, yaml.safe_dump(config, sort_keys=False).encode())
