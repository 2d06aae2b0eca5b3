"""The storage service as a process of its own, on a real nats-server and a real etcd, fed with a true history."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
import pytest_asyncio
from evidence_world import CLUSTER, World, a_pod, small_world

from daas.common import subjects
from daas.common.access import AccessRecord, PolicyDecided
from daas.common.bus import Bus, BusSettings
from daas.common.errors import NotFound
from daas.common.messages import (
    BoundPod,
    DeadLetter,
    EnclaveRevoked,
    PlacementAnchored,
    PlacementBindFailed,
    PlacementBound,
    PlacementReceived,
    PlacementRefused,
    StorageStored,
    decode,
)
from daas.common.plans import Basis, Planned
from daas.common.subjects import Service, Stream
from daas.devstack.etcd import EtcdServer
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore
from daas.evidence.checks import PodName
from daas.evidence.verify import verify_all, verify_batch, verify_pod

pytestmark = pytest.mark.connected
replace = msgspec.structs.replace


class Cluster:
    """nats-server, etcd and the storage service, and buses to speak as everybody else."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nats = NatsServer(directory / "nats")
        self.etcd_server = EtcdServer(directory / "etcd")
        self.world = World()
        self._stack = AsyncExitStack()
        self._facts = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.nats)
        await self._stack.enter_async_context(self.etcd_server)
        settings = BusSettings(cluster=CLUSTER, nats_url=self.nats.url)
        self.gateway, self.enclave, self.relay = [
            await self._stack.enter_async_context(Bus(service, settings))
            for service in (Service.GATEWAY, Service.ENCLAVE, Service.RELAY)
        ]
        await self.relay.declare()
        self.etcd = await self._stack.enter_async_context(EtcdClient([self.etcd_server.endpoint], timeout_ms=20_000))
        self.store = EvidenceStore(self.etcd, CLUSTER)
        self.storage = Process(
            "storage",
            ["python", "-m", "daas.storage"],
            log_path=self.directory / "storage.log",
            env={
                "DAAS_CLUSTER": CLUSTER,
                "DAAS_NATS_URL": self.nats.url,
                "DAAS_STORAGE_ETCD_ENDPOINTS": self.etcd_server.endpoint,
                "DAAS_STORAGE_SNAPSHOT_POLL_S": "0.05",
            },
        )
        self._stack.push_async_callback(self.storage.terminate)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def fact_id(self) -> str:
        """Another id each time, so that the stream's own deduplication never hides a repetition."""
        self._facts += 1
        return f"fact-{self._facts}"

    async def publish_log(self, world: World) -> None:
        """The log as the gateway appended it."""
        for entry in world.log:
            await self.gateway.publish(subjects.LOG_CLUSTER, entry, message_id=self.fact_id())

    async def publish_registration(self, world: World) -> None:
        """The key's attestation and registration."""
        await self.enclave.publish(subjects.ENCLAVE_ATTESTED, world.attested, message_id=self.fact_id())
        await self.relay.publish(subjects.ENCLAVE_REGISTERED, world.registered, message_id=self.fact_id())

    async def decide(self, world: World) -> dict[int, PlacementAnchored]:
        """The decisions on the bus, and the facts that will anchor them."""
        facts = {}
        for sequence, data in world.decided.items():
            at = await self.enclave.publish(subjects.PLACEMENT_DECIDED, data, message_id=self.fact_id())
            facts[sequence] = replace(world.bundles[sequence].anchored, decided_sequence=at)
        return facts

    async def anchor(self, fact: PlacementAnchored) -> None:
        """An anchored fact on the bus."""
        await self.relay.publish(subjects.PLACEMENT_ANCHORED, fact, message_id=self.fact_id())

    async def dead_letters(self) -> list[DeadLetter]:
        """What storage refused."""
        _, last = await self.relay.stream_bounds(Stream.DLQ)
        return [decode((await self.relay.fetch(Stream.DLQ, n)).data, DeadLetter) for n in range(1, last + 1)]

    async def stored(self) -> list[StorageStored]:
        """What storage says it stored."""
        _, last = await self.relay.stream_bounds(Stream.STORAGE)
        return [decode((await self.relay.fetch(Stream.STORAGE, n)).data, StorageStored) for n in range(1, last + 1)]


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path) as made:
        yield made


async def until(condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.05)


async def latest_is(cluster: Cluster, sequence: int) -> None:
    async def reached() -> bool:
        return await cluster.store.latest() == sequence

    await until(reached, f"evidence of batch {sequence}; log: {cluster.storage.log_tail()}")


async def all_verify(cluster: Cluster, world: World) -> list[bool]:
    source, now_ms = world.ledger, world.now_ms
    reports = [r async for r in verify_all(cluster.store, world.trust, source=source, now_ms=now_ms)]
    return [report.ok for report in reports]


async def test_what_is_anchored_becomes_evidence_that_a_stranger_can_verify(cluster: Cluster) -> None:
    world = small_world(4)
    await cluster.storage.start()
    await cluster.publish_log(world)
    await cluster.publish_registration(world)
    for fact in (await cluster.decide(world)).values():
        await cluster.anchor(fact)
    await latest_is(cluster, 4)
    report = await verify_pod(
        cluster.store, PodName("default", "web-3-1"), world.trust, source=world.ledger, now_ms=world.now_ms
    )
    assert report.ok, report
    assert report.sequence == 3
    assert await all_verify(cluster, world) == [True] * 4

    async def told() -> bool:  # what is stored is told afterwards
        return len([fact for fact in await cluster.stored() if fact.kind == "evidence"]) == 4

    await until(told, "the facts of four batches")
    stored = [fact for fact in await cluster.stored() if fact.kind == "evidence"]
    assert sorted(fact.sequence or 0 for fact in stored) == [1, 2, 3, 4]
    assert all(fact.simulated and fact.revision for fact in stored)
    assert not await cluster.dead_letters()


async def test_facts_that_come_early_wait_for_those_they_need(cluster: Cluster) -> None:
    world = small_world(3)
    await cluster.storage.start()
    await cluster.publish_log(world)
    facts = await cluster.decide(world)
    await cluster.anchor(facts[1])
    await cluster.anchor(facts[2])
    await cluster.publish_registration(world)
    await cluster.anchor(facts[3])
    await latest_is(cluster, 3)
    assert await all_verify(cluster, world) == [True] * 3


@pytest.mark.parametrize("told", [("next_nonce", "document_digest"), ("next_nonce",), ()])
async def test_of_several_documents_of_a_key_evidence_holds_the_one_that_was_registered(
    cluster: Cluster, told: tuple[str, ...]
) -> None:
    world = World()
    registered, document = world.registered, world.document
    # Before the enclave hears of its registration it answers the nonce that this very registration has made.
    world.now_ms += 700
    later = replace(world.attested, document=base64.b64encode(world.document_now()).decode())
    world.now_ms -= 700
    world.entry(a_pod("web"))
    await cluster.storage.start()
    await cluster.publish_log(world)
    await cluster.enclave.publish(subjects.ENCLAVE_ATTESTED, world.attested, message_id=cluster.fact_id())
    await cluster.enclave.publish(subjects.ENCLAVE_ATTESTED, later, message_id=cluster.fact_id())
    unknown = {name: msgspec.UNSET for name in ("next_nonce", "document_digest") if name not in told}
    await cluster.relay.publish(
        subjects.ENCLAVE_REGISTERED, replace(registered, **unknown), message_id=cluster.fact_id()
    )
    for fact in (await cluster.decide(world)).values():
        await cluster.anchor(fact)
    await latest_is(cluster, 1)
    assert (await cluster.store.bundle(1)).document == document
    assert await all_verify(cluster, world) == [True]


async def test_facts_that_come_again_or_in_another_order_change_nothing(cluster: Cluster) -> None:
    world = small_world(3)
    await cluster.storage.start()
    await cluster.publish_log(world)
    await cluster.publish_registration(world)
    facts = await cluster.decide(world)
    for fact in facts.values():
        await cluster.anchor(fact)
    await latest_is(cluster, 3)
    before = [kv async for kv in cluster.etcd.prefix(cluster.store.keys.root)]
    for sequence in (3, 1, 2, 1):
        await cluster.anchor(facts[sequence])
    # A new batch behind them shows that they have been handled.
    world.entry(a_pod("last"))
    await cluster.gateway.publish(subjects.LOG_CLUSTER, world.log[-1], message_id=cluster.fact_id())
    at = await cluster.enclave.publish(subjects.PLACEMENT_DECIDED, world.decided[4], message_id=cluster.fact_id())
    await cluster.anchor(replace(world.bundles[4].anchored, decided_sequence=at))
    await latest_is(cluster, 4)
    after = {kv.key: kv async for kv in cluster.etcd.prefix(cluster.store.keys.root)}
    for kv in before:
        if kv.key != cluster.store.keys.latest:
            assert after[kv.key] == kv
    assert not await cluster.dead_letters()


async def _refused(cluster: Cluster, count: int) -> bool:
    return len(await cluster.dead_letters()) >= count


async def test_an_anchored_fact_that_does_not_fit_its_decision_is_refused_with_the_reason(cluster: Cluster) -> None:
    world = small_world(2)
    await cluster.storage.start()
    await cluster.publish_log(world)
    await cluster.publish_registration(world)
    facts = await cluster.decide(world)
    await cluster.anchor(replace(facts[1], payload_digest="00" * 32))
    await cluster.anchor(replace(facts[1], public_key="00" * 32))
    await cluster.anchor(replace(facts[1], decided_sequence=facts[2].decided_sequence))
    await cluster.anchor(facts[1])
    await cluster.anchor(facts[2])
    await latest_is(cluster, 2)
    # Facts are handled side by side: their refusals come in any order, and not before what is good is stored.
    await until(lambda: _refused(cluster, 3), "the three dead letters")
    letters = await cluster.dead_letters()
    assert {(letter.reason, letter.field) for letter in letters} == {
        ("decided-mismatch", "payload_digest"),
        ("decided-mismatch", "public_key"),
        ("decided-mismatch", "sequence"),
    }
    assert await all_verify(cluster, world) == [True] * 2


async def test_evidence_of_another_history_under_a_stored_number_is_refused(cluster: Cluster) -> None:
    world, other = small_world(1), World()
    await cluster.storage.start()
    await cluster.publish_log(world)
    await cluster.publish_registration(world)
    await cluster.anchor((await cluster.decide(world))[1])
    await latest_is(cluster, 1)
    other.entry(a_pod("elsewhere"))
    await cluster.anchor((await cluster.decide(other))[1])

    async def refused() -> bool:
        return [letter.reason for letter in await cluster.dead_letters()] == ["evidence-fork"]

    await until(refused, "the dead letter")
    assert await all_verify(cluster, world) == [True]
    with pytest.raises(NotFound):
        await cluster.store.newest_decision("default", "elsewhere")


async def test_snapshots_are_copied_and_shorten_the_replay(cluster: Cluster) -> None:
    world = small_world(4)
    await cluster.storage.start()
    for sequence in (1, 2):
        await cluster.enclave.put_object(subjects.SNAPSHOT_BUCKET, f"{sequence:020d}", world.snapshots[sequence])

    async def copied() -> bool:
        return await cluster.store.snapshots() == (1, 2)

    await until(copied, "snapshots in etcd")
    await cluster.publish_log(world)
    await cluster.publish_registration(world)
    for fact in (await cluster.decide(world)).values():
        await cluster.anchor(fact)
    await latest_is(cluster, 4)
    assert (await cluster.store.snapshot(2)).data == world.snapshots[2]
    assert (await cluster.store.bundle(4)).snapshot == 2
    report = await verify_batch(cluster.store, 4, world.trust, source=world.ledger, now_ms=world.now_ms)
    assert report.ok, report
    assert report.checks[-1].figures["start"] == 2


async def test_what_happened_to_pods_and_keys_is_kept_as_it_was_said(cluster: Cluster) -> None:
    key, digest = "ab" * 32, "cd" * 32
    pod: dict[str, Any] = {"pod_uid": "u", "namespace": "default", "name": "web", "node": "n"}
    basis = Basis(
        chain=digest, registry="0x" + key, policy=digest, sequence=1, digest=digest, log_sequence=2, log_root=digest,
        state_root=digest,
    )  # fmt: skip
    plan = Planned(
        request_id="r", kind="allocation", basis=basis, asked={"objective": {}}, certificate="AA==",
        certificate_digest=digest, method="greedy", timestamp_ms=1, public_key=key, signature=key * 2, simulated=True,
    )  # fmt: skip
    facts = (
        (subjects.ALLOCATION_PLANNED, cluster.enclave, "plans/allocation", plan),
        (subjects.REBALANCE_PLANNED, cluster.enclave, "plans/rebalance", replace(plan, kind="rebalance", asked={})),
        (subjects.PLACEMENT_BOUND, cluster.gateway, "bound", PlacementBound(
            sequence=1, payload_digest=digest, tx_digest="T", decided_ms=2, anchored_ms=3, simulated=True,
            pods=(BoundPod(**pod, index=0, created_ms=1, bound_ms=4),),
        )),
        (subjects.PLACEMENT_BIND_FAILED, cluster.gateway, "bind-failed", PlacementBindFailed(
            **pod, sequence=1, index=0, reason="node-gone", message="no node n", simulated=True,
        )),
        (subjects.PLACEMENT_RECEIVED, cluster.enclave, "receipts", PlacementReceived(
            chain=digest, registry="0x" + key, log_sequence=7, log_root=digest, sequence=1, head=digest, timestamp_ms=1,
            public_key=key, signature=key * 2, simulated=True,
        )),
        (subjects.PLACEMENT_REFUSED, cluster.relay, "refusals", PlacementRefused(
            sequence=1, payload_digest=digest, public_key=key, decided_sequence=1, reason="forged", message="no",
            simulated=True,
        )),
        (subjects.ENCLAVE_REVOKED, cluster.relay, "revocations", EnclaveRevoked(
            public_key=key, enclave=None, reason="nonce", message="no", simulated=True,
        )),
        (subjects.POLICY_DECIDED, cluster.enclave, "access", PolicyDecided(
            chain=digest, registry="0x" + key, policy=digest, policy_version=1, public_key=key, simulated=True,
            decisions=(AccessRecord(
                account="0x" + key, stake_sui=1, stake_version=1, verb="get", group="", resource="pods", subresource="",
                namespace="n", timestamp_ms=1, log_sequence=1, allowed=True, outcome="permitted", policies=("p",),
                expires_ms=2, signature="ab" * 64,
            ),),
        )),
    )  # fmt: skip
    await cluster.storage.start()
    for subject, bus, _, fact in facts:
        for _ in range(2):
            await bus.publish(subject, fact, message_id=cluster.fact_id())

    async def kept() -> bool:
        return len([kv async for kv in cluster.etcd.prefix(cluster.store.keys.root)]) == 13

    await cluster.enclave.publish(
        subjects.ALLOCATION_PLANNED, replace(plan, kind="elsewhere/x"), message_id=cluster.fact_id()
    )

    async def refused() -> bool:
        return [letter.reason for letter in await cluster.dead_letters()] == ["plan-kind"]

    await until(refused, "a plan whose kind would be another key")
    await until(kept, "facts in etcd")
    for _, _, folder, fact in facts:
        values = [kv.value async for kv in cluster.etcd.prefix(f"{cluster.store.keys.root}{folder}/")]
        assert values
        kept_as = next(fact.each()) if isinstance(fact, PlacementBound) else fact
        assert all(decode(value, type(kept_as)) == kept_as for value in values)


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.2])
async def test_killed_at_any_moment_it_goes_on_and_the_chain_has_no_gap(cluster: Cluster, moment: float) -> None:
    world = small_world(12)
    await cluster.storage.start()
    await cluster.publish_log(world)
    await cluster.publish_registration(world)
    for fact in (await cluster.decide(world)).values():
        await cluster.anchor(fact)
    await asyncio.sleep(moment)  # the moment of the kill, not a wait for something
    await cluster.storage.kill()
    await cluster.storage.start()
    await latest_is(cluster, 12)
    assert await all_verify(cluster, world) == [True] * 12
    assert not await cluster.dead_letters()


async def test_an_outage_of_etcd_is_waited_out_and_shows_as_not_ready(cluster: Cluster) -> None:
    world = small_world(3)
    await cluster.storage.start()
    await cluster.publish_log(world)
    await cluster.publish_registration(world)
    facts = await cluster.decide(world)
    await cluster.anchor(facts[1])
    await latest_is(cluster, 1)
    await cluster.etcd_server.kill()
    await cluster.anchor(facts[2])
    await cluster.etcd_server.restart()
    await cluster.anchor(facts[3])
    await latest_is(cluster, 3)
    assert await all_verify(cluster, world) == [True] * 3
    assert cluster.storage.running
    assert not await cluster.dead_letters()


async def test_an_idle_process_stays_small(cluster: Cluster) -> None:
    await cluster.storage.start()
    assert cluster.storage.rss_bytes() < 120 * 1024 * 1024


async def test_settings_that_contradict_each_other_refuse_to_start(tmp_path: Path) -> None:
    process = Process(
        "storage",
        ["python", "-m", "daas.storage"],
        log_path=tmp_path / "log",
        env={"DAAS_STORAGE_ETCD_KEY_FILE": "/nowhere"},
        announces=False,
    )
    await process.start()
    assert await process.wait() == 2
    assert "go together" in process.log_tail()
