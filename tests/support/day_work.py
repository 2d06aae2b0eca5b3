"""What people do with a cluster all day: pods in a managed namespace, Secrets sealed at admission or by `daas`."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from daas.cli.context import Context
from daas.cli.secret_access import Opener
from daas.common.errors import DaasError
from daas.kube import KubeClient, KubeConflict, KubeNotFound
from daas.ledger import Ledger, Signer
from daas.secrets import SealedSecret
from daas.secrets.manifest import SEAL_POLICY
from support.cluster import PodView, create_nodes, list_pods, node, pod
from support.day_stack import SETTLE_S, DayStack

NAMESPACE = "shop"
NODES = 20
#: Begins every secret value; long enough that nothing else holds it by chance.
MARK = "plaintext-that-nobody-keeps-5c1e"
FUNDS_MIST = 100 * 10**9
STAKE_MIST = 20 * 10**9
#: A request that a paused server does not answer is given up and made again.
REQUEST_S = 8.0
CONCURRENCY = 16


async def patiently(client: KubeClient, path: str, body: dict[str, Any]) -> None:
    """Creates an object, again and again while the cluster can't take it. That it is there already is what was wanted.

    Raises:
        AssertionError: not within SETTLE_S; quotes the last refusal.
    """
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            await client.request("POST", path, body=body, timeout_s=REQUEST_S)
        except KubeConflict:
            return
        except DaasError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} {body['metadata']['name']}: {error}") from error
            await asyncio.sleep(0.3)
        else:
            return


class Work:
    """A day's work, in pieces.

    Args:
        stack: running.
        client: of its API server.
        rng: decides the secret values.
        context: of the stack.
    """

    def __init__(self, stack: DayStack, client: KubeClient, rng: random.Random, context: Context) -> None:
        self._stack, self._client, self._context = stack, client, context
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._rng = rng
        self.pods: list[str] = []
        self.secrets: dict[str, bytes] = {}

    async def prepare(self) -> None:
        """Nodes and a managed namespace."""
        await create_nodes(self._client, [node(f"node-{n}") for n in range(NODES)])
        labels = {"k3s-daas.io/managed": "true"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
        await patiently(self._client, "/api/v1/namespaces", body)

    async def piece(self, pods: int, secrets: int) -> None:
        """So many more pods, and so many more Secrets: every other one sealed before it is sent."""
        names = [f"secret-{len(self.secrets) + n}" for n in range(secrets)]
        values = {name: f"{MARK}-{name}-{self._rng.randbytes(8).hex()}".encode() for name in names}
        self.secrets |= values
        before = len(self.pods)
        async with asyncio.TaskGroup() as group:
            for n in range(pods):
                group.create_task(self.pod(f"pod-{before + n}"))
            plain = {name: value for name, value in values.items() if int(name.rpartition("-")[2]) % 2 == 0}
            group.create_task(self._sealed_by_hand({n: v for n, v in values.items() if n not in plain}))
            for name, value in plain.items():
                manifest = _secret(name, value)
                manifest["metadata"]["labels"] = {SEAL_POLICY: "default"}
                group.create_task(self._create("secrets", manifest))

    async def pod(self, name: str) -> None:
        """A pod that says nothing of its scheduler: admission does."""
        body = pod(name, NAMESPACE)
        del body["spec"]["schedulerName"]
        self.pods.append(name)
        await self._create("pods", body)

    async def probe(self, name: str) -> None:
        """Creates a pod, and returns when it is bound."""
        await self.pod(name)

        async def bound() -> bool:
            try:
                path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
                found = json.loads(await self._client.request("GET", path, timeout_s=REQUEST_S))
            except KubeNotFound:
                raise
            except DaasError:
                return False
            return bool(found["spec"].get("nodeName"))

        await self._stack.until(bound, f"{name} is bound")

    async def _create(self, plural: str, body: dict[str, Any]) -> None:
        async with self._slots:
            await patiently(self._client, f"/api/v1/namespaces/{NAMESPACE}/{plural}", body)

    async def _sealed_by_hand(self, values: dict[str, bytes]) -> None:
        """`daas secret seal < secrets.yaml | kubectl apply -f -`, tried again while the ledger is away."""
        if not values:
            return
        text = yaml.safe_dump_all([_secret(name, value) for name, value in values.items()])
        deadline = time.monotonic() + SETTLE_S
        while True:
            code, sealed, said = await self.daas("secret", "seal", "--policy", "default", text=text)
            if code == 0:
                break
            assert time.monotonic() < deadline, said
        for manifest in yaml.safe_load_all(sealed):
            await self._create("secrets", manifest)

    async def daas(self, *arguments: str, text: str = "", keystore: Path | None = None) -> tuple[int, str, str]:
        """A command: exit code, what it printed, what it complained about."""
        environment = {**os.environ, "DAAS_CONTEXT": str(self._stack.context_path)}
        if keystore is not None:
            environment["DAAS_KEYSTORE"] = str(keystore)
        pipe = asyncio.subprocess.PIPE
        argv = [sys.executable, "-m", "daas.cli", *arguments]
        child = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        try:
            output, errors = await asyncio.wait_for(child.communicate(text.encode()), SETTLE_S)
        except TimeoutError:
            child.kill()
            await child.wait()
            return 1, "", f"{arguments} did not end within {SETTLE_S:.0f} s"
        return child.returncode or 0, output.decode(), errors.decode()

    async def all_bound(self) -> list[PodView]:
        """Every pod there should be, once all are bound."""
        found: list[PodView] = []

        async def bound() -> bool:
            nonlocal found
            found = await list_pods(self._client, NAMESPACE)
            return len(found) == len(self.pods) and all(one.spec.node_name for one in found)

        await self._stack.until(bound, f"{len(self.pods)} pods are bound")
        assert sorted(one.metadata.name for one in found) == sorted(self.pods)
        return found

    async def account(self, path: Path, *, stake: bool) -> Signer:
        """A reader, with or without what the policy asks for."""
        signer = Signer.generate(path)
        request = {"FixedAmountRequest": {"recipient": signer.address, "amount": FUNDS_MIST}}
        faucet = self._stack.ready("ledger", "faucet")
        async with aiohttp.ClientSession() as session, session.post(faucet, json=request) as got:
            assert got.status < 300
        if stake:
            async with await self._ledger(signer) as ledger:
                await ledger.staking.deposit(self._context.registry, STAKE_MIST)
        return signer

    async def _ledger(self, signer: Signer) -> Ledger:
        return await Ledger.connect(str(self._context.ledger_url), signer, package=self._context.package)

    async def opened(self, signer: Signer, names: Sequence[str]) -> dict[str, bytes]:
        """Secrets as somebody opens them, taken from the API server.

        Raises:
            DaasError: as `daas secret open` says it.
        """
        found = {}
        async with await self._ledger(signer) as ledger, Opener(ledger, signer, self._context) as opener:
            for name in names:
                path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}"
                manifest = json.loads(await self._client.request("GET", path))
                assert MARK not in json.dumps(manifest)
                found[name] = (await opener.open(SealedSecret.parse(self._context.cluster, manifest)))["password"]
        return found


def _secret(name: str, value: bytes) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": value.decode()}}
