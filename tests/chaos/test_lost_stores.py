"""Each store is lost in turn while the system stands still; then it goes on, or says exactly what is lost."""

import asyncio
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import bus_of, kube_of, running

from daas.cli.context import load_context
from daas.cli.verify import check_file, collect_evidence
from daas.common import messages, subjects
from daas.common.errors import Unavailable
from daas.common.messages import PlacementAnchored
from daas.common.subjects import Service, Stream, stream_name
from daas.devstack.stack import Stack
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore

pytestmark = [pytest.mark.soak, pytest.mark.connected, pytest.mark.timeout(900)]

NAMESPACE = "stores"


async def place(stack: Stack, name: str) -> None:
    """Ten more pods, bound."""
    async with kube_of(stack) as client:
        await create_pods(client, [pod(f"{name}-{n}", NAMESPACE) for n in range(10)])
        await wait_for_pods(client, NAMESPACE, lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)


async def stored(stack: Stack) -> int:
    """Waits until the evidence of every anchored batch is stored, and verifies all of it; how many there are."""
    async with bus_of(stack) as bus:
        anchored = await bus.last(subjects.PLACEMENT_ANCHORED)
    assert anchored is not None
    head = messages.decode(anchored.data, PlacementAnchored).sequence
    async with EtcdClient([stack.etcd.endpoint]) as etcd:
        store, deadline = EvidenceStore(etcd, stack.cluster), time.monotonic() + 100
        while await store.latest() < head:
            assert time.monotonic() < deadline, f"evidence up to {await store.latest()} of {head}"
            await asyncio.sleep(0.1)
    found = await daas(stack, "verify", "all", "-o", "json")
    assert found["ok"], [report["failed"] for report in found["reports"] if report["failed"]]
    assert len(found["reports"]) >= head
    return head


async def daas(stack: Stack, *arguments: str) -> dict[str, Any]:
    """A command's JSON."""
    environment = {**os.environ, "DAAS_CONTEXT": str(stack.context_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daas.cli", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return dict(json.loads(output))


async def lose_durables_of_storage(stack: Stack) -> None:
    """What the runbook says before storage starts on an empty etcd: it is to hear everything again."""
    await stack.kill("storage")
    async with bus_of(stack, Service.OPERATOR) as bus:
        for stream in Stream:
            name = stream_name(stack.cluster, stream)
            for consumer in await bus.jetstream.consumers_info(name):
                if (consumer.name or "").startswith("storage-"):
                    await bus.jetstream.delete_consumer(name, consumer.name)


async def test_what_can_be_made_again_is_and_what_cannot_is_named(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with running(state) as stack, kube_of(stack) as client:
        await create_nodes(client, [node(f"node-{n}") for n in range(3)])
        await create_namespace(client, NAMESPACE)
        await place(stack, "first")

    # Outbox of the relay and the states of enclave and gateway: made again from ledger, log and API server.
    for name in ("relay", "enclave", "gateway"):
        shutil.rmtree(state / name, ignore_errors=True)
    async with running(state, DAAS_ENCLAVE_SNAPSHOT_EVERY="1") as stack:
        await place(stack, "second")
        first = await stored(stack)
        # Snapshots of the enclave: folded again from the beginning of the log.
        async with bus_of(stack, Service.ENCLAVE) as bus:
            for name in await bus.list_objects(subjects.SNAPSHOT_BUCKET):
                await bus.delete_object(subjects.SNAPSHOT_BUCKET, name)
        await stack.kill("enclave")
        await stack.start_service("enclave")
        await place(stack, "third")
        assert await stored(stack) > first
        await lose_durables_of_storage(stack)

    # etcd: evidence is written again from what the bus still keeps.
    shutil.rmtree(state / "etcd")
    shutil.rmtree(state / "storage", ignore_errors=True)
    async with running(state) as stack:
        await place(stack, "fourth")
        assert await stored(stack) > first
        context = load_context({"DAAS_CONTEXT": str(stack.context_path)})
        _, evidence = await collect_evidence(context, f"{NAMESPACE}/first-0")
    exported = tmp_path / "first.json"
    exported.write_bytes(evidence)

    # NATS: the log is under the chain of decisions. Nothing goes on, and the enclave says why; proofs stay proofs.
    shutil.rmtree(state / "nats")
    with pytest.raises(Unavailable) as refused:
        async with running(state):
            pass
    assert "log-lost" in (state / "logs" / "enclave.log").read_text(), refused.value.message
    assert (await check_file(context, exported, offline=True)).ok
