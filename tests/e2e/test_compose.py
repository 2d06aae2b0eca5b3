"""`docker compose up` brings the whole system up; a killed container comes back; the state outlives `down` and `up`.

Pods are placed and proved, Secrets are sealed at admission, opened by stake and encrypted at rest, all from the host.

Needs a Docker engine and the images (`docker compose build`). Prometheus is started where its image is; Grafana is left
out, since its image comes from a registry.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods

from daas.kube.client import KubeClient

ROOT = Path(__file__).resolve().parents[2]
KEY_SERVERS = ("key-server-1", "key-server-2", "key-server-3")
SERVICES = ("gateway", "enclave", "relay", "storage", "seal-keeper", "kms", *KEY_SERVERS)
SERVERS = ("nats", "ledger", "kubernetes", "etcd", "walrus")
IMAGES = (
    *("devstack:0.1.0", "nats:2.12.2", "etcd:3.5.21"),
    *(f"{name}:0.1.0" for name in ("gateway", "enclave", "relay", "storage", "sealkeeper", "cli")),
)
PORTS = ("KUBERNETES", "LEDGER", "NATS", "ETCD", "PROMETHEUS")
UP_TIMEOUT_S = 300.0
PASSWORD = "plaintext-that-nobody-may-keep-51d2"
TOKEN = "plaintext-that-the-store-may-not-keep-0b7c"

pytestmark = [pytest.mark.connected, pytest.mark.timeout(1200)]


def compose_command() -> list[str] | None:
    """`docker compose` or `docker-compose`, whichever is installed."""
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


COMPOSE = compose_command()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Project:
    """One compose project of its own name and ports."""

    name: str
    environment: dict[str, str]
    directory: Path

    def compose(self, *arguments: str, check: bool = True, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        assert COMPOSE is not None
        argv = [*COMPOSE, "-p", self.name, "-f", str(ROOT / "docker-compose.yml"), *arguments]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def inspect(self, service: str) -> dict[str, Any]:
        # Asked of the engine, over and over: compose itself takes a second to say it.
        labels = {"project": self.name, "service": service, "oneoff": "False"}
        filters = [f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        listed = subprocess.run(["docker", "ps", "-aq", *filters], capture_output=True, text=True, check=True)
        container = listed.stdout.strip()
        assert container, f"{service} has no container"
        shown = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(shown.stdout)[0]
        return found

    def logs(self) -> str:
        return self.compose("logs", "--tail=25", check=False).stdout

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + UP_TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"not {what} after {UP_TIMEOUT_S} s:\n{self.logs()}"
            time.sleep(0.5)

    def healthy(self, service: str) -> bool:
        state = self.inspect(service)["State"]
        return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

    def up(self) -> float:
        """Starts everything; returns after how many seconds every service was healthy."""
        started = time.monotonic()
        self.compose("up", "-d", "--no-build", *SERVICES)
        for service in SERVICES:
            self.wait(f"{service} healthy", lambda service=service: self.healthy(service))  # type: ignore[misc] # bound
        return time.monotonic() - started

    def down(self, *arguments: str) -> None:
        self.compose("down", "-t", "20", *arguments)

    def kubeconfig(self) -> Path:
        path = self.directory / "kubeconfig"
        path.write_text(self.compose("exec", "-T", "kubernetes", "cat", "/run/people/kubeconfig").stdout)
        path.chmod(0o600)
        return path

    def daas(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.compose("run", "--rm", "-T", "daas", *arguments, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    if COMPOSE is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.skip("no Docker engine with compose answers here")
    for image in IMAGES:
        if subprocess.run(["docker", "image", "inspect", f"k3s-daas/{image}"], capture_output=True).returncode != 0:
            pytest.skip(f"k3s-daas/{image} has not been built here: docker compose build")
    ports = {f"DAAS_PORT_{name}": str(free_port()) for name in PORTS}
    made = Project(f"daas-test-{os.getpid()}", {**os.environ, **ports}, tmp_path)
    try:
        yield made
    finally:
        made.down("-v", "--remove-orphans")


async def place(kubeconfig: Path, namespace: str, *, nodes: int = 0, count: int = 20) -> None:
    """Creates pods through the published API server and waits until each is bound."""
    async with await KubeClient.connect(kubeconfig) as client:
        if nodes:
            await create_nodes(client, [node(f"node-{n}") for n in range(nodes)])
        await create_namespace(client, namespace)
        await create_pods(client, [pod(f"pod-{n}", namespace) for n in range(count)])
        await wait_for_pods(
            client, namespace, lambda seen: len(seen) == count and all(p.spec.node_name for p in seen), timeout_s=120
        )


async def write_secrets(kubeconfig: Path) -> dict[str, Any]:
    """Creates a namespace of ours, a Secret that asks for sealing and one that does not; what became of the first."""
    async with await KubeClient.connect(kubeconfig) as client:
        managed = {"metadata": {"name": "shop", "labels": {"k3s-daas.io/managed": "true"}}}
        await client.request("POST", "/api/v1/namespaces", body=managed)
        labels = {"k3s-daas.io/seal-policy": "default"}
        for name, marks, value in (("db", labels, PASSWORD), ("plain", {}, TOKEN)):
            body = {"metadata": {"name": name, "labels": marks}, "stringData": {"password": value}}
            await client.request("POST", "/api/v1/namespaces/shop/secrets", body=body)
        found: dict[str, Any] = json.loads(await client.request("GET", "/api/v1/namespaces/shop/secrets/db"))
        return found


async def read_plain(kubeconfig: Path) -> str:
    async with await KubeClient.connect(kubeconfig) as client:
        found = json.loads(await client.request("GET", "/api/v1/namespaces/shop/secrets/plain"))
        return base64.b64decode(found["data"]["password"]).decode()


def check_secrets(project: Project) -> None:
    """Whoever has the stake opens the sealed one; the API server reads the other; neither lies in its store."""
    opened = project.daas("secret", "open", "shop/db", "--key", "password")
    assert opened.returncode == 0, opened.stdout + opened.stderr
    assert opened.stdout.strip() == PASSWORD
    assert asyncio.run(read_plain(project.kubeconfig())) == TOKEN
    for value in (PASSWORD, TOKEN):
        encoded = base64.b64encode(value.encode()).decode().rstrip("=")
        searched = project.compose(
            "exec", "-T", "kubernetes", "grep", "-rlaF", "-e", value, "-e", encoded, "/state", check=False
        )
        assert searched.returncode == 1, searched.stdout + searched.stderr  # 1: looked and found nothing


def check_prometheus(project: Project) -> None:
    """Where its image is, the container of Prometheus is healthy, reaches every service, and has our alerts."""
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode != 0:
        return
    project.compose("up", "-d", "--no-deps", "--no-build", "prometheus")
    project.wait("prometheus healthy", lambda: project.healthy("prometheus"))

    def ask(what: str) -> Any:
        url = f"http://127.0.0.1:{project.environment['DAAS_PORT_PROMETHEUS']}/api/v1/{what}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def all_up() -> bool:
        targets = ask("targets")["activeTargets"]
        return len(targets) == 10 and all(target["health"] == "up" for target in targets)

    project.wait("every target up", all_up)
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, "unknown: not evaluated yet"


def test_pods_are_placed_from_the_host_through_kills_and_a_restart_and_everything_verifies(project: Project) -> None:
    first_s = project.up()
    asyncio.run(place(project.kubeconfig(), "first", nodes=3))
    check_prometheus(project)

    stored = asyncio.run(write_secrets(project.kubeconfig()))
    assert set(stored["data"]) == {"password", "k3s-daas.envelope"}
    refused = project.daas("secret", "open", "shop/db", "--key", "password")
    assert refused.returncode == 1
    assert "not-enough-stake" in refused.stdout + refused.stderr
    staked = project.daas("stake", "deposit", "20")
    assert staked.returncode == 0, staked.stdout + staked.stderr
    check_secrets(project)

    for service in (*SERVICES, *SERVERS):
        state = project.inspect(service)["State"]
        os.kill(state["Pid"], signal.SIGKILL)  # as a crash would end it; the engine starts it again
        project.wait(
            f"{service} restarted",
            lambda service=service, pid=state["Pid"]: (  # type: ignore[misc] # bound
                project.inspect(service)["State"]["Pid"] not in {0, pid} and project.healthy(service)
            ),
        )
    for service in SERVICES:
        project.wait(f"{service} healthy again", lambda service=service: project.healthy(service))  # type: ignore[misc] # bound
    asyncio.run(place(project.kubeconfig(), "second"))
    project.compose("stop", "-t", "20", KEY_SERVERS[2])  # two of the three are enough
    check_secrets(project)
    registry = json.loads(project.daas("status", "-o", "json").stdout)["registry"]

    project.down()
    second_s = project.up()
    asyncio.run(place(project.kubeconfig(), "third"))
    check_secrets(project)
    assert json.loads(project.daas("status", "-o", "json").stdout)["registry"] == registry
    verified = project.daas("verify", "all")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    one = project.daas("verify", "pod", "first", "pod-7")
    assert one.returncode == 0, one.stdout + one.stderr
    status = project.daas("status", "-o", "json")
    assert status.returncode == 0, status.stdout + status.stderr
    assert all(each["ready"] for each in json.loads(status.stdout)["key_servers"])
    doctor = project.daas("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    print(f"healthy after {first_s:.0f} s the first time, {second_s:.0f} s the second")


def test_no_container_is_privileged_writable_or_root(project: Project) -> None:
    shown = json.loads(json.dumps(load_config(project)))
    for name, service in shown["services"].items():
        if name in {"k3s", "sui"}:  # of a registry's image, behind a profile
            continue
        assert service["read_only"] is True, name
        assert service["user"].split(":")[0] not in {"", "0", "root"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"], name
        assert service.get("privileged") is not True, name
        assert not [port for port in service.get("ports", []) if "127.0.0.1" not in str(port)], name


@pytest.mark.skipif(COMPOSE is None, reason="docker compose is not installed")
@pytest.mark.parametrize("profile", ["sui", "k3s", "tools"])
def test_compose_accepts_each_profile(profile: str) -> None:
    assert COMPOSE is not None
    argv = [*COMPOSE, "-f", str(ROOT / "docker-compose.yml"), "--profile", profile, "config", "--services"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert {"tools": "daas"}.get(profile, profile) in done.stdout.split()


def load_config(project: Project) -> dict[str, Any]:
    """The configuration as compose resolves it."""
    found: dict[str, Any] = yaml.safe_load(project.compose("config").stdout)
    return found
