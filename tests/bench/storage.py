"""Pods per second of evidence through the storage service, in batches of 512, beside raw etcd and the bare disk."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.subjects import Service
from daas.devstack.etcd import EtcdServer
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore, Keys
from daas.evidence.packing import Backend, Value, evidence_value
from daas.evidence.writer import EtcdWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "libs" / "evidence" / "tests" / "support"))

from evidence_world import CLUSTER, World, a_node, a_pod

BATCH: Final = 512
BATCHES: Final = int(os.environ.get("DAAS_TEST_BENCH_BATCHES", "60"))
WANTED: Final = 20_000
DEADLINE_S: Final = 300.0


def history() -> World:
    """Batches of 512 pods that all fit."""
    world = World()
    world.entry(*(a_node(f"node-{n}", cpu="100000") for n in range(400)))
    while len(world.bundles) < BATCHES:
        number = len(world.bundles)
        world.entry(*(a_pod(f"web-{number}-{n}", cpu="1m") for n in range(BATCH)))
    return world


def values_of(world: World) -> list[Value]:
    """What the service would write."""
    keys = Keys(CLUSTER)
    return [evidence_value(keys, bundle, bundle.decision()) for bundle in world.bundles.values()]


async def raw_etcd(directory: Path, values: list[Value]) -> tuple[float, float]:
    """Seconds, and etcd's processor seconds, to write the same keys and bytes with nothing in front: the floor."""
    async with EtcdServer(directory) as server, EtcdClient([server.endpoint], timeout_ms=60_000) as etcd:
        writer = EtcdWriter(etcd, Keys(CLUSTER))
        started = time.perf_counter()
        for at in range(0, len(values), 64):
            group = values[at : at + 64]
            await asyncio.gather(writer.bytes_of(group), writer.index_of(group))
            await writer.manifests(group, Backend.ETCD, {}, ())
        return time.perf_counter() - started, _processor_s(server.pid)


def bare_disk(directory: Path, values: list[Value]) -> float:
    """Seconds to append and sync the same bytes, one batch after the other."""
    started = time.perf_counter()
    with (directory / "floor").open("wb") as file:
        for value in values:
            file.write(value.packed)
            file.write(b"".join(entry.value for entry in value.index))
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - started


async def service(directory: Path, world: World) -> tuple[float, float, float]:
    """Seconds from the first anchored fact to the last bundle, and processor seconds of the service and of etcd."""
    replace = msgspec.structs.replace
    async with NatsServer(directory / "nats") as nats, EtcdServer(directory / "etcd") as etcd_server:
        settings = BusSettings(cluster=CLUSTER, nats_url=nats.url)
        async with (
            Bus(Service.GATEWAY, settings) as gateway,
            Bus(Service.ENCLAVE, settings) as enclave,
            Bus(Service.RELAY, settings) as relay,
            EtcdClient([etcd_server.endpoint], timeout_ms=60_000) as etcd,
        ):
            await relay.declare()
            for number, entry in enumerate(world.log):
                await gateway.publish(subjects.LOG_CLUSTER, entry, message_id=f"log-{number}")
            await enclave.publish(subjects.ENCLAVE_ATTESTED, world.attested, message_id="attested")
            await relay.publish(subjects.ENCLAVE_REGISTERED, world.registered, message_id="registered")
            facts = []
            for sequence, data in world.decided.items():
                at = await enclave.publish(subjects.PLACEMENT_DECIDED, data, message_id=f"decided-{sequence}")
                facts.append(replace(world.bundles[sequence].anchored, decided_sequence=at))
            environment = {
                "DAAS_CLUSTER": CLUSTER,
                "DAAS_NATS_URL": nats.url,
                "DAAS_STORAGE_ETCD_ENDPOINTS": etcd_server.endpoint,
                "DAAS_LOG_LEVEL": "warning",
            }
            argv: list[str | Path] = ["python", "-m", "daas.storage"]
            process = Process("storage", argv, log_path=directory / "storage.log", env=environment)
            async with process:
                store = EvidenceStore(etcd, CLUSTER)
                busy_s, etcd_s = _processor_s(process.pid), _processor_s(etcd_server.pid)
                started = time.perf_counter()
                await asyncio.gather(
                    *(
                        relay.publish(subjects.PLACEMENT_ANCHORED, fact, message_id=f"anchored-{fact.sequence}")
                        for fact in facts
                    )
                )
                while await store.latest() < len(facts):
                    if time.perf_counter() - started > DEADLINE_S:
                        raise SystemExit(f"not stored within {DEADLINE_S} s: {process.log_tail()}")
                    await asyncio.sleep(0.1)
                took_s = time.perf_counter() - started
                return took_s, _processor_s(process.pid) - busy_s, _processor_s(etcd_server.pid) - etcd_s


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run() -> None:
    """Prints pods/s of the service and of both floors, and their ratios."""
    world = await asyncio.to_thread(history)
    values = await asyncio.to_thread(values_of, world)
    pods = sum(bundle.decision().header.count for bundle in world.bundles.values())
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        disk_s = await asyncio.to_thread(bare_disk, directory, values)
        etcd_s, floor_busy_s = await raw_etcd(directory / "floor-etcd", values)
        (directory / "service").mkdir()
        service_s, busy_s, etcd_busy_s = await service(directory / "service", world)
    table = Table("", "pods/s", "of raw etcd", box=None, title=f"{len(values)} batches, {pods} pods")
    for name, seconds in (("bare disk", disk_s), ("raw etcd (floor)", etcd_s), ("storage service", service_s)):
        table.add_row(name, f"{pods / seconds:,.0f}", f"{etcd_s / seconds:.2f}")
    console = Console()
    console.print(table)
    size = sum(len(value.packed) for value in values)
    micro = {name: s / pods * 1e6 for name, s in (("floor", floor_busy_s), ("etcd", etcd_busy_s), ("us", busy_s))}
    console.print(f"wanted: {WANTED:,} pods/s; each pod is {size / pods:.0f} compressed bytes and a key of the index")
    console.print(
        f"processor time for each pod: {micro['us']:.0f} µs of the service and {micro['etcd']:.0f} µs of etcd "
        f"({micro['floor']:.0f} µs at the floor)"
    )
