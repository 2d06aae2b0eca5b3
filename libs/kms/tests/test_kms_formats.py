"""Messages, stored objects, envelopes and keyrings: right bytes, strict readers, limits."""

import hashlib
import hmac
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from daas.common.errors import ConfigurationError, DaasError, DecodeError, InvalidInput, Refused
from daas.kms import api_pb2 as api
from daas.kms import envelope
from daas.kms import keyring as keyrings
from daas.kms.keyring import Keyring
from daas.kms.rpc import socket_path
from daas.kms.sealing import add_generation
from daas.kms.servers import KeyServers, KnownKeyServer
from daas.kms.stored import StoredObject, decrypt_data, encrypt_data, new_seed
from daas.seal import EncryptedObject, MasterKey, decrypt

REPOSITORY = Path(__file__).parents[3]
POLICY, PACKAGE, POOL = ("0x" + bytes([n] * 32).hex() for n in (1, 2, 3))
NAMESPACE = bytes([1] * 32) + (1).to_bytes(8, "little")
KEY = "/registry/secrets/default/db"


def key_servers(count: int, threshold: int) -> tuple[KeyServers, dict[bytes, MasterKey]]:
    keys = {os.urandom(32): MasterKey.generate() for _ in range(count)}
    entries = tuple(
        KnownKeyServer(object_id="0x" + name.hex(), url="http://127.0.0.1:1", public_key=key.public_key.hex())
        for name, key in keys.items()
    )
    return KeyServers(threshold=threshold, servers=entries), keys


def keyring(count: int = 3, generations: int = 1, cluster: str = "dev") -> Keyring:
    servers, _ = key_servers(count, (count + 1) // 2)
    found = Keyring(cluster=cluster, package=PACKAGE, policy=POLICY, pool=POOL)
    for _ in range(generations):
        found = add_generation(found, servers, NAMESPACE)
    return found


def test_regenerating_the_messages_gives_the_committed_files(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", "-Idaas/kms=."),
            *(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "daas/kms/api.proto", "daas/kms/stored.proto"),
        ],
        cwd=REPOSITORY / "infra" / "proto" / "kms",
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    for name in ("api_pb2.py", "api_pb2.pyi", "stored_pb2.py", "stored_pb2.pyi"):
        committed = REPOSITORY / "libs" / "kms" / "src" / "daas" / "kms" / name
        assert (tmp_path / "daas" / "kms" / name).read_text() == committed.read_text()


def test_field_numbers_are_those_of_kubernetes() -> None:
    status = api.StatusResponse(version="v2", healthz="ok", key_id="k")
    assert status.SerializeToString() == b"\x0a\x02v2\x12\x02ok\x1a\x01k"
    request = api.DecryptRequest(ciphertext=b"c", uid="u", key_id="k", annotations={"a": b"b"})
    assert request.SerializeToString() == b"\x0a\x01c\x12\x01u\x1a\x01k\x22\x06\x0a\x01a\x12\x01b"
    answer = api.EncryptResponse(ciphertext=b"c", key_id="k", annotations={"a": b"b"})
    assert answer.SerializeToString() == b"\x0a\x01c\x12\x01k\x1a\x06\x0a\x01a\x12\x01b"
    assert api.EncryptRequest(plaintext=b"p", uid="u").SerializeToString() == b"\x0a\x01p\x12\x01u"
    assert api.DecryptResponse(plaintext=b"p").SerializeToString() == b"\x0a\x01p"


def test_a_stored_object_is_what_an_api_server_writes() -> None:
    """Built by hand: prefix, protobuf fields 1 to 5, HKDF-Expand of one block, AES-GCM under the etcd key."""
    seed, info, nonce = os.urandom(32), os.urandom(32), os.urandom(12)
    key = hmac.new(seed, info + b"\x01", hashlib.sha256).digest()
    data = info + nonce + AESGCM(key).encrypt(nonce, b"plain", KEY.encode())
    wire = (
        b"\x0a"
        + bytes([len(data)])
        + data
        + b"\x12\x01k"
        + b"\x1a\x01d"
        + b"\x22\x08\x0a\x03a.b\x12\x01v"
        + b"\x28\x01"
    )
    body = b"k8s:enc:kms:v2:seal-keeper:" + wire
    found = StoredObject.decode(body)
    assert (found.provider, found.key_id, found.dek_source) == ("seal-keeper", "k", b"d")
    assert (found.annotations, found.seeded) == ({"a.b": b"v"}, True)
    assert found.encode() == body
    assert decrypt_data(seed, found.data, KEY) == b"plain"


def test_data_under_a_plain_data_key_opens_too() -> None:
    dek, nonce = os.urandom(32), os.urandom(12)
    assert decrypt_data(dek, nonce + AESGCM(dek).encrypt(nonce, b"x", KEY.encode()), KEY, seeded=False) == b"x"


@given(st.binary(max_size=2000))
def test_every_object_has_a_key_of_its_own_and_its_place(data: bytes) -> None:
    seed = new_seed()
    stored = encrypt_data(seed, data, KEY)
    assert decrypt_data(seed, stored, KEY) == data
    assert stored != encrypt_data(seed, data, KEY)
    for wrong in ((new_seed(), stored, KEY), (seed, stored, KEY + "2"), (seed, stored[:-1], KEY), (seed, b"", KEY)):
        with pytest.raises(Refused, match="kms-data"):
            decrypt_data(*wrong)


def test_stored_objects_that_break_a_rule_are_refused() -> None:
    whole = StoredObject(provider="p", key_id="k", dek_source=b"d", annotations={}, data=b"x")
    assert StoredObject.decode(whole.encode()) == whole
    for body in (
        b"",
        b"{}",
        b"k8s:enc:kms:v1:p:x",
        b"k8s:enc:kms:v2:p",
        b"k8s:enc:kms:v2:p:\xff",
        b"k8s:enc:kms:v2::x",
    ):
        with pytest.raises(DecodeError, match="kms-stored"):
            StoredObject.decode(body)
    good = {"provider": "p", "key_id": "k", "dek_source": b"d", "annotations": {}, "data": b"x"}
    for field, value, reason in (
        ("key_id", "", "kms-key-id"),
        ("key_id", "k" * 1025, "kms-key-id"),
        ("dek_source", b"", "kms-ciphertext"),
        ("dek_source", bytes(1025), "kms-ciphertext"),
        ("annotations", {"nodomain": b""}, "kms-annotations"),
        ("annotations", {"a.b": bytes(33_000)}, "kms-annotations"),
        ("provider", "a:b", "kms-provider"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            StoredObject(**{**good, field: value}).encode()  # type: ignore[arg-type]  # that is what is tested


def test_mutated_stored_objects_get_typed_errors() -> None:
    dice = random.Random(7)
    seed = new_seed()
    data = encrypt_data(seed, b"plain", KEY)
    annotations = {"a.b": b"v"}
    whole = StoredObject(provider="p", key_id="k", dek_source=b"dd", annotations=annotations, data=data).encode()
    for _ in range(20_000):
        raw = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        try:
            found = StoredObject.decode(bytes(raw))
            assert decrypt_data(seed, found.data, KEY, seeded=found.seeded) == b"plain"
        except DaasError:
            continue


@given(st.binary(min_size=1, max_size=envelope.PLAINTEXT_BYTES_MAX))
def test_an_envelope_opens_under_its_seed_and_key_id_alone(plaintext: bytes) -> None:
    seed = os.urandom(32)
    ciphertext = envelope.wrap(seed, "k", plaintext)
    assert len(ciphertext) == len(plaintext) + envelope.OVERHEAD_BYTES < 1024
    assert envelope.unwrap(seed, "k", ciphertext) == plaintext
    for wrong in ((os.urandom(32), "k"), (seed, "l")):
        with pytest.raises(Refused, match="kms-tag"):
            envelope.unwrap(*wrong, ciphertext)
    for place in range(len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[place] ^= 0x40
        with pytest.raises(DaasError):
            envelope.unwrap(seed, "k", bytes(changed))
    with pytest.raises(DaasError):
        envelope.unwrap(seed, "k", ciphertext[:-1])


@pytest.mark.parametrize("count", [1, 3, 5, 10, 11])
def test_what_travels_with_a_ciphertext_fits_for_eleven_servers(count: int) -> None:
    found = keyring(count, cluster="a" * 63)
    sealed = found.generations[0].sealed_bytes
    wrapped = envelope.wrap(os.urandom(32), found.generations[0].key_id, os.urandom(32))
    assert len(wrapped) == 81
    assert len(sealed) < 249 + 65 * count + 128
    stored = StoredObject(
        provider="seal-keeper",
        key_id=found.generations[0].key_id,
        dek_source=wrapped,
        annotations={envelope.ANNOTATION: sealed},
        data=b"x",
    )
    assert StoredObject.decode(stored.encode()) == stored


def test_a_seed_opens_with_the_master_keys_of_a_threshold() -> None:
    servers, keys = key_servers(3, 2)
    found = add_generation(Keyring(cluster="dev", package=PACKAGE, policy=POLICY, pool=POOL), servers, NAMESPACE)
    sealed = EncryptedObject.decode(found.generations[0].sealed_bytes)
    two = {name: key.extract(sealed.full_id) for name, key in list(keys.items())[1:]}
    assert len(decrypt(sealed, two)) == 32


def test_a_keyring_is_written_whole_and_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    ring = keyring(generations=2)
    keyrings.save(path, ring)
    assert keyrings.load(path) == ring
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.number for one in ring.generations] == [1, 2]
    assert ring.generations[0].key_id != ring.generations[1].key_id
    path.chmod(0o620)
    with pytest.raises(ConfigurationError, match="forges Secrets"):
        keyrings.load(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        keyrings.load(tmp_path / "missing")


def test_a_generation_that_is_another_ones_is_refused() -> None:
    ring = keyring(generations=2)
    text = msgspec.json.encode(ring)
    one, two = ring.generations
    cases = {
        text.replace(POLICY.encode(), POOL.encode(), 1): "another policy",
        text.replace(PACKAGE.encode(), POOL.encode(), 1): "another package",
        text.replace(b'"dev"', b'"prod"'): "another one",
        text.replace(one.key_id.encode(), two.key_id.encode()): "another key id",
        text.replace(b'"number":2', b'"number":1'): "ascending",
        text.replace(b'"schema":1', b'"schema":2'): "schema",
        text.replace(b'"pool"', b'"poll"'): "poll",
        text[:-1]: "keyring",
        text.replace(one.sealed[:40].encode(), b"!" * 40): "base64",
    }
    for data, why in cases.items():
        with pytest.raises(ConfigurationError, match=why):
            keyrings.decode(data, "file")


@pytest.mark.parametrize("endpoint", ["unix://kms.sock", "tcp://127.0.0.1:1", "/run/kms.sock", "unix:///x?y", ""])
def test_endpoints_are_absolute_unix_sockets(endpoint: str) -> None:
    assert socket_path("unix:///run/k3s-daas/kms.sock") == "/run/k3s-daas/kms.sock"
    with pytest.raises(ConfigurationError, match="kms-endpoint"):
        socket_path(endpoint)
