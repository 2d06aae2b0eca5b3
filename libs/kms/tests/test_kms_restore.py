"""Restore from a copy: what real and development API servers store, forged seeds, unreadable objects."""

import base64
import os
from typing import Any

import msgspec
import pytest

from daas.common.errors import DecodeError, InvalidInput
from daas.kms import envelope
from daas.kms import stored_pb2 as wire
from daas.kms.keyring import Generation, Keyring
from daas.kms.restore import Item, manifest, read_copy, restore, sealed_seeds, with_master_keys, write_copy
from daas.kms.sealing import add_generation
from daas.kms.servers import KeyServers, KnownKeyServer
from daas.kms.stored import StoredObject, encrypt_data, new_seed
from daas.seal import MasterKey, NotEnoughKeys

POLICY, PACKAGE, POOL = ("0x" + bytes([n] * 32).hex() for n in (1, 2, 3))
NAMESPACE = bytes([1] * 32) + (1).to_bytes(8, "little")
KEYS = {os.urandom(32): MasterKey.generate() for _ in range(3)}
SERVERS = KeyServers(
    threshold=2,
    servers=tuple(
        KnownKeyServer(object_id="0x" + name.hex(), url="http://127.0.0.1:1", public_key=key.public_key.hex())
        for name, key in KEYS.items()
    ),
)


def generation() -> Generation:
    ring = Keyring(cluster="dev", package=PACKAGE, policy=POLICY, pool=POOL)
    return add_generation(ring, SERVERS, NAMESPACE).generations[0]


async def stored(one: Generation, name: str, body: bytes) -> Item:
    """As an API server stores it, with a data key of its own."""
    (sealed,) = sealed_seeds([Item("", annotated(one))]).values()
    seed = await with_master_keys(KEYS)(sealed)
    data_key, key = new_seed(), f"/registry/secrets/default/{name}"
    value = StoredObject(
        provider="seal-keeper",
        key_id=one.key_id,
        dek_source=envelope.wrap(seed, one.key_id, data_key),
        annotations={envelope.ANNOTATION: one.sealed_bytes},
        data=encrypt_data(data_key, body, key),
    ).encode()
    return Item(key, value)


def annotated(one: Generation) -> bytes:
    annotations = {envelope.ANNOTATION: one.sealed_bytes}
    return StoredObject(
        provider="p", key_id=one.key_id, dek_source=b"d", annotations=annotations, data=b"x"
    ).encode()  # fmt: skip


def as_json(name: str) -> bytes:
    return msgspec.json.encode(
        {
            "metadata": {"name": name, "namespace": "default", "uid": "u", "labels": {"a": "b"}, "managedFields": [1]},
            "type": "Opaque",
            "data": {"password": "aHVudGVyMg=="},
        }
    )


async def test_a_copy_and_a_threshold_of_master_keys_give_manifests_back() -> None:
    one = generation()
    items = [await stored(one, "db", as_json("db")), Item("/registry/secrets/default/old", as_json("old"))]
    assert read_copy(write_copy(items)) == items
    found = await restore(items, with_master_keys(dict(list(KEYS.items())[1:])))
    assert [each.problem for each in found] == ["", ""]
    assert found[0].manifest == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "default", "labels": {"a": "b"}},
        "type": "Opaque",
        "data": {"password": "aHVudGVyMg=="},
    }
    with pytest.raises(NotEnoughKeys, match="worth 1 shares, the threshold is 2"):
        await restore(items, with_master_keys(dict(list(KEYS.items())[:1])))


async def test_a_forged_seed_counts_only_where_nobody_says_which_do() -> None:
    ours, forged = generation(), generation()
    items = [await stored(ours, "db", as_json("db")), await stored(forged, "planted", as_json("planted"))]
    found = await restore(items, with_master_keys(KEYS), {ours.key_id})
    assert found[0].manifest is not None
    assert "kms-seed" in found[1].problem


async def test_what_was_moved_or_changed_is_named_and_the_rest_comes_back() -> None:
    one = generation()
    db = await stored(one, "db", as_json("db"))
    moved = Item("/registry/secrets/default/other", db.value)
    changed = Item("/registry/secrets/default/x", db.value[:-1])
    found = await restore([db, moved, changed], with_master_keys(KEYS))
    assert found[0].manifest is not None
    assert "kms-data" in found[1].problem
    assert found[2].problem


def secret_protobuf(kind: str = "Secret") -> bytes:
    """As a real API server stores it: `k8s\\0`, Unknown with the type, and the object in protobuf."""
    secret = wire.Secret(
        metadata=wire.ObjectMeta(name="db", namespace="default", annotations={"n": "1"}),
        data={"password": b"hunter2"},
        type="Opaque",
        immutable=True,
    )
    unknown = wire.Unknown(
        type_meta=wire.TypeMeta(api_version="v1", kind=kind), raw=secret.SerializeToString() + b"\x32\x01x"
    )
    return b"k8s\x00" + unknown.SerializeToString()


def test_secrets_of_a_real_api_server_are_read() -> None:
    found = manifest(secret_protobuf())
    assert found["data"] == {"password": base64.b64encode(b"hunter2").decode()}
    assert (found["metadata"]["name"], found["immutable"]) == ("db", True)
    with pytest.raises(InvalidInput, match="not a 'ConfigMap'"):
        manifest(secret_protobuf("ConfigMap"))


def test_field_numbers_of_kubernetes_objects() -> None:
    secret = wire.Secret(metadata=wire.ObjectMeta(name="n", namespace="s"), data={"k": b"v"}, type="t")
    assert secret.SerializeToString() == b"\x0a\x06\x0a\x01n\x1a\x01s\x12\x06\x0a\x01k\x12\x01v\x1a\x01t"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"k8s\x00\xff", b'{"metadata":{"name":1}}', b"\xff"])
def test_what_is_no_secret_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="kms-secret"):
        manifest(body)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"kvs":[{"key":"!"}]}', b'{"kvs":[{"key":"/w=="}]}', b"\xff"])
def test_what_is_no_copy_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="kms-copy"):
        read_copy(data)


def test_an_empty_copy_has_nothing() -> None:
    empty: list[Any] = read_copy(b'{"header":{},"kvs":[]}')
    assert empty == []
