"""Several gateways, one Lease: one binds, the others wait; whoever was paused comes back to find that it has lost."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from daas.common.bus import Bus, BusSettings
from daas.common.errors import ConfigurationError
from daas.common.messages import PlacementBound, PodBound, decode
from daas.common.subjects import PLACEMENT_ANCHORED, PLACEMENT_DECIDED, Service, Stream
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.kube import KubeClient, LeaderElector, LeaseTimes, NotLeading

pytestmark = pytest.mark.connected

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/k3s-daas-gateway"
DEADLINE_S = 120.0


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def candidate(client: KubeClient, identity: str, clock: Clock) -> LeaderElector:
    return LeaderElector(
        client,
        namespace="kube-system",
        name="k3s-daas-gateway",
        identity=identity,
        clock_s=clock,
        times=LeaseTimes(15, 10, 0.01),
    )


async def test_one_of_two_leads_until_its_lease_has_stood_still_for_the_whole_time(cluster: Any) -> None:
    ours, theirs = Clock(), Clock()
    a, b = candidate(cluster.client, "a", ours), candidate(cluster.client, "b", theirs)
    await a.acquire()
    a.check()
    assert not await b._attempt()
    theirs.s += 14.9
    assert not await b._attempt(), "it has changed within 15 s of what b saw"
    await a._attempt()
    theirs.s += 0.2
    assert not await b._attempt(), "a renewed: the time starts again"
    theirs.s += 15.1
    ours.s += 10.1
    assert not a.leading, "a gave up before b may take over"
    with pytest.raises(NotLeading, match="does not lead"):
        a.check()
    assert await b._attempt()
    assert not await a._attempt()
    assert (b.holder, a.holder) == ("b", "b")
    lease = json.loads(await cluster.client.request("GET", LEASE))
    assert lease["spec"]["leaseTransitions"] == 1


async def test_of_many_that_grab_a_free_lease_at_once_one_gets_it(cluster: Any) -> None:
    clock = Clock()
    candidates = [candidate(cluster.client, f"c{n}", clock) for n in range(8)]
    won = await asyncio.gather(*(one._attempt() for one in candidates))
    assert sum(won) == 1
    assert sum(one.leading for one in candidates) == 1


async def test_a_lease_given_back_is_free_at_once(cluster: Any) -> None:
    a, b = candidate(cluster.client, "a", Clock()), candidate(cluster.client, "b", Clock())
    await a.acquire()
    await a.release()
    assert not a.leading
    assert await b._attempt()


async def test_a_leader_whose_api_server_is_away_gives_up_in_time(apiserver: Any, cluster: Any) -> None:
    clock = Clock()
    a = candidate(cluster.client, "a", clock)
    await a.acquire()
    await apiserver.kill()
    assert await a._attempt(), "one lost renewal is no loss"
    clock.s += 10.0
    with pytest.raises(NotLeading):
        await a.hold()


@pytest.mark.parametrize("times", [(15, 15, 2), (10, 12, 2), (15, 2, 10), (15, 10, 0)])
def test_times_under_which_two_could_lead_are_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigurationError):
        LeaseTimes(*times)


# Processes -------------------------------------------------------------------------------------------------------


class Pair:
    """Two gateways of one cluster, and the neighbours who speak to them."""

    def __init__(self, gateways: list[Process], enclave: Bus, relay: Bus, decide: Any, anchor: Any) -> None:
        self.gateways = gateways
        self.enclave = enclave
        self.relay = relay
        self._decide = decide
        self._anchor = anchor

    async def place(self, sequence: int, places: list[tuple[str, str, str | None]]) -> None:
        decided = self._decide(sequence, places)
        stored = await self.enclave.publish(PLACEMENT_DECIDED, decided, message_id=f"decided/{sequence}")
        await self.relay.publish(
            PLACEMENT_ANCHORED, self._anchor(decided, stored), message_id=f"anchored/{decided.payload_digest}"
        )

    async def bound(self) -> list[PodBound]:
        first, last = await self.relay.stream_bounds(Stream.PLACEMENT)
        found = [await self.relay.fetch(Stream.PLACEMENT, n) for n in range(max(first, 1), last + 1)]
        facts = [decode(one.data, PlacementBound) for one in found if one.subject.endswith(".placement.bound")]
        return [pod for fact in facts for pod in fact.each()]


async def eventually(probe: Callable[[], Awaitable[Any]], what: str) -> Any:
    end = time.monotonic() + DEADLINE_S
    while not (found := await probe()):
        assert time.monotonic() < end, what
        await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def pair(apiserver: Any, tmp_path: Path, decide: Any, anchor: Any) -> AsyncIterator[Pair]:
    async with NatsServer(tmp_path / "nats") as nats:
        settings = BusSettings(nats_url=nats.url, cluster="test")
        gateways = [
            Process(
                name,
                ["python", "-m", "daas.gateway"],
                log_path=tmp_path / f"{name}.log",
                env={
                    "DAAS_NATS_URL": nats.url,
                    "DAAS_CLUSTER": "test",
                    "DAAS_GATEWAY_KUBECONFIG": str(apiserver.kubeconfig),
                    "DAAS_GATEWAY_TRUST_RELAY": "true",
                    "DAAS_GATEWAY_LEASE": "kube-system/k3s-daas-gateway",
                    "DAAS_GATEWAY_IDENTITY": name,
                    # Long enough for a busy machine: who is starved for less must not lose it.
                    "DAAS_GATEWAY_LEASE_S": "10",
                },
            )
            for name in ("one", "two")
        ]
        async with Bus(Service.ENCLAVE, settings) as enclave, Bus(Service.RELAY, settings) as relay:
            await relay.declare()
            yield Pair(gateways, enclave, relay, decide, anchor)
            for gateway in gateways:
                await gateway.terminate()


@pytest.mark.timeout(240)
async def test_two_gateways_alive_and_one_of_them_paused_bind_every_pod_once(pair: Pair, cluster: Any) -> None:
    await cluster.node("n1", cpu="64", pods=500)
    uids = {f"p{n}": await cluster.pod(f"p{n}", cpu="10m") for n in range(120)}
    names = list(uids)
    one, two = pair.gateways
    await one.start()
    standby = asyncio.create_task(two.start())  # is ready only when it leads
    await pair.place(1, [(uids[name], name, "n1") for name in names[:40]])

    async def some() -> bool:
        return len(await pair.bound()) >= 40

    await eventually(some, "the first gateway does not bind")
    assert not standby.done()

    # Paused as a partition pauses it: what it was about to do, it still wants to do when it wakes up.
    await pair.place(2, [(uids[name], name, "n1") for name in names[40:80]])
    os.kill(one.pid, signal.SIGSTOP)
    await asyncio.wait_for(standby, DEADLINE_S)
    await pair.place(3, [(uids[name], name, "n1") for name in names[80:]])

    async def all_of_them() -> bool:
        return {fact.pod_uid for fact in await pair.bound()} >= set(uids.values())

    os.kill(one.pid, signal.SIGCONT)
    await eventually(all_of_them, "not all are bound")
    facts = await pair.bound()
    assert len(facts) == len(uids), "each exactly once"
    pods = json.loads(await cluster.client.request("GET", "/api/v1/namespaces/default/pods"))["items"]
    assert {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in pods} == {f.pod_uid: f.node for f in facts}

    async def stopped() -> bool:
        return not psutil.pid_exists(one.pid) or psutil.Process(one.pid).status() == psutil.STATUS_ZOMBIE

    await eventually(stopped, "who lost the lease stops")
    lease = json.loads(await cluster.client.request("GET", LEASE))
    assert lease["spec"]["holderIdentity"] == "two"
