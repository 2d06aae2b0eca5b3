"""Real servers for the gateway's tests: a development API server and helpers to fill it; a log and facts in memory."""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from daas.common import merkle
from daas.common.bus import StoredMessage
from daas.common.decision import leaf_bcs, payload_digest
from daas.common.envelope import seal
from daas.common.errors import Conflict, NotFound, Unavailable
from daas.common.messages import (
    DecidedLeaf,
    Header,
    Message,
    PlacementAnchored,
    PlacementBound,
    PlacementDecided,
    encode,
)
from daas.common.subjects import PLACEMENT_DECIDED, ROOT, Service, Stream, Subject, prefix
from daas.kube import KubeClient

# The makers of sealed Secrets are those of the library's own tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "libs/secrets/tests/support"))

READY_S = 30.0
CLUSTER = "test"


class ApiServerProcess:
    """The development API server of one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process: asyncio.subprocess.Process | None = None
        self.kubeconfig = Path()

    async def start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "daas.devstack.apiserver", "--state", str(self.state), *arguments]
        with (self.state / "stderr.log").open("ab") as stderr:
            self.process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=stderr)
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), READY_S)
        assert line, (self.state / "stderr.log").read_text()
        self.kubeconfig = Path(json.loads(line)["kubeconfig"])

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


class Cluster:
    """Creates nodes and pods, and reads them back."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client

    async def node(self, name: str, *, cpu: str = "4", pods: int = 110, **spec: Any) -> None:
        await self.client.request(
            "POST",
            "/api/v1/nodes",
            body={"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"n": name}}, "spec": spec},
        )
        resources = {"cpu": cpu, "memory": "8Gi", "pods": str(pods)}
        await self.client.request(
            "PATCH",
            f"/api/v1/nodes/{name}/status",
            content_type="application/merge-patch+json",
            body={"status": {"capacity": resources, "allocatable": resources}},
        )

    async def patch_node(self, name: str, body: dict[str, Any]) -> None:
        await self.client.request(
            "PATCH", f"/api/v1/nodes/{name}", content_type="application/merge-patch+json", body=body
        )

    async def delete_node(self, name: str) -> None:
        await self.client.request("DELETE", f"/api/v1/nodes/{name}")

    async def pod(
        self, name: str, *, cpu: str = "500m", scheduler: str = "k3s-daas", namespace: str = "default", **spec: Any
    ) -> str:
        """Creates a pod and returns its uid."""
        body = await self.client.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/pods",
            body={
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "schedulerName": scheduler,
                    "containers": [{"name": "c", "image": "busybox", "resources": {"requests": {"cpu": cpu}}}],
                    **spec,
                },
            },
        )
        uid: str = json.loads(body)["metadata"]["uid"]
        return uid

    async def get_pod(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.client.request("GET", f"/api/v1/namespaces/default/pods/{name}"))
        return found

    async def delete_pod(self, name: str) -> None:
        await self.client.request("DELETE", f"/api/v1/namespaces/default/pods/{name}", query={"gracePeriodSeconds": 0})

    async def set_phase(self, name: str, phase: str) -> None:
        await self.client.request(
            "PATCH",
            f"/api/v1/namespaces/default/pods/{name}/status",
            content_type="application/merge-patch+json",
            body={"status": {"phase": phase}},
        )

    async def bind(self, name: str, node: str) -> None:
        """Binds as another scheduler would."""
        await self.client.request(
            "POST",
            f"/api/v1/namespaces/default/pods/{name}/binding",
            body={
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            },
        )

    async def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self.client.request("GET", "/api/v1/namespaces/default/events"))[
            "items"
        ]
        return found


class MemoryFacts:
    """PLACEMENT in memory: facts are stored once per message id; refusals can be ordered."""

    cluster = CLUSTER

    def __init__(self) -> None:
        self.facts: list[tuple[str, Any]] = []
        self.ids: set[str] = set()
        self.decided: dict[int, StoredMessage] = {}
        self.refusals = 0

    async def publish(
        self, subject: Subject, body: Message | bytes, *, message_id: str, after: int | None = None
    ) -> int:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the bus is away", reason="test")
        if message_id not in self.ids:
            if after not in (None, self._newest(subject)):
                raise Conflict(f"not after {after}", reason="not-after")
            self.ids.add(message_id)
            self.facts.append((subject.name, body))
        return len(self.facts)

    def _newest(self, subject: Subject) -> int:
        return max((at for at, (name, _) in enumerate(self.facts, 1) if name == subject.name), default=0)

    def _stored(self, sequence: int) -> StoredMessage:
        name, body = self.facts[sequence - 1]
        headers = seal(Service.GATEWAY, f"{ROOT}.{name}", f"id-{sequence}")
        return StoredMessage(f"{prefix(CLUSTER)}.{name}", sequence, encode(body), headers, 1_000)

    async def fetch(self, stream: Stream, sequence: int) -> StoredMessage:
        if stream is not Stream.PLACEMENT or sequence not in self.decided:
            raise NotFound(f"no message {sequence}", reason="no-message")
        return self.decided[sequence]

    async def last(self, subject: Subject) -> StoredMessage | None:
        newest = self._newest(subject)
        return self._stored(newest) if newest else None

    async def stream_bounds(self, stream: Stream) -> tuple[int, int]:
        assert stream is Stream.PLACEMENT
        return 1, len(self.facts)

    async def read(
        self, stream: Stream, *, start: int = 1, subjects: Sequence[Subject] | None = None
    ) -> AsyncGenerator[StoredMessage, None]:
        assert stream is Stream.PLACEMENT
        assert subjects is not None
        for sequence in range(start, len(self.facts) + 1):
            if self.facts[sequence - 1][0] in {subject.name for subject in subjects}:
                yield self._stored(sequence)

    def put_decided(self, sequence: int, decided: PlacementDecided) -> None:
        self.decided[sequence] = StoredMessage(PLACEMENT_DECIDED.full(CLUSTER), sequence, encode(decided), {}, 1_000)

    def named(self, name: str) -> list[Any]:
        bodies = [body for subject, body in self.facts if subject == name]
        return [one for body in bodies for one in (body.each() if isinstance(body, PlacementBound) else [body])]


def make_decided(
    sequence: int, places: list[tuple[str, str, str | None]], *, expires_ms: int = 2**52, reasons: int = 0
) -> PlacementDecided:
    """A decision about (uid, name, node) triples in the namespace default, consistent with itself."""
    leaves = tuple(
        DecidedLeaf(
            pod_uid=uid, namespace="default", name=name, resource_version="1", node=node, score=1, reasons=reasons
        )
        for uid, name, node in places
    )
    header = Header(
        chain="11" * 32,
        registry="0x" + "22" * 32,
        sequence=sequence,
        previous="00" * 32,
        log_sequence=1,
        log_root="33" * 32,
        policy="44" * 32,
        state_root="55" * 32,
        decisions=merkle.root([leaf_bcs(leaf) for leaf in leaves]).hex(),
        count=len(leaves),
        expires_ms=expires_ms,
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


def make_anchored(decided: PlacementDecided, decided_sequence: int) -> PlacementAnchored:
    """The anchor of a decision."""
    return PlacementAnchored(
        sequence=decided.header.sequence,
        payload_digest=decided.payload_digest,
        public_key=decided.public_key,
        decided_sequence=decided_sequence,
        tx_digest=hashlib.sha256(decided.payload_digest.encode()).hexdigest()[:44],
        checkpoint=1,
        timestamp_ms=2_000,
        simulated=True,
    )


@pytest.fixture
async def apiserver(tmp_path: Path) -> AsyncIterator[ApiServerProcess]:
    state = tmp_path / "apiserver"
    state.mkdir()
    server = ApiServerProcess(state)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def cluster(apiserver: ApiServerProcess) -> AsyncIterator[Cluster]:
    async with await KubeClient.connect(apiserver.kubeconfig) as client:
        yield Cluster(client)


@pytest.fixture
def memory_facts() -> MemoryFacts:
    return MemoryFacts()


@pytest.fixture
def decide() -> Callable[..., PlacementDecided]:
    return make_decided


@pytest.fixture
def anchor() -> Callable[[PlacementDecided, int], PlacementAnchored]:
    return make_anchored


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Waits for a condition, with a deadline."""

    async def wait(condition: Callable[[], object], what: str, deadline_s: float = 20.0) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while not condition():
            assert loop.time() < end, what
            await asyncio.sleep(0.01)

    return wait
