"""Kill -9 of gateway, storage, etcd and Walrus while pods, configuration and Secrets come: all once, nothing leaks."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from support.cluster import PodView, create_nodes, node, pod, wait_for_pods
from support.facts import (
    Facts,
    assert_chain_is_whole,
    assert_every_bind_was_anchored_first,
    bus_of,
    dead_letters,
    kube_of,
    placement_facts,
    running,
    stored,
)
from support.followers import Followers, following
from support.sealed_work import create_sealed, managed_namespace, opened, patiently, staked_reader
from support.stored_once import assert_stored_once, files_in_walrus, holders, places

from daas.cli.context import Context, load_context
from daas.cli.verify import anchor_source, evidence_store, now_ms, trust_of
from daas.common.subjects import Service, Stream
from daas.devstack.stack import Stack
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore, Keys
from daas.evidence.metadata import MetadataRecord, public_objects
from daas.evidence.verify import verify_all
from daas.kube import KubeClient
from daas.kube.client import MERGE_PATCH

pytestmark = [pytest.mark.connected]

NAMESPACE = "chaos"
#: In the ConfigMaps that hold what they should not. They are the API server's alone.
MARK = "swordfish-7b1e"
#: Begins every value of a Secret, which are nobody's: sealed before they are stored.
SEALED_MARK = "plaintext-that-nobody-keeps-93ce"
VICTIMS = ("gateway", "storage", "etcd", "walrus")
#: What moves on with time.
MOVING = ("latest", "metadata", "policies", "walrus")
#: Comes before its manifest, and again where that was lost: what it says is then the same.
REPEATED = ("parts", "pods")
SETTLE_S = 240.0
CREATORS = 32


@dataclass(frozen=True)
class Run:
    """How much happens; the seed decides when what dies."""

    pods: int
    changes: int
    secrets: int
    #: How often each of the victims is killed.
    kills: int
    seed: int


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[bytearray]:
    """Everything that is said on the bus."""
    heard = bytearray()

    async def hear(message: Any) -> None:
        heard.extend(message.subject.encode() + str(message.headers).encode() + message.data)

    tap = await nats.connect(url)
    try:
        await tap.subscribe(">", cb=hear)
        await tap.flush()
        yield heard
    finally:
        await tap.close()


async def kill_and_restart(stack: Stack, victim: str) -> None:
    if victim == "etcd":
        await stack.etcd.kill()
        await stack.etcd.restart()
        return
    await stack.kill(victim)
    await (stack.start_walrus() if victim == "walrus" else stack.start_service(victim))


async def create_pods(client: KubeClient, names: list[str]) -> None:
    """Pods that say nothing of their scheduler: admission does, as often as it takes."""
    slots = asyncio.Semaphore(CREATORS)

    async def one(name: str) -> None:
        body = pod(name, NAMESPACE)
        del body["spec"]["schedulerName"]
        async with slots:
            await patiently(client, "POST", f"/api/v1/namespaces/{NAMESPACE}/pods", body)

    await asyncio.gather(*map(one, names))


async def write_configuration(client: KubeClient, rng: random.Random, changes: int) -> None:
    """ConfigMaps made, changed and deleted at random; every tenth holds what it should not."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    alive: set[str] = set()
    for number in range(changes):
        name = f"config-{rng.randrange(max(4, changes // 10))}"
        data = {"n": str(number)} if number % 10 else {"env": f"DB_PASSWORD={MARK}"}
        if name not in alive:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
            await patiently(client, "POST", path, body)
            alive.add(name)
        elif rng.random() < 0.2:
            await patiently(client, "DELETE", f"{path}/{name}")
            alive.remove(name)
        else:
            patch = {"data": {"n": None, "env": None} | data}
            await patiently(client, "PATCH", f"{path}/{name}", patch, content_type=MERGE_PATCH)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not await condition():
        assert time.monotonic() < deadline, f"not within {SETTLE_S} s: {what}"
        await asyncio.sleep(0.2)


async def public_of(client: KubeClient) -> dict[str, dict[str, str] | None]:
    """What storage should know of the namespace's ConfigMaps: their data, or nothing where it may not."""
    listed = json.loads(await client.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps"))
    found = {item["metadata"]["name"]: item.get("data", {}) for item in listed["items"]}
    return {name: None if MARK in str(data) else data for name, data in found.items()}


async def known_of(etcd: EtcdClient, keys: Keys) -> dict[str, dict[str, str] | None]:
    records: list[MetadataRecord] = [
        r async for r in public_objects(etcd, keys, "ConfigMap") if r.namespace == NAMESPACE
    ]
    return {r.name: r.object["data"] if r.object else None for r in records}


@dataclass
class Stage:
    """One run's stack, and those who look at it."""

    stack: Stack
    client: KubeClient
    etcd: EtcdClient
    keys: Keys
    context: Context
    followers: Followers
    heard: bytearray


RUNS = [
    pytest.param(Run(pods=120, changes=60, secrets=16, kills=1, seed=1), id="small", marks=pytest.mark.timeout(600)),
    *(
        pytest.param(
            Run(pods=2_000, changes=500, secrets=200, kills=3, seed=seed),
            id=f"full-{seed}",
            marks=[pytest.mark.soak, pytest.mark.timeout(1_800)],
        )
        for seed in range(4)
    ),
]


@pytest.mark.parametrize("run", RUNS)
async def test_after_kills_of_all_that_store_every_fact_is_there_once_and_no_secret_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    state = tmp_path / "state"
    begin = time.monotonic()
    async with running(state) as stack, kube_of(stack) as client, EtcdClient([stack.etcd.endpoint]) as etcd:
        monkeypatch.setenv("DAAS_CONTEXT", str(stack.context_path))
        context = load_context()
        keys = Keys(context.cluster)

        async with listening(stack.nats.url) as heard, following(stack, etcd, keys.root) as followers:
            stage = Stage(stack, client, etcd, keys, context, followers, heard)
            values = await live_through_it(stage, run)
            final = await wait_for_pods(client, NAMESPACE, lambda seen: _bound(seen) == run.pods + 1, timeout_s=1)
            facts, newest = await assert_placements_are_whole(stage, final)
            async with evidence_store(context) as store:
                await assert_evidence_is_whole(stage, store, final, newest)
            await assert_every_fact_is_kept_once(stage, facts)
            await assert_watches_missed_nothing(stage, facts)
            reader = await staked_reader(stack, context, tmp_path / "reader.key")
            assert await opened(client, context, reader, NAMESPACE, list(values)) == values
            await assert_nothing_leaked(stage, state)
    print(f"{run}: {newest} batches, {followers.resumed} resumed, {time.monotonic() - begin:.0f} s")


async def live_through_it(stage: Stage, run: Run) -> dict[str, bytes]:
    """Everything is written while the four die in turn; returns the values of the Secrets."""
    rng, client = random.Random(run.seed), stage.client
    values = {f"secret-{n}": f"{SEALED_MARK}-{rng.randbytes(8).hex()}".encode() for n in range(run.secrets)}
    await create_nodes(client, [node(f"node-{n}") for n in range(20)])
    await managed_namespace(client, NAMESPACE)
    async with asyncio.TaskGroup() as writing:
        writing.create_task(create_pods(client, [f"pod-{n}" for n in range(run.pods)]))
        writing.create_task(write_configuration(client, rng, run.changes))
        writing.create_task(create_sealed(client, NAMESPACE, values))
        victims = [victim for _ in range(run.kills) for victim in rng.sample(VICTIMS, len(VICTIMS))]
        shares = sorted(rng.uniform(0.02, 0.9) for _ in victims)
        for victim, share in zip(victims, shares, strict=True):
            await wait_for_pods(client, NAMESPACE, partial(_share_bound, share * run.pods), timeout_s=SETTLE_S)
            await kill_and_restart(stage.stack, victim)
    await wait_for_pods(client, NAMESPACE, lambda seen: _bound(seen) == run.pods, timeout_s=SETTLE_S)
    # The gateway's watches have resumed: what comes now is seen as well.
    await create_pods(client, ["afterwards"])
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "afterwards"}, "data": {"n": "last"}}
    await patiently(client, "POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", body)
    await wait_for_pods(client, NAMESPACE, lambda seen: _bound(seen) == run.pods + 1, timeout_s=SETTLE_S)

    async def told() -> bool:
        return await known_of(stage.etcd, stage.keys) == await public_of(client)

    await until(told, "public configuration as the API server has it")
    return values


async def assert_placements_are_whole(stage: Stage, final: list[PodView]) -> tuple[Facts, int]:
    """Every pod was bound once, where an anchored decision said; the facts, and the number of the newest batch."""
    bound_to = {one.metadata.uid: one.spec.node_name for one in final}

    async def told() -> bool:
        return len((await placement_facts(stage.stack)).bound) >= len(bound_to)

    await until(told, f"facts of {len(bound_to)} bindings")
    facts = await placement_facts(stage.stack)
    await assert_chain_is_whole(stage.stack, facts)
    assert_every_bind_was_anchored_first(facts)
    assert {one.pod_uid: one.node for one in facts.bound} == bound_to
    return facts, max(anchor.sequence for anchor in facts.anchored)


async def assert_evidence_is_whole(stage: Stage, store: EvidenceStore, final: list[PodView], newest: int) -> None:
    """Evidence of every batch is in etcd and in Walrus, once, verifies, and tells of every pod."""
    context, etcd = stage.context, stage.etcd

    async def archived() -> bool:
        kept = [kv async for kv in etcd.prefix(f"{stage.keys.root}bound/{NAMESPACE}/")]
        return await store.latest() == newest and len(kept) == len(final)

    await until(archived, f"evidence of batch {newest} and {len(final)} bindings")
    async with anchor_source(context, offline=False) as source:
        reports = [report async for report in verify_all(store, trust_of(context), source=source, now_ms=now_ms())]
    assert [report.sequence for report in reports if report.ok] == list(range(1, newest + 1)), reports
    for one in final:
        decision = await store.newest_decision(NAMESPACE, one.metadata.name, one.metadata.uid)
        assert decision.node == one.spec.node_name
    await assert_stored_once(etcd, stage.keys, namespace=NAMESPACE, newest=newest, pods=len(final))
    files = await files_in_walrus(stage.stack.ready("walrus", "url"), stage.stack.state_dir / "walrus" / "blobs")
    assert not [name for name, count in files.items() if count > 1], "in Walrus more than once"
    assert len([name for name in files if name.startswith("evidence-")]) == newest


async def assert_every_fact_is_kept_once(stage: Stage, facts: Facts) -> None:
    """What the bus said of Secrets, keys, failures and receipts is in etcd: all of it, and nothing else."""
    cluster, keys = stage.stack.cluster, stage.keys
    wanted: dict[str, bytes] = {}
    async with bus_of(stage.stack) as bus:
        for stream in (Stream.SECRET, Stream.ENCLAVE):
            for message in await stored(bus, stream):
                context, _, fact = message.subject.removeprefix(f"daas.v1.{cluster}.").partition(".")
                public_key = str(msgspec.json.decode(message.data).get("public_key"))
                if context == "secret" and fact in {"sealed", "opened", "denied"}:
                    wanted[keys.secret_fact(fact, message.sequence)] = message.data
                elif context == "enclave" and fact in {"attested", "registered", "revoked"}:
                    of_key = {
                        "attested": keys.attestations, "registered": keys.registrations, "revoked": keys.revocations,
                    }[fact](public_key)  # fmt: skip
                    wanted[f"{of_key}{message.sequence:020d}"] = message.data
    folders = ("secrets", "attestations", "registrations", "revocations")

    async def kept() -> dict[str, bytes]:
        return {kv.key: kv.value for folder in folders async for kv in stage.etcd.prefix(f"{keys.root}{folder}/")}

    async def complete() -> bool:
        return (await kept()).keys() >= wanted.keys()

    await until(complete, f"{len(wanted)} facts about Secrets and keys")
    assert await kept() == wanted
    assert sum(key.startswith(f"{keys.root}secrets/sealed/") for key in wanted) > 0
    failed = {keys.bind_failed(one.namespace, one.name, one.pod_uid, one.sequence) for one in facts.bind_failed}

    async def failures() -> bool:
        return {kv.key async for kv in stage.etcd.prefix(f"{keys.root}bind-failed/")} == failed

    await until(failures, f"{len(failed)} failed bindings")
    async for kv in stage.etcd.prefix(keys.root):
        moves = kv.key.removeprefix(keys.root).partition("/")[0] in {*MOVING, *REPEATED}
        assert moves or kv.version == 1, f"{kv.key} was written {kv.version} times"


async def assert_watches_missed_nothing(stage: Stage, facts: Facts) -> None:
    """The monitor has been told of every binding once; the watch on etcd has seen every change once."""
    followers, etcd = stage.followers, stage.etcd

    async def heard_of_all() -> bool:
        return len(heard()) >= len(facts.bound)

    def heard() -> list[str]:
        return [one["pod_uid"] for _, body in followers.bound for one in body["pods"]]

    await until(heard_of_all, f"events of {len(facts.bound)} bindings")
    numbers = [number for number, _ in followers.bound]
    assert numbers == sorted(set(numbers)), "an event came twice, or late"
    assert heard() == [one.pod_uid for one in facts.bound]
    last = await etcd.put(f"{stage.keys.root}zz-last", b"")

    async def seen_the_last() -> bool:
        return bool(followers.changes) and followers.changes[-1].kv.mod_revision >= last

    await until(seen_the_last, "the watch on etcd has caught up")
    history = []
    async for event in etcd.watch(stage.keys.root, start_revision=1):
        history.append(event)
        if event.kv.mod_revision >= last:
            break
    seen = [event for event in followers.changes if event.kv.mod_revision <= last]
    assert [(e.change, e.kv) for e in seen] == [(e.change, e.kv) for e in history]
    said: dict[str, bytes] = {}
    for event in history:
        if event.kv.key.removeprefix(stage.keys.root).partition("/")[0] in REPEATED:
            assert said.setdefault(event.kv.key, event.kv.value) == event.kv.value
    await etcd.delete(f"{stage.keys.root}zz-last")


async def assert_nothing_leaked(stage: Stage, state: Path) -> None:
    """No value of a Secret on the bus, in any file or log; of what a ConfigMap should not hold nothing was told on."""
    mark = MARK.encode()
    async for kv in stage.etcd.prefix(stage.keys.root, page_keys=100):
        assert mark not in kv.value, kv.key
    async with bus_of(stage.stack, Service.OPERATOR) as bus:
        for stream in (Stream.LOG, Stream.METADATA, Stream.PLACEMENT, Stream.SECRET, Stream.DLQ, Stream.STORAGE):
            for message in await stored(bus, stream):
                assert mark not in message.data, f"{stream} {message.sequence}"
    assert not await dead_letters(stage.stack)
    found = places(state, {"the bus": bytes(stage.heard)})
    assert b"secret.seal" in found["the bus"], "the tap heard nothing of Secrets"
    assert not holders(SEALED_MARK.encode(), found)
    assert {Path(place).relative_to(state).parts[0] for place in holders(mark, found)} <= {"apiserver"}


def _share_bound(least: float, pods: list[PodView]) -> bool:
    return _bound(pods) >= least


def _bound(pods: list[PodView]) -> int:
    return sum(1 for p in pods if p.spec.node_name)
