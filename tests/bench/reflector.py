"""Seconds and memory in which a gateway's live view takes a large cluster, beside only reading the same lists."""

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table
from support.cluster import create_namespace, create_nodes, create_pods, node, pod

from daas.devstack.process import Process
from daas.gateway.appender import AppenderLimits, AppenderMetrics, LogAppender
from daas.gateway.cache import ClusterCache
from daas.gateway.watcher import ClusterWatcher, WatchMetrics
from daas.kube.client import KubeClient
from daas.kube.reflector import PAGE_LIMIT

NODES = 5_000
PODS = 10_000
FLOOR_S = 3.0
FLOOR_MB = 300


async def _stored(_body: bytes, _message_id: str, _time_ms: int) -> int:
    await asyncio.sleep(0)
    return 1


async def _reflect(kubeconfig: Path) -> None:
    registry = CollectorRegistry()
    async with await KubeClient.connect(kubeconfig) as client:
        cache = ClusterCache("k3s-daas")
        appender = LogAppender(
            _stored,
            lambda: time.time_ns() // 1_000_000,
            wants_tick=lambda: False,
            limits=AppenderLimits(),
            metrics=AppenderMetrics(registry),
        )
        watcher = ClusterWatcher(client, cache, appender, lambda: 0, metrics=WatchMetrics(registry))
        tasks = [asyncio.create_task(run) for run in (appender.run(), watcher.follow_nodes(), watcher.follow_pods())]
        await watcher.wait_complete()
        assert (len(cache.nodes), len(cache.pods)) == (NODES, PODS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(kubeconfig: Path) -> None:
    async with await KubeClient.connect(kubeconfig) as client:
        for path in ("/api/v1/nodes", "/api/v1/pods"):
            more = ""
            while True:
                query: dict[str, str | int] = {"limit": PAGE_LIMIT} | ({"continue": more} if more else {})
                body = await client.request("GET", path, query=query)
                more = json.loads(body[: body.index(b'"items"')].rstrip(b", \n") + b"}")["metadata"].get("continue", "")
                if not more:
                    break


def _child(what: str, kubeconfig: Path) -> None:
    """Runs in a process of its own, for its memory; the clock starts when everything is imported."""
    started = time.perf_counter()
    asyncio.run({"reflect": _reflect, "read": _read}[what](kubeconfig))
    took = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"seconds": took, "mb": peak}) + "\n")


def _measure(what: str, kubeconfig: Path) -> dict[str, float]:
    here = Path(__file__).resolve()
    code = f"import sys; sys.path[:0] = {[str(here.parent), str(here.parent.parent)]!r}; import reflector; "
    code += f"from pathlib import Path; reflector._child({what!r}, Path({str(kubeconfig)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def run() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        argv = [sys.executable, "-m", "daas.devstack.apiserver", "--state", str(state / "api")]
        api = Process("apiserver", argv, log_path=state / "api.log", env={})
        kubeconfig = Path((await api.start())["kubeconfig"])
        async with await KubeClient.connect(kubeconfig) as client:
            await create_nodes(client, [node(f"node-{n}") for n in range(NODES)])
            await create_namespace(client, "many")
            for first in range(0, PODS, 2_000):
                await create_pods(client, [pod(f"pod-{n}", "many") for n in range(first, first + 2_000)])
        found = {what: await asyncio.to_thread(_measure, what, kubeconfig) for what in ("read", "reflect")}
        await api.terminate()
    table = Table("what", "seconds", "peak memory, MB", "times the bare read", box=None)
    bare = found["read"]["seconds"]
    table.add_row("reading the lists", f"{bare:.2f}", f"{found['read']['mb']:.0f}", "1.0")
    ours = found["reflect"]
    table.add_row(
        "reflectors, cache and log events",
        f"{ours['seconds']:.2f} (floor {FLOOR_S:.0f})",
        f"{ours['mb']:.0f} (floor {FLOOR_MB})",
        f"{ours['seconds'] / bare:.1f}",
    )
    Console(width=120).print(table)
