"""NKeys of the services and a certificate for NATS, for development: made on this machine, kept in files.

NKeys: github.com/nats-io/nkeys, strkey.go: base32 without padding of prefix, 32 bytes of Ed25519 and a CRC-16 (XMODEM,
little-endian). Production makes them with NATS' own tool, `nk -gen user -pubout`.
"""

import base64
import binascii
import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daas.common.errors import ConfigurationError
from daas.devstack.x509_parts import RENEW_DAYS, certificate_builder, key_usage

_SEED: Final = 18 << 3  # "S"
_USER: Final = 20 << 3  # "U"
_SEED_BYTES: Final = 2 + 32 + 2


def _crc(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")


def _encode(data: bytes) -> str:
    return base64.b32encode(data + _crc(data)).decode().rstrip("=")


def nkey_seed(raw: bytes) -> str:
    """The seed (`SU...`) of a user with these 32 secret bytes."""
    return _encode(bytes([_SEED | _USER >> 5, (_USER & 31) << 3]) + raw)


def nkey_secret(seed: str) -> Ed25519PrivateKey:
    """The key of a user's seed.

    Raises:
        ConfigurationError: `nkey-seed`; the seed is not quoted.
    """
    try:
        data = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        data = b""
    if len(data) != _SEED_BYTES or _encode(data[:-2]) != seed or not seed.startswith("SU"):
        raise ConfigurationError("expected the NKey seed of a user (SU...)", reason="nkey-seed")
    return Ed25519PrivateKey.from_private_bytes(data[2:-2])


def nkey_public(seed: str) -> str:
    """The public key (`U...`) of a user's seed."""
    return _encode(bytes([_USER]) + nkey_secret(seed).public_key().public_bytes_raw())


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read; it appears whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)


def keep_nkey(path: Path) -> str:
    """The public key of the seed in a file, which is made with mode 0600 if there is none."""
    if not path.exists():
        write_private(path, nkey_seed(os.urandom(32)).encode())
    return nkey_public(path.read_text(encoding="ascii").strip())


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
