"""A cluster for the behaviour tests: the one that DAAS_KUBECONFIG names, or an API server started here.

That is a real kube-apiserver where DAAS_KUBERNETES_BINARIES names the folder of its binary, else the development one.
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client, config

from daas.devstack.kube_apiserver import BINARIES_VARIABLE, command

# Small, so that a test can see a watch run out of history: a real cluster cannot be made to compact.
HISTORY_EVENTS = 300
SIMULATED = not {"DAAS_KUBECONFIG", BINARIES_VARIABLE} & set(os.environ)


@dataclass
class Answer:
    """What the server said."""

    status: int
    body: Any
    headers: Any


class Cluster:
    """Raw requests through the `kubernetes` client: its addresses, credentials and TLS, but no models in between."""

    def __init__(self, api: Any, *, simulated: bool) -> None:
        self.api = api
        self.core = client.CoreV1Api(api)
        self.simulated = simulated

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str], query: dict[str, Any]) -> Any:
        headers = {"Accept": "application/json"} | headers
        prepared = await self.api.param_serialize(
            method,
            path,
            header_params=headers,
            query_params=[(name, str(value)) for name, value in query.items()],
            body=body,
            auth_settings=["BearerToken"],
        )
        return (await self.api.call_api(*prepared, _preload_content=False)).response

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **query: Any
    ) -> Answer:
        """One request; `Answer.body` is the decoded JSON."""
        response = await self._send(method, path, body, {"Content-Type": content_type}, query)
        raw = await response.read()
        return Answer(response.status, json.loads(raw) if raw.startswith((b"{", b"[")) else raw, response.headers)

    async def watch(self, path: str, until: Callable[[list[Any]], bool], **query: Any) -> list[Any]:
        """Events of a watch until the condition holds or the server ends it."""
        response = await self._send("GET", path, None, {}, {"watch": "true", **query})
        assert response.status == 200, await response.read()
        events: list[Any] = []
        try:
            async with asyncio.timeout(100):
                async for line in response.content:
                    events.append(json.loads(line))
                    if until(events):
                        break
        finally:
            response.close()
        return events


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if given := os.environ.get("DAAS_KUBECONFIG"):
        yield Path(given)
        return
    state = tmp_path_factory.mktemp("apiserver")
    flags = ["--history", str(HISTORY_EVENTS)] if SIMULATED else []
    argv = [sys.executable if part == "python" else str(part) for part in command(state, *flags)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Path(json.loads(process.stdout.readline())["kubeconfig"])
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0


@pytest.fixture
async def cluster(kubeconfig: Path) -> AsyncIterator[Cluster]:
    settings = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=settings)
    async with client.ApiClient(settings) as api:
        yield Cluster(api, simulated=SIMULATED)


@pytest.fixture
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace of the test's own, deleted afterwards."""
    name = f"behaviour-{secrets.token_hex(4)}"
    made = await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert made.status == 201, made.body
    if not cluster.simulated:  # pods need the account that a controller makes
        async with asyncio.timeout(100):
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            while (await cluster.request("GET", account)).status != 200:  # noqa: ASYNC110 - it happens on another machine
                await asyncio.sleep(0.1)
    yield name
    await cluster.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
async def node(cluster: Cluster) -> AsyncIterator[str]:
    """A node that no kubelet stands behind."""
    name = f"behaviour-{secrets.token_hex(4)}"
    body = {"metadata": {"name": name}, "status": {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"}}}
    made = await cluster.request("POST", "/api/v1/nodes", body)
    assert made.status == 201, made.body
    yield name
    await cluster.request("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def kubectl(kubeconfig: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed kubectl."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed")

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}
        command = [found, *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, timeout=60, check=False
        )

    return run
