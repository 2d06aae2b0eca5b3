"""A certificate for NATS, for development: made on this machine, kept in files."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daas.common.nkeys import write_private
from daas.devstack.x509_parts import RENEW_DAYS, certificate_builder, key_usage


def keep_certificate(directory: Path, names: Sequence[str]) -> None:
    """`ca.pem`, `server.pem` and `server.key` for a server with these DNS names and addresses; kept until they
    near their end.

    The CA's key is thrown away: nothing else can ever be issued under it.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _fresh(directory / "server.pem", names) and (directory / "ca.pem").exists():
        return
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("development NATS CA (simulated)")
    key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        certificate_builder(issuer, issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
        .add_extension(key_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        certificate_builder(_name("development NATS (simulated)"), issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(directory / "server.key", private)
    write_private(directory / "ca.pem", authority.public_bytes(pem))
    write_private(directory / "server.pem", server.public_bytes(pem))


def _fresh(path: Path, names: Sequence[str]) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    rest = certificate.not_valid_after_utc - datetime.now(UTC)
    return list(held) == [_general(name) for name in names] and rest > timedelta(days=RENEW_DAYS)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
