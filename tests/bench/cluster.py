"""Pods per second from creation to bound through a whole stack, beside a bare client that only binds."""

import asyncio
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from support.cluster import create_namespace, create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.facts import kube_of, running

from daas.kube import bind
from daas.kube.client import KubeClient

NODES = (100, 5_000)
PODS = 1_000
CONCURRENCY = 32


async def _bare(client: KubeClient, nodes: int) -> float:
    """Binds per second of a client that does nothing else."""
    await create_namespace(client, "bare")
    await create_pods(client, [pod(f"bare-{n}", "bare", schedulerName="nobody") for n in range(PODS)])
    pods = await list_pods(client, "bare")
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(index: int) -> None:
        meta = pods[index].metadata
        async with slots:
            target = f"node-{index % nodes}"
            await bind(client, namespace="bare", name=meta.name, uid=meta.uid, node=target, annotations={})

    started = time.perf_counter()
    await asyncio.gather(*(one(index) for index in range(PODS)))
    return PODS / (time.perf_counter() - started)


async def _whole(client: KubeClient) -> float:
    """Pods per second from the first creation to the last bind."""
    await create_namespace(client, "whole")
    started = time.perf_counter()
    await create_pods(client, [pod(f"whole-{n}", "whole") for n in range(PODS)])
    await wait_for_pods(client, "whole", lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)
    return PODS / (time.perf_counter() - started)


async def run() -> None:
    """Prints the table."""
    table = Table("nodes", "created → bound, pods/s", "bare binds/s (floor)", "ratio", box=None)
    for nodes in NODES:
        with tempfile.TemporaryDirectory() as directory:
            async with running(Path(directory)) as stack, kube_of(stack) as client:
                await create_nodes(client, [node(f"node-{n}") for n in range(nodes)])
                whole = await _whole(client)
                bare = await _bare(client, nodes)
        table.add_row(str(nodes), f"{whole:,.0f}", f"{bare:,.0f}", f"{whole / bare:.2f}")
    Console().print(table)
