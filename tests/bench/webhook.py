"""The authorization webhook at a fixed rate: latency through the enclave beside the same server's bare round trip.

Requests are sent on schedule whether or not earlier ones were answered, and timed from when they were due, so that a
stall counts for everybody it delayed. The caller shares the machine with everything that it measures.
"""

import asyncio
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from support.enclave_world import CLUSTER, REGISTRY, World, open_world

from daas.common.messages import ChainStakeChanged
from daas.common.subjects import CHAIN_STAKE_CHANGED
from daas.devstack.process import Process
from daas.kube.install import Installation, install

RATE = 300
SECONDS = 10
ACCOUNT = "0x" + "ab" * 32
SUI = 10**9


def review(user: str, namespace: str) -> dict[str, Any]:
    """About one Secret; answers are remembered by the namespace, not by the name."""
    attributes = {"verb": "get", "version": "v1", "resource": "secrets", "namespace": namespace, "name": "s"}
    spec = {"user": user, "groups": ["daas:accounts"], "resourceAttributes": attributes}
    return {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": spec}


async def measure(session: aiohttp.ClientSession, url: str, make: Callable[[int], dict[str, Any]]) -> list[float]:
    """Seconds from when each request was due to its answer, sorted."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.05
    took: list[float] = []

    async def one(number: int) -> None:
        due = begin + number / RATE
        await asyncio.sleep(max(0.0, due - loop.time()))
        async with session.post(url, json=make(number)) as response:
            status = (await response.json())["status"]
        assert status["denied"] is False, status
        took.append(loop.time() - due)

    await asyncio.gather(*(one(number) for number in range(RATE * SECONDS)))
    return sorted(took)


def row(title: str, took: list[float], floor: list[float]) -> str:
    def at(values: list[float], share: float) -> float:
        return values[min(int(len(values) * share), len(values) - 1)] * 1000

    ratio = at(took, 0.99) / at(floor, 0.99)
    return f"{title:46s} {at(took, 0.5):8.2f} {at(took, 0.99):8.2f} {took[-1] * 1000:8.2f} {ratio:8.2f}"


async def stake(world: World) -> None:
    fact = ChainStakeChanged(
        registry=REGISTRY,
        tx_digest="t",
        event_index=0,
        checkpoint=1,
        timestamp_ms=1,
        simulated=True,
        account=ACCOUNT,
        change="deposited",
        amount_mist=5000 * SUI,
        bonded_mist=5000 * SUI,
        unbonding_mist=0,
    )
    await world.relay.publish(CHAIN_STAKE_CHANGED, fact, message_id="stake")


async def serve(world: World, directory: Path) -> tuple[Process, Process]:
    """An API server that nobody asks, and a gateway that answers webhooks."""
    state = directory / "apiserver"
    state.mkdir()
    apiserver = Process(
        "apiserver",
        ["python", "-m", "daas.devstack.apiserver", "--state", str(state)],
        log_path=directory / "apiserver.log",
    )
    ready = await apiserver.start()
    files = directory / "daas"
    install(files, Installation("https://127.0.0.1:1", prefix=files, kms_socket=None))
    gateway = Process(
        "gateway",
        ["python", "-m", "daas.gateway"],
        log_path=directory / "gateway.log",
        env={
            "DAAS_NATS_URL": world.nats.url,
            "DAAS_CLUSTER": CLUSTER,
            "DAAS_GATEWAY_KUBECONFIG": ready["kubeconfig"],
            "DAAS_GATEWAY_TRUST_RELAY": "true",
            "DAAS_GATEWAY_WEBHOOK_CERTIFICATE_FILE": str(files / "pki/gateway.crt"),
            "DAAS_GATEWAY_WEBHOOK_KEY_FILE": str(files / "pki/gateway.key"),
            "DAAS_GATEWAY_WEBHOOK_CLIENT_CA_FILE": str(files / "pki/ca.crt"),
        },
    )
    await gateway.start()
    return apiserver, gateway


async def run() -> None:
    """Prints milliseconds: median, 99th percentile, longest, and the 99th as a multiple of the floor's."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        async with open_world(directory) as world:
            enclave = await world.enclave()
            await stake(world)
            apiserver, gateway = await serve(world, directory)
            try:
                await compare(gateway, enclave, directory)
            finally:
                await gateway.terminate()
                await apiserver.terminate()


def cpu_s(*processes: Process) -> list[float]:
    """Processor time of each so far, in seconds."""
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return [each.user + each.system for each in times]


async def compare(gateway: Process, enclave: Process, directory: Path) -> None:
    pki = directory / "daas" / "pki"
    tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    tls.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
    connector = aiohttp.TCPConnector(limit=32, ssl=tls)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(gateway.ready["http"] + "/status") as response:
            url = (await response.json())["webhooks"] + "/authz"
        user = f"sui:{ACCOUNT}"
        await measure_warm(session, url, user)
        floor = await measure(session, url, lambda n: review("system:node:a", f"s{n}"))
        before = cpu_s(gateway, enclave)
        through = await measure(session, url, lambda n: review(user, f"s{n}"))
        spent = [after - at for after, at in zip(cpu_s(gateway, enclave), before, strict=True)]
        kept = await measure(session, url, lambda _: review(user, "s"))
    print(f"{RATE} requests/s for {SECONDS} s {'':23s} {'p50 ms':>8s} {'p99 ms':>8s} {'max ms':>8s} {'x floor':>8s}")
    print(row("bare round trip: an exempt identity (floor)", floor, floor))
    print(row("answered from the gateway's memory", kept, floor))
    print(row("through the enclave, each signed and recorded", through, floor))
    each = [1000 * seconds / (RATE * SECONDS) for seconds in spent]
    print(f"processor time of each through the enclave: gateway {each[0]:.2f} ms, enclave {each[1]:.2f} ms")


async def measure_warm(session: aiohttp.ClientSession, url: str, user: str) -> None:
    """Asks until the stake is known and an answer comes, then once more on every connection."""
    deadline = time.monotonic() + 30
    while True:
        async with session.post(url, json=review(user, "warm")) as response:
            status = (await response.json())["status"]
        if not status["denied"]:
            break
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.2)
    await asyncio.gather(*(session.post(url, json=review(user, f"w{n}")) for n in range(32)))
