"""Pods per second through the bus: this process -> JetStream on file -> enclave process -> verified decision here.

The other services are stopped for the time, so that a machine with two cores shows what the path itself can do. In the
relay's place this process says of each decision that it is anchored: an enclave makes 256 decisions ahead of the ledger
and then waits. Beside the rate by the clock stands what each process spends on a pod; the dearest of them bounds the
rate on cores of its own.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

from bench.stages import entries, node_entries
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.table import Table
from support.facts import bus_of, running

from daas.common import subjects
from daas.common.bus import Bus, StoredMessage
from daas.common.decision import INTENT_PLACEMENT, check_decided, header_bcs, intent_message
from daas.common.facts import fact_of
from daas.common.messages import PlacementAnchored, PlacementDecided
from daas.common.subjects import Service, Stream
from daas.devstack.stack import Stack

NODES = 5_000
#: Pods in an entry: what a busy gateway sends, and the most that an entry may bring.
BATCHES = (200, 512)
PODS = 40_960
#: Pods a second at 512 a batch.
FLOOR = 20_000
_TICKS_S = os.sysconf("SC_CLK_TCK")


def _seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def _verify(decided: PlacementDecided) -> None:
    """What a receiver checks: the leaves under the header, and the signature over it."""
    check_decided(decided)
    signed = intent_message(INTENT_PLACEMENT, decided.timestamp_ms, header_bcs(decided.header))
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(decided.public_key))
    key.verify(bytes.fromhex(decided.signature), signed)


async def _publish(bus: Bus, pool: list[bytes]) -> int:
    """Publishes entries in order, each stored before the next is sent; the last one's place in the log."""
    last = 0
    for entry in pool:
        last = await bus.publish(subjects.LOG_CLUSTER, entry, message_id=bus.unique())
    return last


async def _anchor(relay: Bus, decided: PlacementDecided, stored: StoredMessage) -> None:
    """What the relay says once the ledger has taken a decision."""
    fact = PlacementAnchored(
        sequence=decided.header.sequence,
        payload_digest=decided.payload_digest,
        public_key=decided.public_key,
        decided_sequence=stored.sequence,
        tx_digest="bench",
        checkpoint=1,
        timestamp_ms=decided.timestamp_ms,
        simulated=True,
    )
    await relay.publish(subjects.PLACEMENT_ANCHORED, fact, message_id=f"anchored/{decided.payload_digest}")


async def _decided(relay: Bus, start: int, pods: int) -> float:
    """Reads, verifies and anchors decisions until so many pods have one; returns when."""
    seen: set[int] = set()
    count = 0
    rows = [subjects.PLACEMENT_DECIDED]
    async with contextlib.aclosing(relay.read(Stream.PLACEMENT, start=start, subjects=rows)) as facts:
        async for stored in facts:
            decided = fact_of(stored, subjects.PLACEMENT_DECIDED, PlacementDecided)
            _verify(decided)
            if decided.header.sequence in seen:  # published again, since it took long: it counts once
                continue
            seen.add(decided.header.sequence)
            await _anchor(relay, decided, stored)
            count += sum(leaf.node is not None for leaf in decided.leaves)
            if count >= pods:
                return time.perf_counter()
    raise AssertionError


async def measure(stack: Stack, bus: Bus, relay: Bus, batch: int, pods: int) -> dict[str, float]:
    """One row of the table."""
    pool = entries(batch, pods // batch)
    pids = {"enclave": stack.pids()["enclave"], "nats": stack.pids()["nats"], "here": os.getpid()}
    _, before = await bus.stream_bounds(Stream.PLACEMENT)
    used = {name: _seconds(pid) for name, pid in pids.items()}
    started = time.perf_counter()
    reading = asyncio.ensure_future(_decided(relay, before + 1, len(pool) * batch))
    await _publish(bus, pool)
    ended = await reading
    spent = {name: (_seconds(pid) - used[name]) / (len(pool) * batch) * 1e6 for name, pid in pids.items()}
    return {"pods/s": len(pool) * batch / (ended - started), **spent}


async def run() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as directory:
        async with (
            running(Path(directory)) as stack,
            bus_of(stack, Service.GATEWAY) as bus,
            bus_of(stack, Service.RELAY) as relay,
        ):
            for name in ("gateway", "relay", "storage"):
                await stack.kill(name)
            for entry in node_entries(NODES):
                await bus.publish(subjects.LOG_CLUSTER, entry, message_id=bus.unique())
            await measure(stack, bus, relay, 512, 4_096)
            rows = {batch: await measure(stack, bus, relay, batch, PODS) for batch in BATCHES}
    table = Table("batch", "pods/s", "floor", "ratio", "enclave µs/pod", "nats µs/pod", "here µs/pod", box=None)
    for batch, row in rows.items():
        cells = [f"{row[name]:.1f}" for name in ("enclave", "nats", "here")]
        table.add_row(str(batch), f"{row['pods/s']:,.0f}", f"{FLOOR:,}", f"{row['pods/s'] / FLOOR:.2f}", *cells)
    Console().print(table)
