"""Break glass: Secrets from a copy of etcd alone, with t key servers that still serve, or with t of their master keys.

Every stored Secret carries the sealed seed that it is under. So nothing of the old cluster is needed but the copy: no
plugin, no API server, no keyring. Whoever can do this is who the key servers obey, or who holds their master keys.

Anyone can seal a seed of his own under a policy, so a copy that someone has written to may hold forged Secrets. Give
the keys that are known (`key_ids`, from a keyring kept elsewhere), and only those count.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError as WireError

from daas.common.errors import DaasError, DecodeError, InvalidInput, NotFound
from daas.kms import envelope, keyring
from daas.kms import stored_pb2 as wire
from daas.kms.stored import PREFIX, StoredObject, decrypt_data
from daas.seal import EncryptedObject, MasterKey, NotEnoughKeys, decrypt

PROTOBUF: Final = b"k8s\x00"

#: Opens one sealed seed.
OpenSeed = Callable[[EncryptedObject], Awaitable[bytes]]


class Item(msgspec.Struct, frozen=True):
    """One key of etcd and its value."""

    key: str
    value: bytes


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one stored object: its manifest, or why there is none."""

    key: str
    manifest: dict[str, Any] | None = None
    problem: str = ""


class _KeyValue(msgspec.Struct):
    key: str
    value: str = ""


class _Copy(msgspec.Struct):
    kvs: list[_KeyValue] = []


def read_copy(data: bytes) -> list[Item]:
    """Reads what `etcdctl get --prefix /registry/secrets -w json` prints.

    Raises:
        DecodeError: `kms-copy`.
    """
    try:
        found = msgspec.json.decode(data, type=_Copy)
        return [
            Item(base64.b64decode(one.key, validate=True).decode(), base64.b64decode(one.value, validate=True))
            for one in found.kvs
        ]
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise DecodeError(f"not the output of etcdctl get -w json: {error}", reason="kms-copy") from None


def write_copy(items: Sequence[Item]) -> bytes:
    """The form that `read_copy` reads."""
    pairs = [
        _KeyValue(base64.b64encode(one.key.encode()).decode(), base64.b64encode(one.value).decode()) for one in items
    ]
    return msgspec.json.encode(_Copy(pairs))


def sealed_seeds(items: Sequence[Item], key_ids: Collection[str] | None = None) -> dict[str, EncryptedObject]:
    """The sealed seeds that travel with stored objects, by key id. What is not ours is left out.

    Args:
        items: of the copy.
        key_ids: the only ones that count, if given.
    """
    found: dict[str, EncryptedObject] = {}
    for item in items:
        try:
            stored = StoredObject.decode(item.value)
            if stored.key_id in found or (key_ids is not None and stored.key_id not in key_ids):
                continue
            sealed = stored.annotations[envelope.ANNOTATION]
            number = int(stored.key_id.split("-")[2])
            if keyring.key_id(number, sealed) == stored.key_id:
                found[stored.key_id] = EncryptedObject.decode(sealed)
        except (DaasError, KeyError, IndexError, ValueError):
            continue
    return found


def with_master_keys(keys: Mapping[bytes, MasterKey]) -> OpenSeed:
    """Opens seeds with master keys of key servers, by object id: no ledger is asked, no server runs."""

    async def open_seed(sealed: EncryptedObject) -> bytes:
        at_hand = {name: key.extract(sealed.full_id) for name, key in keys.items() if name in sealed.weights}
        worth = sum(sealed.weights[name] for name in at_hand)
        if worth < sealed.threshold:
            text = f"the master keys are worth {worth} shares, the threshold is {sealed.threshold}"
            raise NotEnoughKeys(text, reason="seal-threshold")
        return decrypt(sealed, at_hand)

    return open_seed


async def restore(items: Sequence[Item], open_seed: OpenSeed, key_ids: Collection[str] | None = None) -> list[Restored]:
    """Every object of a copy.

    Args:
        items: of the copy.
        open_seed: with key servers, or `with_master_keys`.
        key_ids: the only key ids that count, if given.

    Raises:
        DaasError: what opening a seed raises.
    """
    seeds = {name: await open_seed(sealed) for name, sealed in sealed_seeds(items, key_ids).items()}
    found = []
    for item in items:
        try:
            found.append(Restored(key=item.key, manifest=manifest(open_item(item, seeds))))
        except DaasError as error:
            found.append(Restored(key=item.key, problem=str(error)))
    return found


def open_item(item: Item, seeds: Mapping[str, bytes]) -> bytes:
    """The bytes of one object; those stored in clear are returned as they are.

    Raises:
        NotFound: `kms-seed`: the seed is not among them. DaasError: it does not open.
    """
    if not item.value.startswith(PREFIX):
        return item.value
    stored = StoredObject.decode(item.value)
    seed = seeds.get(stored.key_id)
    if seed is None:
        raise NotFound(f"no seed of key {stored.key_id}", reason="kms-seed")
    data_key = envelope.unwrap(seed, stored.key_id, stored.dek_source)
    return decrypt_data(data_key, stored.data, item.key, seeded=stored.seeded)


def manifest(body: bytes) -> dict[str, Any]:
    """A Secret's manifest for kubectl, without what the old server gave it (uid, versions, owners).

    Args:
        body: as stored: protobuf of a real API server, JSON of the development one.

    Raises:
        DecodeError, InvalidInput: `kms-secret`.
    """
    try:
        if body.startswith(PROTOBUF):
            unknown = wire.Unknown.FromString(body.removeprefix(PROTOBUF))
            if unknown.type_meta.kind != "Secret":
                raise InvalidInput(f"expected a Secret, not a {unknown.type_meta.kind!r}", reason="kms-secret")
            secret = wire.Secret.FromString(unknown.raw)
            data = {name: base64.b64encode(value).decode() for name, value in secret.data.items()}
            labels, annotations = dict(secret.metadata.labels), dict(secret.metadata.annotations)
            name, namespace, kind = secret.metadata.name, secret.metadata.namespace, secret.type
            immutable = secret.immutable if secret.HasField("immutable") else None
        else:
            found = msgspec.json.decode(body, type=dict[str, Any])
            meta = found["metadata"]
            data, kind, immutable = found.get("data") or {}, found.get("type", "Opaque"), found.get("immutable")
            labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
            name, namespace = meta["name"], meta["namespace"]
    except (WireError, UnicodeDecodeError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise DecodeError(f"the object can't be read: {type(error).__name__}", reason="kms-secret") from None
    metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {field: value for field, value in metadata.items() if value},
        "type": kind,
        "data": data,
        **({"immutable": immutable} if immutable is not None else {}),
    }
