"""The four classes of material, their Kubernetes types, and what each must hold before it is sealed.

| class | Kubernetes types | what is checked |
|---|---|---|
| tls | kubernetes.io/tls | tls.crt is a chain of certificates, tls.key the private key of the first |
| node | k3s-daas.io/node | K3s join tokens (`token`), private keys (`*.key`); nothing else |
| registry | kubernetes.io/dockerconfigjson, kubernetes.io/dockercfg | JSON with a map of registries |
| application | Opaque, kubernetes.io/basic-auth, kubernetes.io/ssh-auth, others | the keys that the type needs |

What the API server's own machinery reads must stay readable for it: service account and bootstrap tokens are refused.
A mistake is found while the content can still be seen: a sealed value looks like every other.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from daas.secrets.errors import MalformedEnvelope, MalformedSecret

TLS: Final = "kubernetes.io/tls"
NODE: Final = "k3s-daas.io/node"
DOCKER_CONFIG_JSON: Final = "kubernetes.io/dockerconfigjson"
DOCKER_CFG: Final = "kubernetes.io/dockercfg"
OPAQUE: Final = "Opaque"
#: Authentication inside the API server reads these from its store.
_REFUSED: Final = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
#: Keys of which the API server demands that their value is a JSON object.
_JSON_KEYS: Final = {DOCKER_CONFIG_JSON: ".dockerconfigjson", DOCKER_CFG: ".dockercfg"}
_JSON_WRAPPER: Final = "k3s-daas.io/sealed"
#: The sum of all values, as in Kubernetes (`MaxSecretSize`).
DATA_BYTES_MAX: Final = 1024 * 1024
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_TOKEN: Final = re.compile(rb"[\x21-\x7e]{1,4096}")

Data = Mapping[str, bytes]


class SecretClass(StrEnum):
    """What kind of material a Secret holds."""

    TLS = "tls"
    NODE = "node"
    APPLICATION = "application"
    REGISTRY = "registry"


def class_of(secret_type: str) -> SecretClass:
    """The class of a Kubernetes Secret type.

    Raises:
        MalformedSecret: `secret-type`: Secrets of this type can't be sealed.
    """
    if secret_type in _REFUSED:
        raise MalformedSecret(f"the API server itself reads Secrets of type {secret_type}: they can't be sealed",
                              reason="secret-type", field="type")  # fmt: skip
    if secret_type == TLS:
        return SecretClass.TLS
    if secret_type == NODE:
        return SecretClass.NODE
    if secret_type in _JSON_KEYS:
        return SecretClass.REGISTRY
    return SecretClass.APPLICATION


def check_data(secret_type: str, data: Data) -> SecretClass:
    """Holds plaintext data to the rules of its type; its class.

    Raises:
        MalformedSecret: `secret-type`, `secret-empty`, `secret-key`, `secret-size`, `secret-content`. It names the key
            at fault and never quotes a value.
    """
    kind = class_of(secret_type)
    check_shape(data)
    match kind:
        case SecretClass.TLS:
            _check_tls(data)
        case SecretClass.NODE:
            _check_node(data)
        case SecretClass.REGISTRY:
            _check_registry(data, _JSON_KEYS[secret_type], nested=secret_type == DOCKER_CONFIG_JSON)
        case SecretClass.APPLICATION:
            _check_application(data, secret_type)
    return kind


def check_shape(data: Data) -> None:
    """What holds for every Secret: at least one key, valid names, a bounded sum of sizes."""
    if not data:
        raise MalformedSecret("there is nothing to seal: data is empty", reason="secret-empty", field="data")
    for name in data:
        if not _KEY.fullmatch(name) or name in {".", ".."}:
            raise MalformedSecret("keys of a Secret are made of letters, digits, -, _ and .",
                                  reason="secret-key", field="data")  # fmt: skip
    if sum(map(len, data.values())) > DATA_BYTES_MAX:
        raise MalformedSecret(f"a Secret holds at most {DATA_BYTES_MAX} bytes", reason="secret-size", field="data")


def type_by_keys(keys: Iterable[str]) -> str:
    """The type whose values are wrapped, where one of its keys is there; else Opaque, whose values never are."""
    found = set(keys)
    return next((secret_type for secret_type, key in _JSON_KEYS.items() if key in found), OPAQUE)


def wrap_value(secret_type: str, key_name: str, sealed: bytes) -> bytes:
    """A sealed value in the form that the API server's check of this type lets pass."""
    if _JSON_KEYS.get(secret_type) != key_name:
        return sealed
    return msgspec.json.encode({_JSON_WRAPPER: base64.b64encode(sealed).decode()})


def unwrap_value(secret_type: str, key_name: str, value: bytes) -> bytes:
    """The inverse of `wrap_value`; a value that is not wrapped is returned as it is.

    Raises:
        MalformedEnvelope: `value-wrapper`.
    """
    if _JSON_KEYS.get(secret_type) != key_name:
        return value
    try:
        content = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        if set(content) != {_JSON_WRAPPER}:
            return value
        return base64.b64decode(msgspec.json.decode(content[_JSON_WRAPPER], type=str), validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        raise MalformedEnvelope(f"{key_name} is no sealed value in JSON", reason="value-wrapper",
                                field=key_name) from None  # fmt: skip


def _content(key_name: str, message: str) -> MalformedSecret:
    return MalformedSecret(f"{key_name} {message}", reason="secret-content", field=f"data.{key_name}")


def _required(data: Data, *names: str) -> None:
    for name in names:
        if name not in data:
            raise _content(name, "is missing")


def _check_tls(data: Data) -> None:
    _required(data, "tls.crt", "tls.key")
    try:
        chain = x509.load_pem_x509_certificates(data["tls.crt"])
    except ValueError:
        raise _content("tls.crt", "is no chain of PEM certificates") from None
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        certified = chain[0].public_key().public_bytes(*spki)
    except (ValueError, UnsupportedAlgorithm):
        raise _content("tls.crt", "holds a key of an unknown kind") from None
    if _public_half("tls.key", data["tls.key"]) != certified:
        raise _content("tls.key", "is not the key of the first certificate in tls.crt")


def _public_half(key_name: str, pem: bytes) -> bytes:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _content(key_name, "is no unencrypted private key in PEM") from None
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _check_node(data: Data) -> None:
    for name, value in data.items():
        if name == "token":
            if not _TOKEN.fullmatch(value):
                raise _content(name, "is no K3s join token: one word of ASCII, without a line break")
        elif name.endswith(".key"):
            _public_half(name, value)
        else:
            raise _content(name, f"does not belong into a Secret of type {NODE}: token and *.key do")


def _check_registry(data: Data, key_name: str, *, nested: bool) -> None:
    _required(data, key_name)
    try:
        content = msgspec.json.decode(data[key_name], type=dict[str, msgspec.Raw])
        registries = msgspec.json.decode(content["auths"], type=dict[str, dict[str, object]]) if nested else content
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        raise _content(key_name, "is no JSON with a map of registries" + (" in auths" if nested else "")) from None
    if not registries:
        raise _content(key_name, "names no registry")


def _check_application(data: Data, secret_type: str) -> None:
    needed: Mapping[str, Callable[[], bool]] = {
        "kubernetes.io/basic-auth": lambda: bool(data.keys() & {"username", "password"}),
        "kubernetes.io/ssh-auth": lambda: bool(data.get("ssh-privatekey")),
    }
    if not needed.get(secret_type, lambda: True)():
        wanted = "username or password" if secret_type.endswith("basic-auth") else "ssh-privatekey"
        raise _content(wanted, f"is missing in a Secret of type {secret_type}")
