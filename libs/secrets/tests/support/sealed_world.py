"""Three key servers' master keys, parameters under which things are sealed, and a requester who gets the keys."""

import base64
import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from daas.seal import MasterKey, decrypt
from daas.secrets import DataKey, Envelope, KeyServers, KnownKeyServer, SealParameters

MASTERS = [MasterKey(scalar) for scalar in (11, 12, 13)]
OBJECT_IDS = [bytes([place]) * 32 for place in (1, 2, 3)]
PACKAGE, POLICY = "0x" + "ab" * 32, "0x" + "cd" * 32


def parameters(**changes: Any) -> SealParameters:
    servers = tuple(
        KnownKeyServer("0x" + object_id.hex(), "http://127.0.0.1:1", master.public_key.hex())
        for object_id, master in zip(OBJECT_IDS, MASTERS, strict=True)
    )
    fields: dict[str, Any] = {
        "cluster": "east",
        "package": PACKAGE,
        "policy_name": "default",
        "policy": POLICY,
        "generation": 3,
    }
    return SealParameters(**(fields | {"key_servers": KeyServers(2, servers)} | changes))


def release(envelope: Envelope) -> DataKey:
    """The data key, as a requester has it whom two of the three key servers gave a key."""
    keys = {
        object_id: master.extract(envelope.sealed.full_id)
        for object_id, master in zip(OBJECT_IDS[:2], MASTERS[:2], strict=True)
    }
    public = {object_id: master.public_key for object_id, master in zip(OBJECT_IDS, MASTERS, strict=True)}
    return DataKey(envelope, decrypt(envelope.sealed, keys, public))


def secret(
    data: dict[str, bytes], *, name: str = "db", namespace: str = "shop", secret_type: str = "Opaque", **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "type": secret_type,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def tls_pair() -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(key, None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private_pem(key)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
