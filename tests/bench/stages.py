"""Pods per second through each stage, at 100 and 5,000 nodes and batches of 1, 20, 200 and 512.

Alone: the bare engine; engine, signature and message; the check that every receiver makes; the bus with our library and
with raw nats-py. Together: log -> enclave process -> verified decision, and the same on to the anchored fact.
"""

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import nats
from rich.console import Console
from rich.table import Table
from support.facts import bus_of, running

from daas.attestation import NsmClient
from daas.common import messages, subjects
from daas.common.bus import Bus
from daas.common.decision import check_decided
from daas.common.facts import fact_of
from daas.common.messages import PlacementAnchored, PlacementDecided
from daas.common.subjects import Service, Stream
from daas.devstack.stack import Stack
from daas.enclave.identity import Identity
from daas.enclave.messages import decided as message_of
from daas.placement import Applied, Genesis, Policy, Scheduler
from daas.placement.log import LogEntry, NodeUpserted, PodUpserted, encode_entry
from daas.placement.model import Node, Pod

NODES = (100, 5_000)
BATCHES = (1, 20, 200, 512)
#: Each cell runs about this long; a table is then read in a minute.
CELL_S = 1.5
#: Five kinds of pods, as five ReplicaSets would bring.
KINDS = ((100, 128), (250, 256), (500, 512), (50, 64), (1000, 1024))
_uid = itertools.count()


def entries(batch: int, count: int) -> list[bytes]:
    """Log entries of `batch` new pods each."""
    made = []
    for _ in range(count):
        pods = [_pod(next(_uid)) for _ in range(batch)]
        events = tuple(PodUpserted(pod=pod) for pod in pods)
        made.append(encode_entry(LogEntry(timestamp_ms=time.time_ns() // 1_000_000, source="gateway", events=events)))
    return made


def node_entries(nodes: int) -> list[bytes]:
    """Log entries that bring the nodes."""
    now_ms = time.time_ns() // 1_000_000
    events = [NodeUpserted(node=_node(number)) for number in range(nodes)]
    return [
        encode_entry(LogEntry(timestamp_ms=now_ms, source="gateway", events=tuple(events[at : at + 512])))
        for at in range(0, nodes, 512)
    ]


def _node(number: int) -> Node:
    return msgspec.convert(
        {
            "metadata": {"name": f"node-{number}", "uid": f"node-{number}", "resourceVersion": "1"},
            "status": {"allocatable": {"cpu": "4096", "memory": "8192Gi", "pods": "100000"}},
        },
        type=Node,
    )


def _pod(number: int) -> Pod:
    cpu, memory = KINDS[number % len(KINDS)]
    requests = {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}
    return msgspec.convert(
        {
            "metadata": {"name": f"pod-{number}", "namespace": "bench", "uid": f"pod-{number}", "resourceVersion": "1"},
            "spec": {
                "schedulerName": "k3s-daas",
                "containers": [{"name": "c", "resources": {"requests": requests}}],
            },
        },
        type=Pod,
    )


class Engine:
    """A scheduler with its nodes loaded."""

    def __init__(self, nodes: int) -> None:
        self._scheduler = Scheduler(Genesis(chain=bytes(32), registry=bytes(32), policy=Policy()))
        self._log_sequence = 0
        for entry in node_entries(nodes):
            self.apply(entry)

    def apply(self, entry: bytes) -> Applied:
        """Folds the next entry."""
        self._log_sequence += 1
        return self._scheduler.apply(self._log_sequence, entry)


def _rate(batch: int, step: Callable[[], object]) -> float:
    """Pods per second of a step that handles one batch."""
    step()
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < CELL_S:
        step()
        rounds += 1
    return rounds * batch / (time.perf_counter() - started)


def alone(identity: Identity, nodes: int, batch: int) -> dict[str, float]:
    """The stages that need no server."""
    engine = Engine(nodes)
    pool = iter(entries(batch, max(20, 120_000 // batch)))
    bare = _rate(batch, lambda: engine.apply(next(pool)))
    applied = engine.apply(entries(batch, 1)[0])
    decision, fairness = applied.decision, applied.fairness
    assert decision is not None
    signed = _rate(batch, lambda: messages.encode(message_of(decision, fairness, identity, simulated=True)))
    message = message_of(decision, fairness, identity, simulated=True)
    checked = _rate(batch, lambda: check_decided(message))
    return {"engine (floor)": bare, "sign + encode": signed, "check": checked}


async def over_the_bus(stack: Stack, bus: Bus, batch: int) -> dict[str, float]:
    """One entry published and acknowledged after the other, with raw nats-py and with our bus."""
    entry = entries(batch, 1)[0]
    connection = await nats.connect(stack.nats.url)
    jetstream = connection.jetstream()
    subject = subjects.METADATA_CHANGED
    rates = {}
    for name in ("nats-py (floor)", "bus"):
        started, rounds = time.perf_counter(), 0
        while time.perf_counter() - started < CELL_S:
            if name == "bus":
                await bus.publish(subject, entry, message_id=bus.unique())
            else:
                await jetstream.publish(subject.full(stack.cluster), entry)
            rounds += 1
        rates[name] = rounds * batch / (time.perf_counter() - started)
    await connection.close()
    return rates


async def together(bus: Bus, batch: int) -> dict[str, float]:
    """Log to verified decision, and on to the anchored fact, with entries enough to keep everybody busy."""
    count = max(12, min(150, 6_000 // batch))
    pool = entries(batch, count)
    _, before = await bus.stream_bounds(Stream.PLACEMENT)
    started = time.perf_counter()
    last = 0
    for entry in pool:
        last = await bus.publish(subjects.LOG_CLUSTER, entry, message_id=bus.unique())
    decided_s = anchored_s = 0.0
    wanted = 0
    rows = [subjects.PLACEMENT_DECIDED, subjects.PLACEMENT_ANCHORED]
    async with contextlib.aclosing(bus.read(Stream.PLACEMENT, start=before + 1, subjects=rows)) as facts:
        async for stored in facts:
            if stored.subject.endswith(subjects.PLACEMENT_DECIDED.name):
                decided = fact_of(stored, subjects.PLACEMENT_DECIDED, PlacementDecided)
                check_decided(decided)
                if decided.header.log_sequence == last:
                    decided_s, wanted = time.perf_counter() - started, decided.header.sequence
            elif fact_of(stored, subjects.PLACEMENT_ANCHORED, PlacementAnchored).sequence == wanted:
                anchored_s = time.perf_counter() - started
                break
    return {"log → decided": count * batch / decided_s, "log → anchored": count * batch / anchored_s}


async def _measure(directory: Path, nodes: int) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    async with running(directory) as stack, bus_of(stack, Service.GATEWAY) as bus:
        await stack.kill("gateway")  # the benchmark writes the log itself
        with NsmClient.open(stack.ready("nsm", "socket")) as nsm:
            identity = Identity(nsm)
        for entry in node_entries(nodes):
            await bus.publish(subjects.LOG_CLUSTER, entry, message_id=bus.unique())
        for batch in BATCHES:
            rates = await asyncio.to_thread(alone, identity, nodes, batch)
            rates |= await over_the_bus(stack, bus, batch)
            rates |= await together(bus, batch)
            found[batch] = rates
    return found


async def run() -> None:
    """Prints one table for each number of nodes, in pods per second; ratios are to the floor."""
    console = Console()
    for nodes in NODES:
        with tempfile.TemporaryDirectory() as directory:
            found = await _measure(Path(directory), nodes)
        table = Table("pods/s", *(f"batch {batch}" for batch in BATCHES), box=None, title=f"{nodes} nodes")
        for stage in found[BATCHES[0]]:
            table.add_row(stage, *(f"{found[batch][stage]:,.0f}" for batch in BATCHES))
        ratios = (("log → decided", "engine (floor)"), ("bus", "nats-py (floor)"))
        for stage, floor in ratios:
            cells = (f"{found[batch][stage] / found[batch][floor]:.2f}" for batch in BATCHES)
            table.add_row(f"{stage} / {floor}", *cells, style="dim")
        console.print(table)
