"""Walrus, audit events and public metadata: the storage service on real servers, killed and cut off."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from evidence_world import CLUSTER, World, small_world

from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.messages import (
    AuditRecorded,
    ChainPolicyChanged,
    DeadLetter,
    MetadataChanged,
    StorageStored,
    decode,
    encode,
)
from daas.common.secret_facts import SecretDenied, SecretOpened, SecretSealed
from daas.common.subjects import Service, Stream
from daas.devstack.etcd import EtcdServer
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore
from daas.evidence.audit import AuditArchive, AuditQuery
from daas.evidence.layout import decode_manifest
from daas.evidence.metadata import MetadataRecord, decode_record, public_objects
from daas.evidence.verify import verify_all
from daas.walrus import Holding, WalrusClient

pytestmark = pytest.mark.connected
replace = msgspec.structs.replace


class Walrus:
    """The stand-in as a process that can be killed, on a port that stays."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = ""
        self.process: Process | None = None

    async def start(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        argv: list[str | Path] = [sys.executable, "-m", "daas.devstack.walrus", "--state", self._directory]
        argv += ["--port", port]
        self.process = Process("walrus", argv, log_path=self._directory.with_suffix(".log"))
        self.url = str((await self.process.start())["url"])

    async def kill(self) -> None:
        assert self.process is not None
        await self.process.kill()

    async def blobs(self) -> dict[str, set[str]]:
        """Blob id of each quilt to the identifiers in it."""
        found = {}
        async with aiohttp.ClientSession(self.url) as session:
            for path in sorted((self._directory / "blobs").glob("*.json")):
                async with session.get(f"/v1/quilts/{path.stem}/patches") as answer:
                    found[path.stem] = {row["identifier"] for row in await answer.json()}
        return found

    async def fail(self, **faults: int) -> None:
        async with aiohttp.ClientSession(self.url) as session:
            await session.post("/simulated/faults", json=faults)


class Stage:
    """nats-server, etcd, Walrus, and the storage service with everything in Walrus."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nats = NatsServer(directory / "nats")
        self.etcd_server = EtcdServer(directory / "etcd")
        self.walrus = Walrus(directory / "walrus")
        self._stack = AsyncExitStack()
        self._ids = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.nats)
        await self._stack.enter_async_context(self.etcd_server)
        await self.walrus.start()
        self._stack.push_async_callback(self.walrus.kill)
        settings = BusSettings(cluster=CLUSTER, nats_url=self.nats.url)
        self.gateway, self.enclave, self.relay = [
            await self._stack.enter_async_context(Bus(service, settings))
            for service in (Service.GATEWAY, Service.ENCLAVE, Service.RELAY)
        ]
        await self.relay.declare()
        self.etcd = await self._stack.enter_async_context(EtcdClient([self.etcd_server.endpoint], timeout_ms=20_000))
        client = await self._stack.enter_async_context(WalrusClient([self.walrus.url], [self.walrus.url]))
        self.store = EvidenceStore(self.etcd, CLUSTER, walrus=client)
        self.archive = AuditArchive(self.etcd, self.store.keys, self.store.values)
        self.storage = Process(
            "storage",
            ["python", "-m", "daas.storage"],
            log_path=self.directory / "storage.log",
            env={
                "DAAS_CLUSTER": CLUSTER,
                "DAAS_NATS_URL": self.nats.url,
                "DAAS_STATE_DIR": str(self.directory / "storage"),
                "DAAS_STORAGE_ETCD_ENDPOINTS": self.etcd_server.endpoint,
                "DAAS_STORAGE_EVIDENCE_BACKEND": "walrus",
                "DAAS_STORAGE_AUDIT_BACKEND": "walrus",
                "DAAS_STORAGE_WALRUS_PUBLISHERS": self.walrus.url,
                "DAAS_STORAGE_WALRUS_AGGREGATORS": self.walrus.url,
                "DAAS_STORAGE_WALRUS_LINGER_MS": "20",
                "DAAS_STORAGE_WALRUS_EPOCHS": "2",
                "DAAS_STORAGE_WALRUS_RENEWAL_S": "0.2",
            },
        )
        self._stack.push_async_callback(self.storage.terminate)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def fact_id(self) -> str:
        self._ids += 1
        return f"fact-{self._ids}"

    async def tell(self, world: World) -> None:
        """A whole history on the bus, anchors last."""
        for entry in world.log:
            await self.gateway.publish(subjects.LOG_CLUSTER, entry, message_id=self.fact_id())
        await self.enclave.publish(subjects.ENCLAVE_ATTESTED, world.attested, message_id=self.fact_id())
        await self.relay.publish(subjects.ENCLAVE_REGISTERED, world.registered, message_id=self.fact_id())
        for sequence, data in world.decided.items():
            at = await self.enclave.publish(subjects.PLACEMENT_DECIDED, data, message_id=self.fact_id())
            fact = replace(world.bundles[sequence].anchored, decided_sequence=at)
            await self.relay.publish(subjects.PLACEMENT_ANCHORED, fact, message_id=self.fact_id())

    async def change(self, **fields: Any) -> None:
        """A fact about a public object."""
        fact = MetadataChanged(**{"kind": "ConfigMap", "namespace": "default", "name": "app", "uid": "u"} | fields)
        await self.gateway.publish(subjects.METADATA_CHANGED, fact, message_id=self.fact_id())

    async def record(
        self, name: str = "app", kind: str = "ConfigMap", namespace: str = "default"
    ) -> MetadataRecord | None:
        kv = await self.etcd.get(self.store.keys.metadata(kind, namespace, name))
        return decode_record(kv.value) if kv else None

    async def letters(self) -> list[DeadLetter]:
        _, last = await self.relay.stream_bounds(Stream.DLQ)
        return [decode((await self.relay.fetch(Stream.DLQ, n)).data, DeadLetter) for n in range(1, last + 1)]

    async def verified(self, world: World) -> list[bool]:
        reports = verify_all(self.store, world.trust, source=world.ledger, now_ms=world.now_ms)
        return [report.ok async for report in reports]


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage(tmp_path) as made:
        yield made


async def until(condition: Callable[[], Awaitable[object]], what: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.05)


async def latest(stage: Stage, sequence: int) -> None:
    async def reached() -> bool:
        return await stage.store.latest() == sequence

    await until(reached, f"batch {sequence}; {stage.storage.log_tail()}")


def identifiers(blobs: dict[str, set[str]]) -> list[str]:
    return sorted(name for names in blobs.values() for name in names)


async def test_evidence_in_walrus_verifies_and_says_where_it_is(stage: Stage) -> None:
    world = small_world(4)
    await stage.storage.start()
    await stage.tell(world)
    await latest(stage, 4)
    assert await stage.verified(world) == [True] * 4
    assert not [kv async for kv in stage.etcd.prefix(f"{stage.store.keys.root}parts/")]

    async def evidence() -> list[StorageStored]:
        _, last = await stage.relay.stream_bounds(Stream.STORAGE)
        facts = [decode((await stage.relay.fetch(Stream.STORAGE, n)).data, StorageStored) for n in range(1, last + 1)]
        return [fact for fact in facts if fact.kind == "evidence"]

    async def told() -> bool:  # what is stored is told afterwards
        return len(await evidence()) == 4

    await until(told, "the facts of four batches")
    for fact in await evidence():
        kv = await stage.etcd.get(fact.key)
        assert kv is not None
        (patch,) = decode_manifest(kv.value).patches
        assert (fact.blob, fact.patch, fact.simulated) == (patch.quilt, patch.patch, True)
        assert await stage.etcd.get(stage.store.keys.holding(patch.quilt)) is not None


@pytest.mark.parametrize("victim", ["walrus", "storage", "etcd"])
async def test_whoever_is_killed_every_bundle_is_stored_once_and_verifies(stage: Stage, victim: str) -> None:
    world = small_world(12)
    await stage.storage.start()
    telling = asyncio.create_task(stage.tell(world))

    async def begun() -> bool:
        return await stage.store.latest() >= 1

    await until(begun, "the first batch")
    if victim == "walrus":
        await stage.walrus.kill()
        await telling
        await stage.walrus.start()
    elif victim == "storage":
        await stage.storage.kill()
        await telling
        await stage.storage.start()
    else:
        await stage.etcd_server.kill()
        await telling
        await stage.etcd_server.restart()
    await latest(stage, 12)
    assert await stage.verified(world) == [True] * 12
    assert identifiers(await stage.walrus.blobs()) == [f"evidence-{n:020d}.0" for n in range(1, 13)]
    assert not await stage.letters()


async def test_a_quilt_whose_answers_are_lost_is_still_one_quilt(stage: Stage) -> None:
    world = small_world(3)
    await stage.walrus.fail(lost=2, unavailable=1)
    await stage.storage.start()
    await stage.tell(world)
    await latest(stage, 3)
    assert len(identifiers(await stage.walrus.blobs())) == 3
    assert await stage.verified(world) == [True] * 3


async def test_blobs_are_renewed_before_they_end(stage: Stage) -> None:
    world = small_world(1)
    await stage.storage.start()
    await stage.tell(world)
    await latest(stage, 1)

    async def holdings() -> list[Holding]:
        found = stage.etcd.prefix(stage.store.keys.holdings())
        return [msgspec.json.decode(kv.value, type=Holding) async for kv in found]

    (first,) = await holdings()
    async with aiohttp.ClientSession(stage.walrus.url) as session:
        await session.post("/simulated/epochs?advance=1")

    async def renewed() -> bool:
        (held,) = await holdings()
        return held.end_epoch > first.end_epoch

    await until(renewed, "a later end")
    async with aiohttp.ClientSession(stage.walrus.url) as session:
        await session.post("/simulated/epochs?advance=1")
    assert await stage.verified(world) == [True]


EVENTS: tuple[dict[str, Any], ...] = (
    {
        "auditID": "1",
        "stageTimestamp": "2026-03-01T10:00:00Z",
        "user": {"username": "alice"},
        "verb": "get",
        "objectRef": {"resource": "pods", "namespace": "default", "name": "web"},
        "responseStatus": {"code": 200},
    },
    {
        "auditID": "2",
        "stageTimestamp": "2026-03-01T11:00:00Z",
        "user": {"username": "bob"},
        "verb": "create",
        "objectRef": {"resource": "pods", "namespace": "default", "name": "db"},
        "requestObject": {"spec": {"containers": [{"env": [{"name": "PASSWORD", "value": "swordfish"}]}]}},
        "responseStatus": {"code": 403},
    },
)


async def test_audit_events_are_found_again_and_what_looked_like_a_secret_is_not(stage: Stage) -> None:
    await stage.storage.start()
    for _ in range(2):
        fact = AuditRecorded(events=EVENTS, stripped=0)
        await stage.gateway.publish(subjects.AUDIT_RECORDED, fact, message_id=stage.fact_id())

    async def archived() -> bool:
        return bool([m async for m in stage.archive.batches(AuditQuery())])

    await until(archived, "the batch")
    found = [event async for event in stage.archive.search(AuditQuery(user="bob", verdict="forbid"), limit=10)]
    assert [event["auditID"] for event in found] == ["2"]
    assert found[0]["withheld"]["rule"] == "password"
    assert "requestObject" not in found[0]
    all_of_it = [event async for event in stage.archive.search(AuditQuery(), limit=10)]
    assert [event["auditID"] for event in all_of_it] == ["1", "2"]
    assert b"swordfish" not in b"".join(p.read_bytes() for p in (stage.directory / "walrus" / "blobs").iterdir())


async def test_metadata_only_moves_forwards_whatever_comes_late_or_twice(stage: Stage) -> None:
    await stage.storage.start()
    for version in (5, 3, 9, 9, 7):
        await stage.change(resource_version=version, object={"data": {"v": str(version)}})
    await stage.change(name="gone", resource_version=4, object={"data": {}})
    await stage.change(name="gone", resource_version=6, deleted=True)
    await stage.change(name="gone", resource_version=5, object={"data": {"v": "late"}})
    await stage.change(kind="Namespace", namespace="", name="end", resource_version=1, object={})

    async def told() -> object:
        return await stage.record("end", "Namespace", "")

    async def settled() -> bool:
        app, gone = await stage.record(), await stage.record("gone")
        return bool(app and gone and app.resource_version == 9 and gone.deleted)

    await until(told, "the last of the facts")
    await until(settled, "the newest versions")
    assert [record.name async for record in public_objects(stage.etcd, stage.store.keys, "ConfigMap")] == ["app"]
    kv = await stage.etcd.get(stage.store.keys.metadata("ConfigMap", "default", "gone"))
    assert kv is not None
    assert kv.lease > 0


async def test_a_full_list_ends_what_vanished_unseen_and_nothing_newer(stage: Stage) -> None:
    await stage.storage.start()
    for name, version in (("kept", 1), ("vanished", 2), ("newer", 9)):
        await stage.change(name=name, resource_version=version, object={"data": {}})

    async def three() -> bool:
        return len([r async for r in public_objects(stage.etcd, stage.store.keys, "ConfigMap")]) == 3

    await until(three, "three of them")
    await stage.change(name="*", namespace="", resource_version=5, listed=("default/kept",))

    async def two() -> bool:
        found = [r.name async for r in public_objects(stage.etcd, stage.store.keys, "ConfigMap")]
        return found == ["kept", "newer"]

    await until(two, "what is left")


async def test_secrets_are_refused_on_the_bus_and_their_bytes_are_nowhere(stage: Stage) -> None:
    await stage.storage.start()
    await stage.change(kind="Secret", resource_version=1, object={"data": {"a": "c3dvcmRmaXNo"}})
    await stage.change(name="env", resource_version=2, object={"data": {"env": "DB_PASSWORD=swordfish"}})
    labels = {"labels": {"k3s-daas.io/sensitive": "true"}}
    await stage.change(name="label", resource_version=3, object={"metadata": labels, "data": {"a": "swordfish"}})
    await stage.change(name="told", resource_version=4, withheld="secret-password", withheld_at="data.env")

    async def refused() -> bool:
        return len(await stage.letters()) == 3 and await stage.record("told") is not None

    await until(refused, "three dead letters, and what was withheld at the source")
    letters = await stage.letters()
    assert sorted(letter.reason for letter in letters) == [
        "not-public-kind",
        "secret-password",
        "secret-sensitive-label",
    ]
    assert all(letter.body == "" and letter.digest for letter in letters)
    told = await stage.record("told")
    assert told is not None
    assert (told.object, told.withheld, told.withheld_at) == (None, "secret-password", "data.env")
    kept = json.dumps([kv.value.decode(errors="replace") async for kv in stage.etcd.prefix(stage.store.keys.root)])
    assert "swordfish" not in kept
    assert "c3dvcmRmaXNo" not in kept


async def test_what_happened_to_a_sealed_secret_is_kept_once(stage: Stage) -> None:
    await stage.storage.start()
    named: dict[str, Any] = {"namespace": "default", "name": "db", "simulated": True}
    policy = "0x" + "22" * 32
    sealed = SecretSealed(**named, policy_name="p", policy=policy, generation=1, scope="secret", values=2)
    opened = SecretOpened(**named, policy=policy, generation=1, requester="0x" + "33" * 32)
    denied = SecretDenied(**named, action="open", policy="p", requester="?", reason="stake", message="too little")
    async with Bus(Service.SEAL_KEEPER, BusSettings(cluster=CLUSTER, nats_url=stage.nats.url)) as keeper:
        for subject, fact in (
            (subjects.SECRET_SEALED, sealed),
            (subjects.SECRET_OPENED, opened),
            (subjects.SECRET_DENIED, denied),
        ):
            await keeper.publish(subject, fact, message_id=stage.fact_id())

    async def kept() -> bool:
        found = {kv.key.split("/")[5]: kv.value async for kv in stage.etcd.prefix(f"{stage.store.keys.root}secrets/")}
        return found == {"sealed": encode(sealed), "opened": encode(opened), "denied": encode(denied)}

    await until(kept, "three facts")


async def test_of_a_policys_changes_the_newest_stays(stage: Stage) -> None:
    await stage.storage.start()
    for checkpoint, index, change in ((5, 0, "created"), (7, 1, "changed"), (7, 0, "other"), (6, 3, "late")):
        fact = ChainPolicyChanged(
            registry="0x" + "11" * 32,
            tx_digest="T",
            event_index=index,
            checkpoint=checkpoint,
            timestamp_ms=1,
            simulated=True,
            policy="0x" + "22" * 32,
            change=change,
        )
        await stage.relay.publish(subjects.CHAIN_POLICY_CHANGED, fact, message_id=stage.fact_id())

    async def newest() -> bool:
        kv = await stage.etcd.get(stage.store.keys.policy("0x" + "22" * 32))
        return kv is not None and decode(kv.value, ChainPolicyChanged).change == "changed"

    await until(newest, "the newest change")
