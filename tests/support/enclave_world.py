"""A bus, a software NSM and enclave processes; the test plays gateway and relay."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.facts import fact_of, newest
from daas.common.messages import (
    EnclaveAttested,
    EnclaveChallenged,
    EnclaveRegistered,
    PlacementAnchored,
    PlacementDecided,
)
from daas.common.subjects import Service, Stream
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.placement.log import Event, LogEntry, encode_entry
from daas.placement.model import Node, Pod

CHAIN = bytes([1]) * 32
REGISTRY = "0x" + "22" * 32
NONCE = bytes([3]) * 32
CLUSTER = "test"


def a_node(name: str) -> Node:
    return msgspec.convert(
        {
            "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
            "status": {"allocatable": {"cpu": "64", "memory": "64Gi", "pods": "500"}},
        },
        type=Node,
    )


def a_pod(name: str) -> Pod:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": "1"},
            "spec": {"schedulerName": "k3s-daas", "containers": [{"name": "c"}]},
        },
        type=Pod,
    )


@dataclass
class World:
    """A bus, an NSM and the two services that the test plays."""

    directory: Path
    nats: NatsServer
    nsm: Process
    gateway: Bus
    relay: Bus
    started: list[Process] = field(default_factory=list)

    def process(self, name: str, **environment: str) -> Process:
        """An enclave that is not started yet."""
        return Process(
            name,
            ["python", "-m", "daas.enclave"],
            log_path=self.directory / f"{name}.log",
            env={
                "DAAS_NATS_URL": self.nats.url,
                "DAAS_CLUSTER": CLUSTER,
                "DAAS_ENCLAVE_NSM": self.nsm.ready["socket"],
                **environment,
            },
        )

    async def enclave(self, name: str = "enclave", **environment: str) -> Process:
        process = self.process(name, **environment)
        self.started.append(process)
        starting = asyncio.create_task(process.start())
        await self.register()
        await starting
        return process

    async def challenge(self, sequence: int = 0, payload_digest: str = "0" * 64) -> None:
        await self.relay.publish(
            subjects.ENCLAVE_CHALLENGED,
            EnclaveChallenged(
                chain=CHAIN.hex(),
                registry=REGISTRY,
                nonce=NONCE.hex(),
                sequence=sequence,
                payload_digest=payload_digest,
                simulated=True,
            ),
            message_id=f"challenge-{sequence}",
        )

    async def attested(self) -> tuple[EnclaveAttested, int]:
        """The next attestation that has not been answered."""
        async with contextlib.aclosing(
            self.relay.read(Stream.ENCLAVE, subjects=[subjects.ENCLAVE_ATTESTED, subjects.ENCLAVE_REGISTERED])
        ) as stored:
            answered: set[str] = set()
            pending: list[tuple[EnclaveAttested, int]] = []
            last = (await self.relay.stream_bounds(Stream.ENCLAVE))[1]
            async for message in stored:
                if message.subject.endswith("registered"):
                    answered.add(fact_of(message, subjects.ENCLAVE_REGISTERED, EnclaveRegistered).public_key)
                else:
                    fact = fact_of(message, subjects.ENCLAVE_ATTESTED, EnclaveAttested)
                    pending.append((fact, message.sequence))
                open_ones = [item for item in pending if item[0].public_key not in answered]
                if message.sequence >= last and open_ones:
                    return open_ones[-1]
        raise AssertionError("unreachable")

    async def attested_again(self) -> EnclaveAttested:
        """The newest attestation, answered or not."""
        found = await newest(self.relay, subjects.ENCLAVE_ATTESTED, EnclaveAttested)
        assert found is not None
        return found[0]

    async def register(self, life_ms: int = 3_600_000) -> str:
        attested, _ = await self.attested()
        now_ms = time.time_ns() // 1_000_000
        await self.relay.publish(
            subjects.ENCLAVE_REGISTERED,
            EnclaveRegistered(
                public_key=attested.public_key,
                enclave="0x" + "44" * 32,
                registry=REGISTRY,
                measurement_version=1,
                tx_digest="tx",
                registered_ms=now_ms,
                expires_ms=now_ms + life_ms,
                simulated=True,
            ),
            message_id=f"registered-{attested.public_key}",
        )
        return attested.public_key

    async def log(self, *events: Event, entry_id: str) -> int:
        entry = LogEntry(timestamp_ms=time.time_ns() // 1_000_000, source="gateway", events=events)
        return await self.gateway.publish(subjects.LOG_CLUSTER, encode_entry(entry), message_id=entry_id)

    async def decided(self, sequence: int) -> tuple[PlacementDecided, int]:
        async with contextlib.aclosing(
            self.relay.read(Stream.PLACEMENT, subjects=[subjects.PLACEMENT_DECIDED])
        ) as stored:
            async for message in stored:
                fact = fact_of(message, subjects.PLACEMENT_DECIDED, PlacementDecided)
                if fact.header.sequence == sequence:
                    return fact, message.sequence
        raise AssertionError("unreachable")

    async def anchor(self, decided: PlacementDecided, decided_sequence: int) -> None:
        await self.relay.publish(
            subjects.PLACEMENT_ANCHORED,
            PlacementAnchored(
                sequence=decided.header.sequence,
                payload_digest=decided.payload_digest,
                public_key=decided.public_key,
                decided_sequence=decided_sequence,
                tx_digest="tx",
                checkpoint=None,
                timestamp_ms=0,
                simulated=True,
            ),
            message_id=f"anchored-{decided.payload_digest}",
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


@asynccontextmanager
async def open_world(tmp_path: Path) -> AsyncIterator[World]:
    """A bus, an NSM, and a challenge that no enclave has answered yet."""
    arguments = ("--socket", tmp_path / "nsm", "--state", tmp_path, "--clock-offset-file", tmp_path / "offset")
    nsm = Process(
        "nsm",
        ["python", "-m", "daas.devstack.nsm", "--enclave-per-connection", *arguments],
        log_path=tmp_path / "nsm.log",
    )
    async with NatsServer(tmp_path / "nats") as nats, nsm:
        settings = BusSettings(nats_url=nats.url, cluster=CLUSTER)
        async with (
            await Bus.connect(Service.OPERATOR, settings) as operator,
            await Bus.connect(Service.GATEWAY, settings) as gateway,
            await Bus.connect(Service.RELAY, settings) as relay,
        ):
            await operator.declare()
            world = World(tmp_path, nats, nsm, gateway, relay)
            await world.challenge()
            yield world
            for process in world.started:
                await process.terminate()
