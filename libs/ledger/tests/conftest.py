"""The embedded ledger in a process of its own, the Move package published on it, and clusters to anchor for."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common import decision
from daas.common.messages import Header
from daas.ledger import Effects, EnclaveRegistered, Ledger, Registry, SignedBatch, Signer

sys.path.insert(0, str(Path(__file__).parent / "support"))

FAUCET_MIST = 1_000_000_000_000
PCRS = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
POLICY = b"\x0b" * 32


@dataclass
class Server:
    """The embedded ledger as a process."""

    state: Path
    arguments: tuple[str, ...] = ()
    ready: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "daas.devstack.ledger", "--state", str(self.state), *self.arguments]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL, as a crash would do it; nothing where it is not running."""
        if self.process is None:
            return
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    def fund(self, address: str) -> None:
        body = json.dumps({"FixedAmountRequest": {"recipient": address, "amount": FAUCET_MIST}}).encode()
        request = urllib.request.Request(
            self.ready["faucet"], data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status < 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("ledger"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def operator(server: Server) -> Signer:
    signer = Signer(os.urandom(32))
    server.fund(signer.address)
    return signer


@pytest.fixture(scope="module")
def package(server: Server, operator: Signer) -> str:
    async def publish() -> str:
        async with await Ledger.connect(server.url, operator) as ledger:
            publication = await ledger.publish()
            assert len({publication.admin_cap, publication.revoker_cap, publication.upgrade_cap}) == 3
            return publication.package

    return asyncio.run(publish())


@pytest.fixture
async def ledger(server: Server, operator: Signer, package: str) -> AsyncIterator[Ledger]:
    async with await Ledger.connect(server.url, operator, package=package) as connected:
        yield connected


class Cluster:
    """A registry with one registered key, and batches signed by it."""

    def __init__(self, registry: Registry, key: Ed25519PrivateKey, enclave: str) -> None:
        self.registry, self.key, self.enclave = registry, key, enclave

    @classmethod
    async def create(cls, ledger: Ledger) -> "Cluster":
        registry = await ledger.create_registry(simulated=True, policy=POLICY, pcrs=PCRS)
        key = Ed25519PrivateKey.generate()
        cluster = cls(registry, key, "")
        effects = await cluster.register(ledger)
        cluster.enclave = effects.only(EnclaveRegistered).enclave
        return cluster

    async def register(self, ledger: Ledger) -> Effects:
        """Registers the key with the nonce that the registry had when this cluster was made."""
        return await ledger.register_simulated(
            self.registry.address,
            public_key=self.key.public_key().public_bytes_raw(),
            pcrs=PCRS,
            nonce=self.registry.nonce,
            document_digest=bytes(32),
        )

    def batch(self, sequence: int, previous: str = "00" * 32, **changed: Any) -> SignedBatch:
        timestamp_ms = changed.pop("timestamp_ms", time.time_ns() // 1_000_000)
        fields: dict[str, Any] = {
            "chain": self.registry.chain.hex(),
            "registry": self.registry.address,
            "sequence": sequence,
            "previous": previous,
            "log_sequence": sequence,
            "log_root": "11" * 32,
            "policy": POLICY.hex(),
            "state_root": "22" * 32,
            "decisions": "33" * 32,
            "count": 3,
            "expires_ms": timestamp_ms + 30_000,
        }
        header = Header(**(fields | changed))
        message = decision.intent_message(1, timestamp_ms, decision.header_bcs(header))
        return SignedBatch(
            header=header, timestamp_ms=timestamp_ms, signature=self.key.sign(message), enclave=self.enclave
        )


@pytest.fixture
async def cluster(ledger: Ledger) -> Cluster:
    return await Cluster.create(ledger)


@pytest.fixture
def create_cluster() -> Callable[[Ledger], Awaitable[Cluster]]:
    """For tests that bring a ledger of their own."""
    return Cluster.create


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A ledger that the test may kill and start again; not started yet."""
    server = Server(tmp_path / "own-ledger")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def compiled() -> Any:
    """The committed package, loaded once for the tests of a module."""
    from move_machine import Machine  # noqa: PLC0415 - found once this file has extended the path

    return Machine()


@pytest.fixture
def machine(compiled: Any) -> Any:
    """The package at a fixed time, with an empty state."""
    from move_machine import NOW_MS  # noqa: PLC0415 - as above

    compiled.now_ms = NOW_MS
    compiled.fields.clear()
    return compiled
