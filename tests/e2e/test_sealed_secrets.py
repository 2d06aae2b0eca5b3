"""Secrets through the whole system with kubectl: sealed at admission, opened by a pod's node, refused to others.

Everything that could keep a value is read at the end: the bus as it was tapped, every file of every store, all logs.
"""

import asyncio
import base64
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest
import yaml
from support.facts import running
from support.kubelet import PodOnNode

from daas.devstack.stack import Stack
from daas.kube.client import KubeClient
from daas.ledger import Signer

pytestmark = [
    pytest.mark.connected,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

PASSWORD = "plaintext-that-nobody-may-keep-7f3a"
NODE = "worker-1"
FUNDS_MIST = 100 * 10**9


@dataclass
class House:
    """A stack, its command lines, and everything that crossed its bus."""

    stack: Stack
    client: KubeClient
    directory: Path
    crossed: bytearray

    async def _run(self, argv: list[str], text: str, environment: dict[str, str]) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(self.directory), **environment},
        )
        output, _ = await asyncio.wait_for(process.communicate(text.encode()), 120)
        return process.returncode or 0, output.decode()

    async def kubectl(self, *arguments: str, text: str = "") -> tuple[int, str]:
        kubeconfig = str(self.stack.ready("apiserver", "kubeconfig"))
        return await self._run(["kubectl", "--kubeconfig", kubeconfig, *arguments], text, {})

    async def daas(self, *arguments: str, keystore: Path | None = None) -> tuple[int, str]:
        environment = {"DAAS_CONTEXT": str(self.stack.context_path)}
        if keystore is not None:
            environment["DAAS_KEYSTORE"] = str(keystore)
        return await self._run([str(Path(sys.executable).with_name("daas")), *arguments], "", environment)

    async def account(self, name: str) -> Path:
        path = self.directory / f"{name}.key"
        request = {"FixedAmountRequest": {"recipient": Signer.generate(path).address, "amount": FUNDS_MIST}}
        faucet = self.stack.ready("ledger", "faucet")
        async with aiohttp.ClientSession() as session, session.post(faucet, json=request) as got:
            assert got.status < 300
        return path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    state = tmp_path / "stack"
    async with running(state, DAAS_LOG_LEVEL="debug") as stack:
        crossed = bytearray()

        async def write_down(message: Any) -> None:
            crossed.extend(message.subject.encode() + str(message.headers).encode() + message.data)

        tap = await nats.connect(stack.nats.url)
        await tap.subscribe(">", cb=write_down)
        await tap.flush()
        async with await KubeClient.connect(Path(stack.ready("apiserver", "kubeconfig"))) as client:
            yield House(stack, client, tmp_path, crossed)
        await tap.close()


NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {k3s-daas.io/managed: "true"}}
"""
SECRET = f"""
apiVersion: v1
kind: Secret
metadata: {{namespace: shop, name: db, labels: {{k3s-daas.io/seal-policy: POLICY}}}}
stringData: {{user: admin, password: {PASSWORD}}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web}
spec:
  containers: [{name: app, image: registry.example/app, volumeMounts: [{name: db, mountPath: /db}]}]
  volumes: [{name: db, secret: {secretName: db}}]
"""


async def test_a_secret_of_kubectl_is_sealed_opened_on_its_node_and_refused_elsewhere_and_leaks_nowhere(
    house: House, tmp_path: Path
) -> None:
    operator = house.stack.state_dir / "operator.key"
    node = await house.account("node")
    code, said = await house.daas("stake", "deposit", "20", keystore=node)
    assert code == 0, said
    code, said = await house.daas("node", "register", NODE, keystore=node)
    assert code == 0, said
    code, said = await house.daas("secret", "policy", "create", "worker", "--node", NODE, keystore=operator)
    assert code == 0, said

    code, said = await house.kubectl("apply", "-f", "-", text=NAMESPACE)
    assert code == 0, said
    code, said = await house.kubectl("create", "-f", "-", text=SECRET.replace("POLICY", "nobody-knows"))
    assert code != 0
    assert "no-policy" in said
    code, said = await house.kubectl("create", "-f", "-", text=SECRET.replace("POLICY", "worker"))
    assert code == 0, said
    code, said = await house.kubectl("get", "secret", "-n", "shop", "db", "-o", "json")
    stored = json.loads(said)
    assert set(stored["data"]) == {"user", "password", "k3s-daas.envelope"}
    assert PASSWORD not in said
    assert base64.b64encode(PASSWORD.encode()).decode() not in said

    code, said = await house.kubectl("create", "-f", "-", text=POD)
    assert code == 0, said
    code, said = await house.kubectl("get", "pod", "-n", "shop", "web", "-o", "yaml")
    pod = yaml.safe_load(said)
    assert pod["spec"]["schedulerName"] == "k3s-daas"
    on_node = PodOnNode(pod, tmp_path / "pod")
    await on_node.mount(house.client, "shop")
    context = house.stack.context_path
    done = await asyncio.to_thread(on_node.unseal, namespace="shop", node=NODE, keystore=node, context=context)
    assert done.returncode == 0, done.stderr
    opened = on_node.file("db", "password")
    assert opened.read_text() == PASSWORD
    opened.unlink()

    stranger = await house.account("stranger")
    code, said = await house.daas("secret", "open", "shop/db", keystore=stranger)
    assert code == 1
    assert "node-required" in said
    environment = {**yaml.safe_load(POD), "metadata": {"namespace": "shop", "name": "env"}}
    reference = {"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}
    environment["spec"] = {"containers": [{"name": "app", "image": "registry.example/app", "env": [reference]}]}
    code, said = await house.kubectl("create", "-f", "-", text=yaml.safe_dump(environment))
    assert code != 0
    assert "mount it as a volume" in said

    found = _leaks(house)
    assert not found, found
    canary = house.stack.state_dir / "canary"  # and a leak would have been found
    canary.write_bytes(base64.b64encode(b"a longer text with " + PASSWORD.encode() + b" in it"))
    assert _leaks(house) == [str(canary)]


def _leaks(house: House) -> list[str]:
    """Where the value stands, as it is, in base64 at any offset, or in hex."""
    raw = PASSWORD.encode()
    forms = [raw, raw.hex().encode()]
    # Base64 of the value inside something longer: the ends depend on their neighbours.
    forms += [base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)]
    places: dict[str, bytes] = {"the bus": bytes(house.crossed)}
    for path in house.stack.state_dir.rglob("*"):
        if path.is_file():
            places[str(path)] = path.read_bytes()
    assert len(places) > 50, "the stores were not found"
    assert any(b"secret.sealed" in content for content in places.values()), "nothing was recorded"
    return [place for place, content in places.items() for form in forms if form in content]
