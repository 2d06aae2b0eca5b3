"""Kill -9 of gateway, storage, etcd and Walrus while pods, configuration and Secrets come: all once, nothing leaks."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.cluster import PodView, create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import (
    assert_chain_is_whole,
    assert_every_bind_was_anchored_first,
    bus_of,
    kube_of,
    placement_facts,
    running,
    stored,
)

from daas.cli.context import load_context
from daas.cli.verify import anchor_source, evidence_store, now_ms, trust_of
from daas.common.subjects import Service, Stream
from daas.devstack.stack import Stack
from daas.etcd import EtcdClient
from daas.evidence import Keys
from daas.evidence.layout import decode_manifest
from daas.evidence.metadata import MetadataRecord, public_objects
from daas.evidence.verify import verify_all
from daas.kube import KubeClient

pytestmark = [pytest.mark.connected]

NAMESPACE = "chaos"
#: In every Secret, and in the ConfigMaps that hold what they should not.
MARK = "swordfish-7b1e"
VICTIMS = ("gateway", "storage", "etcd", "walrus")
SETTLE_S = 180.0


async def kill_and_restart(stack: Stack, victim: str) -> None:
    if victim == "etcd":
        await stack.etcd.kill()
        await stack.etcd.restart()
        return
    await stack.kill(victim)
    await (stack.start_walrus() if victim == "walrus" else stack.start_service(victim))


async def write_configuration(client: KubeClient, rng: random.Random, changes: int) -> None:
    """ConfigMaps made, changed and deleted at random; every tenth holds what it should not."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    alive: set[str] = set()
    for number in range(changes):
        name = f"config-{rng.randrange(max(4, changes // 10))}"
        data = {"n": str(number)} if number % 10 else {"env": f"DB_PASSWORD={MARK}"}
        if name not in alive:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
            await client.request("POST", path, body=body)
            alive.add(name)
        elif rng.random() < 0.2:
            await client.request("DELETE", f"{path}/{name}")
            alive.remove(name)
        else:
            patch = {"data": {"n": None, "env": None} | data}
            await client.request("PATCH", f"{path}/{name}", content_type="application/merge-patch+json", body=patch)


async def write_secrets(client: KubeClient, count: int) -> None:
    for number in range(count):
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"secret-{number}"},
            "stringData": {"password": f"{MARK}-{number}"},
        }
        await client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body=body)


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


@pytest.mark.parametrize(
    ("pods", "changes", "secrets", "seed"),
    [
        pytest.param(120, 60, 15, 1, marks=pytest.mark.timeout(300)),
        *(pytest.param(2_000, 500, 200, s, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]) for s in range(4)),
    ],
)
async def test_after_kills_of_all_that_store_every_fact_is_there_once_and_no_secret_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pods: int, changes: int, secrets: int, seed: int
) -> None:
    rng = random.Random(seed)
    async with running(tmp_path) as stack, kube_of(stack) as client:
        await create_nodes(client, [node(f"node-{n}") for n in range(20)])
        await create_namespace(client, NAMESPACE)
        writing = asyncio.gather(
            create_pods(client, [pod(f"pod-{n}", NAMESPACE) for n in range(pods)]),
            write_configuration(client, rng, changes),
            write_secrets(client, secrets),
        )
        shares = sorted(rng.uniform(0.02, 0.9) for _ in VICTIMS)
        for victim, share in zip(rng.sample(VICTIMS, len(VICTIMS)), shares, strict=True):
            await wait_for_pods(client, NAMESPACE, partial(_share_bound, share * pods), timeout_s=SETTLE_S)
            await kill_and_restart(stack, victim)
        await writing
        await wait_for_pods(client, NAMESPACE, lambda seen: _bound(seen) == pods, timeout_s=SETTLE_S)
        # Watches have resumed: what comes now is seen as well.
        await create_pods(client, [pod("afterwards", NAMESPACE)])
        await write_configuration(client, random.Random(seed + 1), 0)
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "afterwards"}, "data": {"n": "last"}}
        await client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", body=body)
        final = await wait_for_pods(client, NAMESPACE, lambda seen: _bound(seen) == pods + 1, timeout_s=SETTLE_S)

        facts = await placement_facts(stack)
        await assert_chain_is_whole(stack, facts)
        assert_every_bind_was_anchored_first(facts)
        newest = max(anchor.sequence for anchor in facts.anchored)
        monkeypatch.setenv("DAAS_CONTEXT", str(stack.context_path))
        stack.write_context()
        context = load_context()
        keys = Keys(context.cluster)
        async with EtcdClient(context.etcd_endpoints) as etcd, evidence_store(context) as store:

            async def archived() -> bool:
                return await store.latest() == newest

            async def told() -> bool:
                return await known_of(etcd, keys) == await public_of(client)

            await until(archived, f"evidence of batch {newest}")
            await until(told, "public configuration as the API server has it")
            async with anchor_source(context, offline=False) as source:
                reports = [
                    report async for report in verify_all(store, trust_of(context), source=source, now_ms=now_ms())
                ]
            assert [report.sequence for report in reports if report.ok] == list(range(1, newest + 1)), reports
            for one in final:
                decision = await store.newest_decision(NAMESPACE, one.metadata.name, one.metadata.uid)
                assert decision.node == one.spec.node_name
            manifests = [kv async for kv in etcd.prefix(f"{keys.root}evidence/")]
            assert [int(kv.key.rpartition("/")[2]) for kv in manifests] == list(range(1, newest + 1))
            assert all(kv.version == 1 for kv in manifests), "written more than once"
            bound = [kv async for kv in etcd.prefix(f"{keys.root}bound/{NAMESPACE}/")]
            assert len(bound) == len(final)
            assert all(kv.version == 1 for kv in bound)
            patches = await _identifiers(stack.ready("walrus", "url"), tmp_path / "walrus" / "blobs")
            assert not [name for name, count in patches.items() if count > 1], "in Walrus more than once"
            assert len([name for name in patches if name.startswith("evidence-")]) == newest
            await _assert_nothing_leaked(stack, etcd, keys, [decode_manifest(kv.value) for kv in manifests], store)


def _share_bound(least: float, pods: list[PodView]) -> bool:
    return _bound(pods) >= least


def _bound(pods: list[PodView]) -> int:
    return sum(1 for p in pods if p.spec.node_name)


async def _identifiers(url: str, blobs: Path) -> Counter[str]:
    """How often each file is in Walrus."""
    found: Counter[str] = Counter()
    async with aiohttp.ClientSession(url) as session:
        for path in sorted(blobs.glob("*.json")):  # noqa: ASYNC240 - a handful of names
            async with session.get(f"/v1/quilts/{path.stem}/patches") as answer:
                found.update(row["identifier"] for row in await answer.json())
    return found


async def _assert_nothing_leaked(stack: Stack, etcd: EtcdClient, keys: Keys, manifests: list[Any], store: Any) -> None:
    mark = MARK.encode()
    async for kv in etcd.prefix(keys.root, page_keys=100):
        assert mark not in kv.value, kv.key
    for manifest in manifests:
        assert mark not in await store.values.read(manifest)
    async with bus_of(stack, Service.OPERATOR) as bus:
        for stream in (Stream.LOG, Stream.METADATA, Stream.PLACEMENT, Stream.DLQ, Stream.STORAGE):
            for message in await stored(bus, stream):
                assert mark not in message.data, f"{stream} {message.sequence}"
