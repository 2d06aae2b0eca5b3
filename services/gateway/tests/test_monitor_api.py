"""The monitors' API over a running gateway: pages, proofs that verify, events that go on where a client left off."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from daas.common import merkle
from daas.common.bus import Bus, BusSettings
from daas.common.decision import leaf_bcs
from daas.common.messages import DecidedLeaf
from daas.common.subjects import PLACEMENT_ANCHORED, PLACEMENT_DECIDED, Service
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process

pytestmark = [pytest.mark.connected, pytest.mark.timeout(240)]

DEADLINE_S = 120.0


class Monitor:
    """One client of one gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str, pid: int) -> None:
        self.session, self.url, self.pid = session, url, pid

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json()

    async def events(self, count: int, path: str = "", **headers: str) -> list[dict[str, str]]:
        """The first events of a stream, comments left out."""
        found: list[dict[str, str]] = []
        async with self.session.get(f"{self.url}/v1/events{path}", headers=headers) as response:
            assert response.content_type == "text/event-stream"
            event: dict[str, str] = {}
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                elif event:
                    found.append(event)
                    event = {}
                if len(found) == count:
                    break
        return found


@pytest.fixture
async def monitor(apiserver: Any, cluster: Any, tmp_path: Path, decide: Any, anchor: Any) -> AsyncIterator[Monitor]:
    async with NatsServer(tmp_path / "nats") as nats:
        settings = BusSettings(nats_url=nats.url, cluster="test")
        env = {
            "DAAS_NATS_URL": nats.url,
            "DAAS_CLUSTER": "test",
            "DAAS_GATEWAY_KUBECONFIG": str(apiserver.kubeconfig),
            "DAAS_GATEWAY_TRUST_RELAY": "true",
        }
        gateway = Process("gateway", ["python", "-m", "daas.gateway"], log_path=tmp_path / "gateway.log", env=env)
        async with Bus(Service.ENCLAVE, settings) as enclave, Bus(Service.RELAY, settings) as relay:
            await relay.declare()
            await cluster.node("n1")
            uids = {name: await cluster.pod(name) for name in ("a", "b", "c")}
            ready = await gateway.start()
            for number, name in enumerate(("a", "b", "c"), start=1):
                decided = decide(number, [(uids[name], name, "n1"), (f"uid-{number}", f"other-{number}", None)])
                stored = await enclave.publish(PLACEMENT_DECIDED, decided, message_id=f"decided/{number}")
                fact = anchor(decided, stored)
                await relay.publish(PLACEMENT_ANCHORED, fact, message_id=f"anchored/{number}")
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
                async with session.get(ready["http"] + "/status") as response:
                    url = (await response.json())["api"]
                yield Monitor(session, url, gateway.pid)
        await gateway.terminate()


async def test_pages_proofs_nodes_and_events(monitor: Monitor) -> None:
    # Events: from the start, then resumed in the middle, then only one kind.
    every = await monitor.events(9, "?from=1")
    assert {event["event"] for event in every} >= {"placement.decided", "placement.anchored", "placement.bound"}
    ids = [int(event["id"]) for event in every]
    assert ids == sorted(set(ids))
    resumed = await monitor.events(3, **{"Last-Event-ID": every[3]["id"]})
    assert [event["id"] for event in resumed] == [event["id"] for event in every[4:7]]
    bound = await monitor.events(3, "?from=1&facts=placement.bound")
    assert {event["event"] for event in bound} == {"placement.bound"}
    assert {pod["name"] for event in bound for pod in json.loads(event["data"])["pods"]} == {"a", "b", "c"}

    # Pages.
    code, page = await monitor.get("/v1/batches?limit=2")
    assert (code, [one["sequence"] for one in page["batches"]], page["next_after"]) == (200, [1, 2], 2)
    _, rest = await monitor.get("/v1/batches?after=2")
    assert ([one["sequence"] for one in rest["batches"]], rest["next_after"]) == ([3], None)
    code, batch = await monitor.get("/v1/batches/2")
    assert (code, batch["leaves"][0]["name"], batch["batch"]["simulated"]) == (200, "b", True)

    # A proof, verified with nothing but the library.
    code, proof = await monitor.get("/v1/pods/default/c/proof")
    assert code == 200
    leaf = leaf_bcs(DecidedLeaf(**proof["leaf"]))
    path = [bytes.fromhex(one) for one in proof["path"]]
    root = bytes.fromhex(proof["header"]["decisions"])
    assert merkle.verify(root, leaf, proof["index"], proof["header"]["count"], path)
    assert proof["node"] == proof["leaf"]["node"] == "n1"

    # Nodes.
    nodes = (await monitor.get("/v1/nodes"))[1]["nodes"]
    assert (nodes[0]["name"], nodes[0]["pods"], nodes[0]["taken"]["cpu"]) == ("n1", 3, 1500)

    # Refusals.
    for path_, wanted, reason in (
        ("/v1/batches/99", 404, "no-batch"),
        ("/v1/batches/x", 400, "event-id"),
        ("/v1/batches?limit=0", 400, "limit"),
        ("/v1/events?facts=nothing", 400, "unknown-fact"),
        ("/v1/pods/default/nobody/proof", 404, "kube-not-found"),
    ):
        code, answer = await monitor.get(path_)
        assert (code, answer["reason"]) == (wanted, reason), path_


async def test_the_idle_gateway_is_small(monitor: Monitor) -> None:
    assert psutil.Process(monitor.pid).memory_info().rss < 120 * 1024 * 1024


SCHEMATHESIS = os.environ.get("DAAS_TEST_SCHEMATHESIS") or shutil.which(
    "schemathesis", path=str(Path(sys.executable).parent)
)


@pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed")
async def test_the_api_keeps_to_its_own_description(monitor: Monitor) -> None:
    assert SCHEMATHESIS is not None
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        *("run", f"{monitor.url}/openapi.json", "--exclude-path", "/v1/events", "--max-examples", "15"),
        *("--generation-deterministic", "--phases", "examples,coverage,fuzzing", "--no-color"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": "/nonexistent"},
    )
    output, _ = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, output.decode()[-6000:]
