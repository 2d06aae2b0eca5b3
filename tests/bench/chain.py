"""Anchors: interpreted, through the client and the server in two processes, and through the relay at a steady rate.

What is measured stands beside what it is held to and beside the floor of the same run: the disk's own sync, and the
ledger's answer to the same transactions sent one by one.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from support.relay import Enclave, RelayStage

from daas.common import subjects
from daas.common.facts import fact_of
from daas.common.messages import PlacementAnchored
from daas.common.subjects import Stream
from daas.ledger import Ledger, SignedBatch

ROOT = Path(__file__).resolve().parents[2]
INTERPRETER = ROOT / "libs/devstack/tests/ledger/support/measure_anchors.py"
TRANSACTIONS = 300
RATE_PER_S, SECONDS = 20, 20
SYNCS = 200
SYNC_BYTES = 4_096


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of all lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    """Median, 99th percentile and longest, ms."""
    return f"p50 {percentile(values, 0.5):.0f}, p99 {percentile(values, 0.99):.0f}, longest {max(values):.0f} ms"


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def syncs_ms(folder: Path) -> list[float]:
    """How long the disk takes to keep a page."""
    found = []
    with (folder / "sync").open("wb") as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            file.write(bytes(SYNC_BYTES))
            file.flush()
            os.fsync(file.fileno())
            found.append(1000 * (time.perf_counter() - started))
    return found


class Bench:
    """One stage, one table."""

    def __init__(self, stage: RelayStage, table: Table) -> None:
        self.stage = stage
        self.table = table

    async def client(self, enclave: Enclave) -> None:
        """Anchors one by one through the client: build, send, effects."""
        registration = (await self.stage.registrations())[-1]
        sequence, head = await self.stage.head()
        batches = [
            SignedBatch(
                header=decided.header,
                timestamp_ms=decided.timestamp_ms,
                signature=bytes.fromhex(decided.signature),
                enclave=registration.enclave,
            )
            for decided in enclave.chain(TRANSACTIONS, sequence + 1, head)
        ]
        took_ms = []
        pid = self.stage.ledger_process.pid
        async with await Ledger.connect(
            self.stage.ledger_url, self.stage.operator, package=self.stage.package
        ) as ledger:
            started, server_s, client_s = time.perf_counter(), cpu_s(pid), time.process_time()
            for batch in batches:
                sent = time.perf_counter()
                await ledger.submit(await ledger.build_anchor(batch))
                took_ms.append(1000 * (time.perf_counter() - sent))
            elapsed_s = time.perf_counter() - started
        server_ms = 1000 * (cpu_s(pid) - server_s) / TRANSACTIONS
        client_ms = 1000 * (time.process_time() - client_s) / TRANSACTIONS
        self.table.add_row(
            "anchored transactions/s, client and server",
            f"{TRANSACTIONS / elapsed_s:.0f}",
            "60",
            f"{spread(took_ms)}; processor time {client_ms:.1f} + {server_ms:.1f} ms",
        )

    async def relay(self, enclave: Enclave) -> None:
        """Decisions at a steady rate: from the moment one stands in the stream to the moment its anchor does."""
        assert self.stage.relay is not None
        sequence, head = await self.stage.head()
        count = RATE_PER_S * SECONDS
        watched = {"relay": self.stage.relay.pid, "ledger": self.stage.ledger_process.pid}
        before = {name: cpu_s(pid) for name, pid in watched.items()}
        started = time.perf_counter()
        sent: dict[int, int] = {}
        for place in range(count):
            decided = enclave.decide(sequence + 1 + place, head)
            head = decided.payload_digest
            sent[decided.header.sequence] = await self.stage.publish(decided)
            await asyncio.sleep(max(0.0, started + (place + 1) / RATE_PER_S - time.perf_counter()))
        await self.stage.wait_anchored(sequence + count, timeout_s=120)
        used = {name: 1000 * (cpu_s(pid) - before[name]) / count for name, pid in watched.items()}
        latencies = await self._latencies_ms(sequence + 1)
        assert len(latencies) == count
        self.table.add_row(
            f"decided → anchored at {RATE_PER_S}/s, ms",
            f"p99 {percentile(latencies, 0.99):.0f}",
            "150",
            f"{spread(latencies)}; processor time " + ", ".join(f"{n} {ms:.1f} ms" for n, ms in used.items()),
        )

    async def _latencies_ms(self, first: int) -> list[float]:
        """By the times at which the stream took them."""
        stored = await self.stage.stored(Stream.PLACEMENT, subjects.PLACEMENT_DECIDED, subjects.PLACEMENT_ANCHORED)
        taken = {message.sequence: message.time_ms for message in stored}
        anchored = subjects.PLACEMENT_ANCHORED.full(self.stage.monitor.cluster)
        facts = [
            (fact_of(message, subjects.PLACEMENT_ANCHORED, PlacementAnchored), message.time_ms)
            for message in stored
            if message.subject == anchored
        ]
        return [float(at - taken[fact.decided_sequence]) for fact, at in facts if fact.sequence >= first]


async def run() -> None:
    """Prints the table."""
    table = Table("what", "measured", "held to", "beside it", box=None)
    figures = json.loads(await asyncio.to_thread(subprocess.check_output, [sys.executable, str(INTERPRETER)]))
    table.add_row(
        "anchors/s in the interpreter",
        f"{figures['anchors_per_second_interpreter']:,}",
        "1,500",
        f"{figures['anchors_per_second_with_effects']:,}/s with effects",
    )
    with tempfile.TemporaryDirectory() as folder:
        before = syncs_ms(Path(folder))
        async with RelayStage(Path(folder)) as stage:
            await stage.start_relay()
            enclave = await stage.enclave()
            bench = Bench(stage, table)
            await bench.relay(enclave)
            await stage.stop_relay()
            await bench.client(enclave)
        table.add_row(
            "sync of one page (floor)", "", "", f"{spread(before)}; afterwards {spread(syncs_ms(Path(folder)))}"
        )
    Console(width=None if os.isatty(1) else 160).print(table)
