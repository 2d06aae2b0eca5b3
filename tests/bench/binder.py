"""Bindings per second of a gateway process that has large anchored decisions to carry out, beside a bare client.

The bare client does nothing but bind, over the same HTTP client: once alone, and once on a server that has the watches
to serve which the gateway holds too, since a binder has to know pods and nodes. Their lines are received and thrown
away. The floor counts against the latter; the ratio to the former stands beside it.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table
from support.cluster import create_namespace, create_nodes, create_pods, list_pods, node, pod

from daas.common import merkle
from daas.common.bus import Bus, BusSettings
from daas.common.decision import leaf_bcs, payload_digest
from daas.common.facts import fact_of
from daas.common.messages import DecidedLeaf, Header, PlacementAnchored, PlacementBound, PlacementDecided
from daas.common.subjects import PLACEMENT_ANCHORED, PLACEMENT_BOUND, PLACEMENT_DECIDED, Service, Stream
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.gateway.watcher import NODES_PATH, PODS_PATH
from daas.kube import bind
from daas.kube.client import KubeClient

NODES = 100
PODS = 4_096
BATCH = 512
BARE_CONCURRENCY = (8, 32)
CLUSTER = "bench"
WAIT_S = 300.0


@dataclass
class Watch:
    """Seconds that pass, and processor seconds of some processes, from `start` on."""

    processes: dict[str, psutil.Process]
    started: float = 0.0
    used: dict[str, float] | None = None

    def _used(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in self.processes.items()}

    def start(self) -> None:
        self.used, self.started = self._used(), time.perf_counter()

    def row(self, who: str) -> tuple[str, float, str]:
        """Name, pods per second, and processor microseconds a pod of each process."""
        rate = PODS / (time.perf_counter() - self.started)
        assert self.used is not None
        spent = {name: (used - self.used[name]) / PODS * 1e6 for name, used in self._used().items()}
        return who, rate, ", ".join(f"{name} {value:.0f}" for name, value in spent.items())


async def _listen(client: KubeClient, path: str) -> None:
    """A watch whose lines nobody reads."""
    version = msgspec.json.decode(await client.request("GET", path, query={"limit": 1}))["metadata"]["resourceVersion"]
    query = {"watch": "true", "resourceVersion": version}
    async with contextlib.aclosing(client.stream(path, query=query, read_timeout_s=600.0)) as groups:
        async for _ in groups:
            pass


async def _bare(
    client: KubeClient, namespace: str, concurrency: int, watch: Watch, *, watching: bool
) -> tuple[str, float, str]:
    """A client that does nothing else."""
    await create_namespace(client, namespace)
    await create_pods(client, [pod(f"bare-{n}", namespace, schedulerName="nobody") for n in range(PODS)])
    pods = await list_pods(client, namespace)
    slots = asyncio.Semaphore(concurrency)

    async def one(index: int) -> None:
        meta = pods[index].metadata
        async with slots:
            target = f"node-{index % NODES}"
            await bind(client, namespace=namespace, name=meta.name, uid=meta.uid, node=target, annotations={})

    paths = (PODS_PATH, NODES_PATH) if watching else ()
    watches = [asyncio.create_task(_listen(client, path)) for path in paths]
    watch.start()
    await asyncio.gather(*(one(index) for index in range(PODS)))
    row = watch.row(f"bare client, {concurrency} in flight{', watching' if watching else ''}")
    for task in watches:
        task.cancel()
    await asyncio.gather(*watches, return_exceptions=True)
    return row


def _decided(sequence: int, leaves: tuple[DecidedLeaf, ...]) -> PlacementDecided:
    """A decision that agrees with itself; who signed it is not the binder's question."""
    header = Header(
        chain="11" * 32,
        registry="0x" + "22" * 32,
        sequence=sequence,
        previous="00" * 32,
        log_sequence=sequence,
        log_root="33" * 32,
        policy="44" * 32,
        state_root="55" * 32,
        decisions=merkle.root([leaf_bcs(leaf) for leaf in leaves]).hex(),
        count=len(leaves),
        expires_ms=2**52,
    )
    return PlacementDecided(
        header=header,
        payload_digest=payload_digest(header).hex(),
        timestamp_ms=1_000,
        public_key="66" * 32,
        signature="77" * 64,
        simulated=True,
        leaves=leaves,
    )


async def _gateway(client: KubeClient, nats: NatsServer, watch: Watch) -> tuple[str, float, str]:
    """The gateway, from the first anchor to the last fact."""
    await create_namespace(client, "ours")
    await create_pods(client, [pod(f"ours-{n}", "ours") for n in range(PODS)])
    pods = await list_pods(client, "ours")
    settings = BusSettings(nats_url=nats.url, cluster=CLUSTER)
    async with Bus(Service.ENCLAVE, settings) as enclave, Bus(Service.RELAY, settings) as relay:
        anchors = []
        for sequence, start in enumerate(range(0, PODS, BATCH), 1):
            leaves = tuple(
                DecidedLeaf(
                    pod_uid=one.metadata.uid,
                    namespace="ours",
                    name=one.metadata.name,
                    resource_version="1",
                    node=f"node-{(start + offset) % NODES}",
                    score=1,
                    reasons=0,
                )
                for offset, one in enumerate(pods[start : start + BATCH])
            )
            decided = _decided(sequence, leaves)
            stored = await enclave.publish(PLACEMENT_DECIDED, decided, message_id=f"decided/{sequence}")
            anchors.append(
                PlacementAnchored(
                    sequence=sequence,
                    payload_digest=decided.payload_digest,
                    public_key=decided.public_key,
                    decided_sequence=stored,
                    tx_digest="bench",
                    checkpoint=1,
                    timestamp_ms=time.time_ns() // 1_000_000,
                    simulated=True,
                )
            )
        watch.start()
        for anchor in anchors:
            await relay.publish(PLACEMENT_ANCHORED, anchor, message_id=f"anchored/{anchor.payload_digest}")
        told = 0
        async with (
            asyncio.timeout(WAIT_S),
            contextlib.aclosing(relay.read(Stream.PLACEMENT, subjects=[PLACEMENT_BOUND])) as facts,
        ):
            async for fact in facts:
                told += len(fact_of(fact, PLACEMENT_BOUND, PlacementBound).pods)
                if told == PODS:
                    break
        return watch.row("gateway: decision, checks, bind, fact")


async def run() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        (state / "api").mkdir()
        api = Process(
            "apiserver",
            [sys.executable, "-m", "daas.devstack.apiserver", "--state", str(state / "api")],
            log_path=state / "api.log",
            env={},
        )
        async with NatsServer(state / "nats") as nats:
            ready = await api.start()
            kubeconfig = Path(ready["kubeconfig"])
            gateway = Process(
                "gateway",
                [sys.executable, "-m", "daas.gateway"],
                log_path=state / "gateway.log",
                env={
                    "DAAS_NATS_URL": nats.url,
                    "DAAS_CLUSTER": CLUSTER,
                    "DAAS_GATEWAY_KUBECONFIG": str(kubeconfig),
                    "DAAS_GATEWAY_TRUST_RELAY": "true",
                },
            )
            async with await KubeClient.connect(kubeconfig) as client:
                await create_nodes(client, [node(f"node-{n}", cpu="64", pods=500) for n in range(NODES)])
                async with Bus(Service.RELAY, BusSettings(nats_url=nats.url, cluster=CLUSTER)) as bus:
                    await bus.declare()
                server, bench = psutil.Process(ready["pid"]), psutil.Process()
                watch = Watch({"API server": server, "client": bench})
                rows = [
                    await _bare(client, f"bare-{n}-{watching}".lower(), n, watch, watching=watching)
                    for watching in (False, True)
                    for n in BARE_CONCURRENCY
                ]
                await gateway.start()
                watch = Watch({"API server": server, "gateway": psutil.Process(gateway.pid)})
                rows.append(await _gateway(client, nats, watch))
                await gateway.terminate()
            await api.terminate()
    alone, best = (max(rate for who, rate, _ in rows[:-1] if who.endswith("watching") is one) for one in (False, True))
    columns = ("who", "pods/s", "of the best that watches", "of the best alone", "processor time a pod, µs")
    table = Table(*columns, box=None)
    for who, rate, spent in rows:
        floor = "" if who.startswith("bare") else " (floor 0.80)"
        table.add_row(who, f"{rate:,.0f}", f"{rate / best:.2f}{floor}", f"{rate / alone:.2f}", spent)
    Console(width=140).print(table)
