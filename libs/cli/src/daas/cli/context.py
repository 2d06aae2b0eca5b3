"""Where the commands find a cluster, and what they pin about it: a small JSON file, or the environment.

`daas up` writes the file; `DAAS_CONTEXT` names it, else `.daas/context.json` below the working directory is taken. Each
field can be overruled by `DAAS_CONTEXT_<FIELD>` (lists comma-separated, objects as JSON). In production the file is
written by whoever decides what to trust: it is the verifier's own knowledge, not the cluster's.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from daas.attestation import AWS_ROOT_SHA256
from daas.common.errors import ConfigurationError
from daas.common.messages import Digest, Name, ObjectId
from daas.placement import Policy
from daas.secrets import KeyServers

VARIABLE: Final = "DAAS_CONTEXT"
DEFAULT_PATH: Final = Path(".daas/context.json")
_PREFIX: Final = f"{VARIABLE}_"
_LISTS: Final = frozenset({"etcd_endpoints", "walrus_aggregators"})
_OBJECTS: Final = frozenset({"allowed_pcrs", "services", "policy", "key_servers", "seal_policies"})

Pcr = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{96}$", description="48 bytes, lower-case hex")]


class Pcrs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PCR0, 1 and 2 of one image."""

    pcr0: Pcr = msgspec.field(name="0")
    pcr1: Pcr = msgspec.field(name="1")
    pcr2: Pcr = msgspec.field(name="2")


class Context(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster as its verifier knows it.

    Attributes:
        cluster: its name on the bus.
        nats_url, etcd_endpoints, ledger_url: where its servers are.
        etcd_ca_file: the CA (PEM) that etcd must chain to; needed for https endpoints.
        etcd_certificate_file, etcd_key_file: ours (PEM), where etcd asks its clients for a certificate.
        etcd_user, etcd_password_file: a user of etcd's own authentication, and the file with the password.
        registry, chain, package: the Registry object, the genesis digest of its chain, and the Move package.
        attestation_root: SHA-256 of the root certificate that attestation documents must chain to.
        allowed_pcrs: the image that may sign, or a list of them.
        simulated: whether that root is a development stand-in's.
        policy: fields of the scheduling policy that differ from the default.
        kubeconfig: of its API server.
        walrus_aggregators: where what storage keeps in Walrus is read; empty where nothing is.
        key_servers: Seal key servers and their threshold, pinned; without them nothing is sealed or opened.
        seal_policies: Seal policies by the name that Secrets are labelled with, pinned.
        services: base URLs of the services' HTTP endpoints, by name.
    """

    cluster: Name
    nats_url: str
    etcd_endpoints: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
    etcd_ca_file: str | None = None
    etcd_certificate_file: str | None = None
    etcd_key_file: str | None = None
    etcd_user: str | None = None
    etcd_password_file: str | None = None
    ledger_url: str | None = None
    registry: ObjectId
    chain: Digest
    package: ObjectId | None = None
    attestation_root: Digest
    allowed_pcrs: Pcrs | Annotated[tuple[Pcrs, ...], msgspec.Meta(min_length=1, max_length=8)]
    simulated: bool
    policy: Policy = msgspec.field(default_factory=Policy)
    kubeconfig: str | None = None
    walrus_aggregators: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()
    key_servers: KeyServers | None = None
    seal_policies: dict[str, ObjectId] = {}
    services: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuses a context that contradicts itself.

        Raises:
            ConfigurationError: `contradictory-context`.
        """
        if self.simulated == (bytes.fromhex(self.attestation_root) == AWS_ROOT_SHA256):
            word = "simulated, but pins the AWS root" if self.simulated else "real, but pins another root than AWS's"
            raise ConfigurationError(
                f"the context says that the enclave is {word}", reason="contradictory-context", field="simulated"
            )
        secure = any(endpoint.startswith("https://") for endpoint in self.etcd_endpoints)
        self._together("etcd_certificate_file", "etcd_key_file")
        self._together("etcd_user", "etcd_password_file")
        if secure != (self.etcd_ca_file is not None) or (self.etcd_certificate_file is not None and not secure):
            raise ConfigurationError(
                "https endpoints of etcd and etcd_ca_file go together, and a certificate goes with them",
                reason="contradictory-context",
                field="etcd_ca_file",
            )

    def _together(self, first: str, second: str) -> None:
        if (getattr(self, first) is None) != (getattr(self, second) is None):
            raise ConfigurationError(f"{first} and {second} go together", reason="contradictory-context", field=second)

    @property
    def images(self) -> tuple[Pcrs, ...]:
        """The images that may sign."""
        return (self.allowed_pcrs,) if isinstance(self.allowed_pcrs, Pcrs) else self.allowed_pcrs


def load_context(environment: Mapping[str, str] | None = None) -> Context:
    """The context of this process.

    Raises:
        ConfigurationError: `no-context` where there is none, `invalid-context` naming the field.
    """
    environment = os.environ if environment is None else environment
    path = Path(environment.get(VARIABLE) or DEFAULT_PATH)
    values = _from_file(path, required=VARIABLE in environment)
    values |= _from_environment(environment)
    if not values:
        raise ConfigurationError(
            f"no cluster is known here: run `daas up`, or set {VARIABLE} to the context file it wrote",
            reason="no-context",
            field=VARIABLE,
        )
    try:
        return msgspec.convert(values, Context)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the context ({path}): {error}", reason="invalid-context", field=VARIABLE) from None


def _from_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        if not required and isinstance(error, FileNotFoundError):
            return {}
        raise ConfigurationError(
            f"the context {path} can't be read: {error.strerror}", reason="no-context", field=VARIABLE
        ) from None
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the context {path}: {error}", reason="invalid-context", field=VARIABLE) from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(_PREFIX) or not text:
            continue
        field = name.removeprefix(_PREFIX).lower()
        if field in _LISTS:
            values[field] = [part.strip() for part in text.split(",") if part.strip()]
        elif field in _OBJECTS or field == "simulated":
            try:
                values[field] = msgspec.json.decode(text)
            except msgspec.DecodeError as error:
                raise ConfigurationError(f"{name}: {error}", reason="invalid-context", field=name) from None
        else:
            values[field] = text
    return values
