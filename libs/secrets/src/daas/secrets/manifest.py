"""Kubernetes Secrets, plain and sealed: the manifest goes in, the manifest comes out, as JSON-shaped dicts.

A sealed Secret keeps its name, type, labels and keys. What changes:

    metadata.labels       k3s-daas.io/seal-policy: NAME          asks for sealing, and says under what
    metadata.annotations  k3s-daas.io/envelope: base64           the Seal object that wraps the data key
                          k3s-daas.io/seal-policy: 0x...         object id of the policy on the ledger
                          k3s-daas.io/seal-generation: "3"       its generation
                          k3s-daas.io/envelope-scope: secret     or `namespace`: a shared envelope
                          k3s-daas.io/secret-class: tls          tls, node, application or registry
    data                  every value sealed (see `daas.secrets.envelope`), and the envelope once more under the key
                          k3s-daas.envelope, since a pod that mounts the Secret sees data and no annotations

`stringData` is merged into `data` as the API server does, and kubectl's `last-applied-configuration`, which holds a
copy of what was applied, is removed. The annotations are for readers and `kubectl`: the envelope's id says the same,
and what disagrees with it is refused.
"""

import base64
import binascii
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from daas.common.errors import DecodeError
from daas.seal import Encryptor, format_address, parse_address
from daas.secrets import classes
from daas.secrets.envelope import DataKey, Envelope, is_sealed_value, seal_envelope
from daas.secrets.errors import MalformedEnvelope, MalformedSecret, WrongPlace
from daas.secrets.identity import Place, Scope
from daas.secrets.parameters import SealParameters

SEAL_POLICY: Final = "k3s-daas.io/seal-policy"
ENVELOPE: Final = "k3s-daas.io/envelope"
GENERATION: Final = "k3s-daas.io/seal-generation"
SCOPE: Final = "k3s-daas.io/envelope-scope"
CLASS: Final = "k3s-daas.io/secret-class"
#: Key in `data` that holds the envelope for pods.
ENVELOPE_KEY: Final = "k3s-daas.envelope"
#: All annotations that sealing sets.
ANNOTATIONS: Final = (ENVELOPE, SEAL_POLICY, GENERATION, SCOPE, CLASS)
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

Manifest = Mapping[str, Any]


class State(Enum):
    """What a Secret's data is."""

    #: Nothing in it is sealed.
    PLAIN = "plain"
    #: It has an envelope and every value has the form of a sealed one.
    SEALED = "sealed"
    #: Some of both: somebody added or replaced a value of a sealed Secret.
    MIXED = "mixed"


class SealedSecret(msgspec.Struct, frozen=True):
    """A sealed Secret, read and found to belong where it lies. Use `SealedSecret.parse`.

    Attributes:
        place: cluster, namespace and name.
        policy_name: value of the label, empty where there is none.
        secret_type: the Kubernetes type.
        envelope: wraps the data key.
        values: sealed, by key.
    """

    place: Place
    policy_name: str
    secret_type: str
    envelope: Envelope
    values: Mapping[str, bytes]

    @property
    def policy(self) -> str:
        """Object id of the policy."""
        return format_address(self.envelope.id.policy)

    @property
    def generation(self) -> int:
        """The policy's generation under which it was sealed."""
        return self.envelope.id.generation

    @classmethod
    def parse(cls, cluster: str, manifest: Manifest) -> "SealedSecret":
        """Reads a Secret that is sealed as a whole.

        Raises:
            MalformedSecret: `secret-*`. MalformedEnvelope: `secret-not-sealed`, `secret-partly-sealed`, `envelope-*`,
                `value-*`, `annotation-differs`. WrongPlace: `sealed-elsewhere`.
        """
        place, data = place_of(cluster, manifest), data_of(manifest)
        mounted = data.pop(ENVELOPE_KEY, None)
        match state_of(manifest):
            case State.PLAIN:
                raise MalformedEnvelope(f"Secret {place.namespace}/{place.name} is not sealed",
                                        reason="secret-not-sealed")  # fmt: skip
            case State.MIXED:
                raise MalformedEnvelope(
                    f"Secret {place.namespace}/{place.name} has sealed and other values: seal it as a whole",
                    reason="secret-partly-sealed",
                )
            case State.SEALED:
                pass
        annotations, secret_type = _strings(manifest, "annotations"), type_of(manifest)
        envelope = _envelope(annotations)
        envelope.check(place)
        _check_annotations(annotations, envelope)
        if mounted is not None and mounted != envelope.encoded:
            raise MalformedEnvelope(f"{ENVELOPE_KEY} is another envelope than the annotation's",
                                    reason="annotation-differs", field=ENVELOPE_KEY)  # fmt: skip
        return cls(
            place=place,
            policy_name=_strings(manifest, "labels").get(SEAL_POLICY, ""),
            secret_type=secret_type,
            envelope=envelope,
            values={name: classes.unwrap_value(secret_type, name, value) for name, value in data.items()},
        )

    def open(self, key: DataKey) -> dict[str, bytes]:
        """Opens all values.

        Raises:
            WrongPlace: `sealed-elsewhere`. NotAuthentic: `value-changed`.
        """
        if key.envelope.encoded != self.envelope.encoded:
            raise WrongPlace("the data key is of another envelope", reason="sealed-elsewhere")
        return {name: key.decrypt(self.place, name, value) for name, value in self.values.items()}


def state_of(manifest: Manifest) -> State:
    """Whether a Secret is sealed. A sealed one is not sealed again: admission and pipes may see it twice.

    Only the form is judged here; `SealedSecret.parse` says whether it belongs where it lies.
    """
    secret_type = type_of(manifest)
    values = {name: value for name, value in data_of(manifest).items() if name != ENVELOPE_KEY}
    sealed = {name for name, value in values.items() if _looks_sealed(secret_type, name, value)}
    has_envelope = ENVELOPE in _strings(manifest, "annotations")
    if not sealed:
        return State.PLAIN
    return State.SEALED if has_envelope and len(sealed) == len(values) else State.MIXED


def seal_secret(
    manifest: Manifest, parameters: SealParameters, encryptor: Encryptor, *, shared: DataKey | None = None
) -> dict[str, Any]:
    """Seals a Secret; one that is sealed under the same policy and generation is returned as it is.

    Args:
        manifest: with a name and a namespace.
        parameters: what it is sealed under.
        encryptor: of the parameters' key servers (made once: `parameters.key_servers.encryptor()`).
        shared: an envelope of the namespace to be used instead of one of its own. Whoever may open one Secret that
            shares it holds the key of all of them, so that it is refused for policies with a usage limit.

    Raises:
        MalformedSecret: `secret-*`, `shared-envelope`. MalformedEnvelope: `secret-partly-sealed`,
            `secret-sealed-otherwise`: sealed already, under another policy or generation. WrongPlace.
    """
    place = place_of(parameters.cluster, manifest)
    if state_of(manifest) is not State.PLAIN:
        sealed = SealedSecret.parse(parameters.cluster, manifest)
        if (sealed.policy, sealed.generation) == (parameters.policy, parameters.generation):
            return dict(manifest)
        raise MalformedEnvelope(
            f"Secret {place.namespace}/{place.name} is sealed under generation {sealed.generation} of {sealed.policy}",
            reason="secret-sealed-otherwise",
        )
    secret_type, data = type_of(manifest), data_of(manifest)
    data.pop(ENVELOPE_KEY, None)  # of an earlier sealing, whose values somebody has replaced with plain ones
    kind = classes.check_data(secret_type, data)
    key = _data_key(place, parameters, encryptor, shared)
    envelope = key.envelope
    metadata = dict(manifest["metadata"])
    annotations = {k: v for k, v in _strings(manifest, "annotations").items() if k != _LAST_APPLIED}
    metadata["labels"] = _strings(manifest, "labels") | {SEAL_POLICY: parameters.policy_name}
    metadata["annotations"] = annotations | {
        ENVELOPE: base64.b64encode(envelope.encoded).decode(),
        SEAL_POLICY: format_address(envelope.id.policy),
        GENERATION: str(envelope.id.generation),
        SCOPE: envelope.id.scope.name.lower(),
        CLASS: kind.value,
    }
    values = {name: classes.wrap_value(secret_type, name, key.encrypt(place, name, v)) for name, v in data.items()}
    values[ENVELOPE_KEY] = envelope.encoded
    sealed_manifest = {k: v for k, v in manifest.items() if k not in {"stringData", "data", "metadata"}}
    return sealed_manifest | {"metadata": metadata, "data": _encoded(values)}


def opened_secret(manifest: Manifest, data: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest with plaintext values and without the traces of sealing, its label included."""
    metadata = dict(manifest["metadata"])
    labels = {k: v for k, v in _strings(manifest, "labels").items() if k != SEAL_POLICY}
    annotations = {k: v for k, v in _strings(manifest, "annotations").items() if k not in {*ANNOTATIONS, _LAST_APPLIED}}
    for field, values in (("labels", labels), ("annotations", annotations)):
        metadata.pop(field, None)
        if values:
            metadata[field] = values
    return {**manifest, "metadata": metadata, "data": _encoded(data)}


def share_envelope(parameters: SealParameters, encryptor: Encryptor, namespace: str) -> DataKey:
    """A new envelope for a namespace, to be given to `seal_secret`.

    It saves each further Secret its Seal object and its readers a release. What it gives up: a reader of one Secret
    holds the key of all Secrets that share it, and they can be told apart by nobody but the API server's own rules.

    Raises:
        MalformedSecret: `shared-envelope`: the policy has a usage limit.
    """
    _check_shareable(parameters)
    return _seal(parameters, encryptor, Scope.NAMESPACE, Place(parameters.cluster, namespace))


def place_of(cluster: str, manifest: Manifest) -> Place:
    """Where a Secret belongs.

    Raises:
        MalformedSecret: `secret-kind`, `secret-name`: it needs a namespace and a name of its own (no generateName).
    """
    if manifest.get("kind", "Secret") != "Secret" or manifest.get("apiVersion", "v1") != "v1":
        raise MalformedSecret("expected a Secret of apiVersion v1", reason="secret-kind", field="kind")
    metadata = manifest.get("metadata")
    names = [metadata.get(field) for field in ("namespace", "name")] if isinstance(metadata, Mapping) else [None]
    if not all(isinstance(name, str) and name for name in names):
        raise MalformedSecret(
            "a sealed Secret is bound to its namespace and name: both must be given, and no generateName",
            reason="secret-name",
            field="metadata",
        )
    return Place(cluster, *map(str, names))


def type_of(manifest: Manifest) -> str:
    """The Kubernetes type; Opaque where none is given."""
    return str(manifest.get("type") or classes.OPAQUE)


def data_of(manifest: Manifest) -> dict[str, bytes]:
    """All values, `stringData` over `data`.

    Raises:
        MalformedSecret: `secret-data`.
    """
    data, texts = manifest.get("data") or {}, manifest.get("stringData") or {}
    if not isinstance(data, Mapping) or not isinstance(texts, Mapping):
        raise MalformedSecret("data and stringData are maps", reason="secret-data", field="data")
    values: dict[str, bytes] = {}
    for name, value in data.items():
        try:
            values[str(name)] = base64.b64decode("".join(str(value or "").split()), validate=True)
        except (binascii.Error, ValueError):
            raise MalformedSecret(f"data.{name} is not base64", reason="secret-data", field=f"data.{name}") from None
    for name, value in texts.items():
        if not isinstance(value, str):
            raise MalformedSecret(f"stringData.{name} is no text", reason="secret-data", field=f"stringData.{name}")
        values[str(name)] = value.encode()
    return values


def _data_key(place: Place, parameters: SealParameters, encryptor: Encryptor, shared: DataKey | None) -> DataKey:
    if shared is None:
        return _seal(parameters, encryptor, Scope.SECRET, place)
    _check_shareable(parameters)
    identity = shared.envelope.id
    expected = (Scope.NAMESPACE, parse_address(parameters.policy), parameters.generation)
    if (identity.scope, identity.policy, identity.generation) != expected:
        raise MalformedSecret("the shared envelope is of another policy, generation or scope",
                              reason="shared-envelope")  # fmt: skip
    return shared


def _seal(parameters: SealParameters, encryptor: Encryptor, scope: Scope, place: Place) -> DataKey:
    return seal_envelope(
        encryptor,
        package_id=parse_address(parameters.package),
        policy=parse_address(parameters.policy),
        generation=parameters.generation,
        scope=scope,
        place=place,
    )


def _check_shareable(parameters: SealParameters) -> None:
    if parameters.usage_limit:
        raise MalformedSecret(
            f"policy {parameters.policy_name} has a usage limit: one release of a shared envelope would open many",
            reason="shared-envelope",
        )


def _envelope(annotations: Mapping[str, str]) -> Envelope:
    try:
        data = base64.b64decode(annotations.get(ENVELOPE, ""), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedEnvelope("the envelope is not base64", reason="envelope-object", field=ENVELOPE) from None
    return Envelope.decode(data)


def _check_annotations(annotations: Mapping[str, str], envelope: Envelope) -> None:
    identity = envelope.id
    said = {
        SEAL_POLICY: format_address(identity.policy),
        GENERATION: str(identity.generation),
        SCOPE: identity.scope.name.lower(),
    }
    for name, expected in said.items():
        if annotations.get(name, expected) != expected:
            raise MalformedEnvelope(f"annotation {name} says something else than the envelope",
                                    reason="annotation-differs", field=name)  # fmt: skip


def _looks_sealed(secret_type: str, name: str, value: bytes) -> bool:
    try:
        return is_sealed_value(classes.unwrap_value(secret_type, name, value))
    except DecodeError:
        return False


def _strings(manifest: Manifest, field: str) -> dict[str, str]:
    """Labels or annotations."""
    metadata = manifest.get("metadata")
    values = metadata.get(field) if isinstance(metadata, Mapping) else None
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(v, str) for v in values.values()):
        raise MalformedSecret(f"metadata.{field} is no map of strings", reason="secret-metadata", field=field)
    return {str(k): str(v) for k, v in values.items()}


def _encoded(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in values.items()}
