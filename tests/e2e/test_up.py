"""`daas up` keeps the system running, says what to type next, and ends cleanly with Ctrl-C; the state stays."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods

from daas.kube.client import KubeClient

pytestmark = [pytest.mark.connected, pytest.mark.timeout(400)]


@contextmanager
def up(state: Path) -> Iterator[dict[str, str]]:
    """A running `daas up`; yields the environment that its commands need."""
    with (state.parent / "up.log").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "daas.cli", "up", "--state", str(state)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while not (state / "context.json").exists():
            assert process.poll() is None, (state.parent / "up.log").read_text()
            assert time.monotonic() < deadline, "not up after two minutes"
            time.sleep(0.1)
        yield {**os.environ, "DAAS_CONTEXT": str(state / "context.json"), "COLUMNS": "200"}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def daas(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daas.cli", *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


async def place(kubeconfig: Path, namespace: str, *, with_nodes: bool) -> None:
    async with await KubeClient.connect(kubeconfig) as client:
        if with_nodes:
            await create_nodes(client, [node(f"node-{n}") for n in range(3)])
        await create_namespace(client, namespace)
        await create_pods(client, [pod(f"pod-{n}", namespace) for n in range(20)])
        await wait_for_pods(
            client, namespace, lambda seen: len(seen) == 20 and all(p.spec.node_name for p in seen), timeout_s=120
        )


def test_up_serves_its_commands_and_continues_its_chain_after_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as environment:
        context = json.loads((state / "context.json").read_text())
        asyncio.run(place(Path(context["kubeconfig"]), "before", with_nodes=True))
        status = daas(environment, "status")
        assert status.returncode == 0, status.stdout + status.stderr
        for word in ("gateway", "enclave", "relay", "storage", "server-3 answers", "simulated", context["registry"]):
            assert word in status.stdout
        assert json.loads(daas(environment, "status", "-o", "json").stdout)["simulated"] is True
        applied = daas(environment, "bus", "apply")
        assert applied.returncode == 0
        assert "placement.decided" in applied.stdout

    log = (tmp_path / "up.log").read_text()
    for word in ("kubeconfig", "NATS", "ledger", "type next", "simulated", "stopped"):
        assert word in log

    with up(state) as environment:
        again = json.loads((state / "context.json").read_text())
        assert (again["registry"], again["chain"]) == (context["registry"], context["chain"])
        assert again["seal_policies"] == context["seal_policies"]
        public = [[each["public_key"] for each in c["key_servers"]["servers"]] for c in (context, again)]
        assert public[0] == public[1]
        asyncio.run(place(Path(again["kubeconfig"]), "after", with_nodes=False))
        verified = daas(environment, "verify", "all")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        batch = daas(environment, "verify", "batch", "1", "-o", "json")
        assert batch.returncode == 0, batch.stdout + batch.stderr
        assert json.loads(batch.stdout)["simulated"] is True
        pod_verified = daas(environment, "verify", "pod", "after", "pod-3")
        assert pod_verified.returncode == 0, pod_verified.stdout + pod_verified.stderr
        assert "simulated" in pod_verified.stdout
        for arguments in (("verify", "pod", "after", "no-such-pod"), ("verify", "batch", "99999")):
            missing = daas(environment, *arguments)
            assert missing.returncode == 1
            assert "Traceback" not in missing.stderr


def test_watch_prints_readable_facts_and_an_unknown_subject_is_a_clear_error(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as environment:
        context = json.loads((state / "context.json").read_text())
        asyncio.run(place(Path(context["kubeconfig"]), "seen", with_nodes=True))
        watching = subprocess.Popen(
            [sys.executable, "-m", "daas.cli", "watch", "--subject", "placement.bound", "--from-start"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert watching.stdout is not None
            lines = [watching.stdout.readline() for _ in range(20)]
            watching.send_signal(signal.SIGINT)
            watching.communicate(timeout=90)
        finally:
            watching.kill()
            watching.wait()
        assert watching.returncode == 0
        assert all("placement.bound" in line and "seen/pod-" in line and "simulated" in line for line in lines)

        wrong = daas(environment, "watch", "--subject", "nonsense")
        assert wrong.returncode == 1
        assert "no subject nonsense" in wrong.stderr
        assert "Traceback" not in wrong.stderr
