"""Encryption at rest: what an EncryptionConfiguration may say, and how a provider treats its plugin."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from daas.common.errors import ConfigurationError, DaasError, Refused, Unavailable
from daas.devstack.apiserver.encryption import provider as module
from daas.devstack.apiserver.encryption.config import Identity, Kms, load
from daas.devstack.apiserver.encryption.provider import KmsProvider
from daas.devstack.apiserver.encryption.transform import Encryption
from daas.devstack.apiserver.errors import ApiError
from daas.devstack.apiserver.resources import BY_KEY
from daas.devstack.apiserver.storage import Locked, Storage, Unwritable
from daas.kms import api_pb2 as api
from daas.kms.rpc import SERVICE
from daas.kms.stored import StoredObject

SECRETS = BY_KEY["secrets"]
KEY = "/registry/secrets/default/db"


class Plugin:
    """A KMS v2 plugin that behaves as a test tells it to, and counts; it hides seeds behind an XOR."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_id = "key-1"
        self.encrypts_with: str | None = None
        self.version, self.healthz = "v2", "ok"
        self.refuses: dict[str, grpc.StatusCode] = {}
        self.calls: list[str] = []

    async def start(self) -> None:
        self.server = grpc.aio.server()
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self.handler(name)) for name in ("Status", "Encrypt", "Decrypt")
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.server.add_insecure_port(f"unix:{self.path}")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    def handler(self, name: str) -> Callable[..., Any]:
        async def handle(raw: bytes, context: Any) -> bytes:
            self.calls.append(name)
            if name in self.refuses:
                await context.abort(self.refuses[name], "told to [told]")
            answer: bytes = getattr(self, name.lower())(raw).SerializeToString()
            return answer

        return handle

    def status(self, _raw: bytes) -> api.StatusResponse:
        return api.StatusResponse(version=self.version, healthz=self.healthz, key_id=self.key_id)

    def encrypt(self, raw: bytes) -> api.EncryptResponse:
        plaintext = api.EncryptRequest.FromString(raw).plaintext
        return api.EncryptResponse(
            ciphertext=bytes(byte ^ 0x55 for byte in plaintext), key_id=self.encrypts_with or self.key_id,
            annotations={"note.test.io": b"1"},
        )  # fmt: skip

    def decrypt(self, raw: bytes) -> api.DecryptResponse:
        request = api.DecryptRequest.FromString(raw)
        assert dict(request.annotations) == {"note.test.io": b"1"}
        return api.DecryptResponse(plaintext=bytes(byte ^ 0x55 for byte in request.ciphertext))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def plugin(tmp_path: Path) -> AsyncIterator[Plugin]:
    plugin = Plugin(tmp_path / "kms.sock")
    await plugin.start()
    yield plugin
    await plugin.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def provider(plugin: Plugin, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KmsProvider]:
    """Connected, but asked only when a test asks."""

    async def idle(_self: KmsProvider) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(KmsProvider, "_poll", idle)
    provider = KmsProvider(Kms("keeper", f"unix://{plugin.path}"), monotonic=clock)
    provider.start()
    yield provider
    await provider.stop()


async def test_forty_objects_cost_one_status_and_one_encrypt(provider: KmsProvider, plugin: Plugin) -> None:
    await provider.probe()
    stored = [provider.encrypt(KEY, b"plain") for _ in range(40)]
    assert plugin.calls == ["Status", "Encrypt"]
    assert all(one.startswith(b"k8s:enc:kms:v2:keeper:") and b"plain" not in one for one in stored)
    assert len(set(stored)) == 40
    assert {provider.decrypt(KEY, one) for one in stored} == {b"plain"}
    with pytest.raises(DaasError):
        provider.decrypt(KEY + "2", stored[0])


async def test_before_the_first_answer_nothing_is_written_and_nothing_read(provider: KmsProvider) -> None:
    with pytest.raises(Unwritable, match="got unexpected nil transformer"):
        provider.encrypt(KEY, b"plain")
    stored = StoredObject(provider="keeper", key_id="k", dek_source=b"d", annotations={}, data=b"x").encode()
    with pytest.raises(Locked, match="got unexpected nil transformer"):
        provider.decrypt(KEY, stored)


async def test_a_new_key_id_is_followed_by_one_encrypt_and_old_objects_stay(
    provider: KmsProvider, plugin: Plugin
) -> None:
    await provider.probe()
    old = provider.encrypt(KEY, b"old")
    await provider.probe()
    plugin.key_id = "key-2"
    await provider.probe()
    assert plugin.calls == ["Status", "Encrypt", "Status", "Status", "Encrypt"]
    new = provider.encrypt(KEY, b"new")
    assert StoredObject.decode(new).key_id == "key-2"
    assert (provider.decrypt(KEY, old), provider.decrypt(KEY, new)) == (b"old", b"new")
    assert provider.stale(old)
    assert not provider.stale(new)


async def test_a_key_id_that_encrypt_does_not_use_keeps_the_old_state(provider: KmsProvider, plugin: Plugin) -> None:
    await provider.probe()
    plugin.key_id, plugin.encrypts_with = "key-2", "key-3"
    with pytest.raises(Refused, match="failed to rotate DEK source"):
        await provider.probe()
    assert provider.key_id == "key-1"


async def test_a_failing_status_stops_writes_after_three_minutes_and_reads_never(
    provider: KmsProvider, plugin: Plugin, clock: Clock
) -> None:
    await provider.probe()
    stored = provider.encrypt(KEY, b"plain")
    plugin.refuses["Status"] = grpc.StatusCode.UNAVAILABLE
    clock.now += 179
    with pytest.raises(Unavailable, match="code = Unavailable desc = told to"):
        await provider.probe()
    assert provider.encrypt(KEY, b"plain")
    clock.now += 1
    with pytest.raises(Unwritable, match=r"EDEK with keyID hash .*sha256:.* expired at"):
        provider.encrypt(KEY, b"plain")
    assert provider.decrypt(KEY, stored) == b"plain"
    plugin.refuses.clear()
    await provider.probe()
    assert provider.encrypt(KEY, b"plain")
    assert plugin.calls.count("Encrypt") == 1


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("healthz", "err", "unexpected healthz"),
        ("version", "v1", "expected KMSv2 API"),
        ("key_id", "", "invalid KMSv2"),
    ],
)
async def test_a_status_that_an_api_server_does_not_take_is_named(
    provider: KmsProvider, plugin: Plugin, field: str, value: str, problem: str
) -> None:
    setattr(plugin, field, value)
    with pytest.raises(Refused, match=problem):
        await provider.probe()
    assert problem in await provider.health()


async def test_health_asks_the_plugin_seldom(provider: KmsProvider, plugin: Plugin, clock: Clock) -> None:
    assert [await provider.health() for _ in range(10)] == [""] * 10
    assert plugin.calls == ["Status"]
    clock.now += module.HEALTH_S[0]
    plugin.refuses["Status"] = grpc.StatusCode.UNAVAILABLE
    assert "told to" in await provider.health()
    plugin.refuses.clear()
    assert "told to" in await provider.health()
    clock.now += module.HEALTH_S[1]
    assert await provider.health() == ""
    assert plugin.calls == ["Status"] * 3


def storage(path: Path, encryption: Encryption) -> Storage:
    return Storage(path, encryption)


def secret(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "data": {"password": "aHVudGVyMg=="}}


async def test_a_store_waits_for_its_keys_and_then_has_everything(plugin: Plugin, tmp_path: Path) -> None:
    rules = write_config(tmp_path, f"unix://{plugin.path}")
    path = tmp_path / "log.sqlite"
    for name in ("a", "b"):  # two runs: two seeds
        encryption = Encryption(load(rules))
        store = storage(path, encryption)
        encryption.on_usable = store.unlock
        encryption.start()
        async with asyncio.timeout(100):
            while next(iter(encryption.providers.values())).key_id is None:  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.01)
        store.create(SECRETS, secret(name))
        store.create(BY_KEY["configmaps"], secret(name))
        await encryption.stop()
        store.close()
    assert b"hunter2" not in path.read_bytes()
    plugin.calls.clear()
    encryption = Encryption(load(rules))
    store = storage(path, encryption)
    assert list(store.locked) == ["secrets"]
    assert store.count(BY_KEY["configmaps"]) == 2
    with pytest.raises(ApiError, match="got unexpected nil transformer"):
        store.get(SECRETS, "default", "a")
    with pytest.raises(ApiError, match="got unexpected nil transformer"):
        store.records(SECRETS, None)
    with pytest.raises(ApiError, match="got unexpected nil transformer"):
        store.create(SECRETS, secret("c"))
    with pytest.raises(ApiError, match="got unexpected nil transformer"):
        store.since(SECRETS, 0)
    encryption.on_usable = store.unlock
    encryption.start()
    async with asyncio.timeout(100):
        while store.locked:  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0.01)
    assert [one.name for one in store.records(SECRETS, None)] == ["a", "b"]
    assert plugin.calls == ["Status", "Encrypt", "Decrypt", "Decrypt"]
    versions = [event.version for event in store._history]
    assert versions == sorted(versions)
    assert len(store.since(SECRETS, 0)) == 2
    await encryption.stop()
    store.close()


async def test_one_object_that_cannot_be_read_is_named_and_the_others_are_there(plugin: Plugin, tmp_path: Path) -> None:
    encryption = Encryption(load(write_config(tmp_path, f"unix://{plugin.path}")))
    (provider,) = encryption.providers.values()
    provider.start()
    await provider.probe()
    store = storage(tmp_path / "log.sqlite", encryption)
    for name in ("a", "b", "c"):
        store.create(SECRETS, secret(name))
    # Whoever can write to the store moves one Secret's value to another's place, and changes a third.
    (body,) = store._db.execute("SELECT body FROM log WHERE name = 'a'").fetchone()
    store._db.execute("UPDATE log SET body = ? WHERE name = 'b'", (body,))
    store._db.execute("UPDATE log SET body = x'7b7d' WHERE name = 'c'")
    store.close()
    store = storage(tmp_path / "log.sqlite", encryption)
    first = store.get(SECRETS, "default", "a")
    assert first is not None
    assert first.object()["data"]
    with pytest.raises(ApiError, match='unable to transform key "/registry/secrets/default/b"'):
        store.get(SECRETS, "default", "b")
    with pytest.raises(ApiError, match="unable to transform key"):
        store.records(SECRETS, "default")
    assert list(store.records(SECRETS, "other")) == []
    await encryption.stop()
    store.close()


def write_config(folder: Path, endpoint: str = "unix:///run/kms.sock", identity: bool = False) -> Path:
    path = folder / "encryption.yaml"
    path.write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n"
        f"  providers:\n  - kms: {{apiVersion: v2, name: keeper, endpoint: {endpoint}, timeout: 3s}}\n"
        + ("  - identity: {}\n" if identity else "")
    )
    return path


def test_a_configuration_names_resources_and_their_providers(tmp_path: Path) -> None:
    (rule,) = load(write_config(tmp_path, identity=True))
    assert rule.resources == ("secrets",)
    assert rule.providers == (Kms("keeper", "unix:///run/kms.sock", 3.0), Identity())


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("EncryptionConfiguration", "Pod", "expected kind"),
        ("apiserver.config.k8s.io/v1", "v9", "apiVersion"),
        ("apiVersion: v2", "apiVersion: v1", "expected apiVersion v2"),
        ("[secrets]", "['*.*']", "wildcards"),
        ("kms:", "aescbc:", "not understood"),
        ("unix:///run/kms.sock", "tcp://x", "unix:///PATH"),
        ("name: keeper", "name: 'a:b'", "can't name"),
        ("timeout: 3s", "cachesize: 3", "perhaps timeout"),
        ("timeout: 3s", "timeout: soon", "duration"),
        ("resources:", "others:", "at least one"),
    ],
)
def test_a_configuration_that_is_not_understood_stops_the_server(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=problem):
        load(path)


def test_plaintext_is_read_only_where_identity_is_named(tmp_path: Path) -> None:
    strict = Encryption(load(write_config(tmp_path)))
    lenient = Encryption(load(write_config(tmp_path, identity=True)))
    plain = b'{"metadata":{}}'
    assert lenient.from_storage("secrets", "default/db", plain) == plain
    for encryption, resource, body in (
        (strict, "secrets", plain),
        (lenient, "secrets", b"k8s:enc:kms:v2:other:x"),
        (strict, "configmaps", b"k8s:enc:kms:v2:keeper:x"),
    ):
        with pytest.raises(Refused, match="no-provider"):
            encryption.from_storage(resource, "default/db", body)
    assert strict.to_storage("configmaps", "default/db", plain) == plain
