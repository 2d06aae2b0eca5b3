"""Secrets through the whole system: sealed at admission for whoever creates them, opened by who has the stake."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from daas.cli.context import Context
from daas.cli.secret_access import Opener
from daas.common.errors import DaasError
from daas.devstack.stack import Stack
from daas.kube import KubeClient, KubeConflict, KubeNotFound
from daas.kube.client import JSON
from daas.ledger import Ledger, Signer
from daas.secrets import SealedSecret
from daas.secrets.manifest import SEAL_POLICY

FUNDS_MIST = 100 * 10**9
STAKE_MIST = 20 * 10**9
REQUEST_S = 10.0
CONCURRENCY = 8
#: The policy of every development stack.
POLICY_NAME = "default"


async def patiently(
    client: KubeClient,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    content_type: str = JSON,
    patience_s: float = 180.0,
) -> None:
    """A write that is repeated while the cluster can't take it; that it is done already is what was wanted.

    Raises:
        AssertionError: not within `patience_s`; quotes the last refusal.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            await client.request(method, path, body=body, content_type=content_type, timeout_s=REQUEST_S)
        except KubeConflict:
            if method != "POST":
                raise
            return
        except KubeNotFound:
            if method != "DELETE":
                raise
            return
        except DaasError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path}: {error}") from error
            await asyncio.sleep(0.2)
        else:
            return


async def managed_namespace(client: KubeClient, name: str) -> None:
    """A namespace whose pods we schedule and whose Secrets can be sealed."""
    labels = {"k3s-daas.io/managed": "true"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    await patiently(client, "POST", "/api/v1/namespaces", body)


async def create_sealed(client: KubeClient, namespace: str, values: Mapping[str, bytes]) -> None:
    """Creates Secrets that ask to be sealed, several at once."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(name: str, value: bytes) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "labels": {SEAL_POLICY: POLICY_NAME}},
            "stringData": {"password": value.decode()},
        }
        async with slots:
            await patiently(client, "POST", f"/api/v1/namespaces/{namespace}/secrets", body)

    await asyncio.gather(*(one(name, value) for name, value in values.items()))


async def staked_reader(stack: Stack, context: Context, path: Path) -> Signer:
    """An account with the stake that the policy asks for."""
    signer = Signer.generate(path)
    request = {"FixedAmountRequest": {"recipient": signer.address, "amount": FUNDS_MIST}}
    async with aiohttp.ClientSession() as session, session.post(stack.ready("ledger", "faucet"), json=request) as got:
        assert got.status < 300
    async with await _ledger(context, signer) as ledger:
        await ledger.staking.deposit(context.registry, STAKE_MIST)
    return signer


async def opened(
    client: KubeClient, context: Context, signer: Signer, namespace: str, names: Sequence[str]
) -> dict[str, bytes]:
    """What an account reads in Secrets that the API server holds sealed.

    Raises:
        DaasError: as `daas secret open` says it; also where one is not sealed.
    """
    found = {}
    async with await _ledger(context, signer) as ledger, Opener(ledger, signer, context) as opener:
        for name in names:
            raw = await client.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
            found[name] = (await opener.open(SealedSecret.parse(context.cluster, json.loads(raw))))["password"]
    return found


async def _ledger(context: Context, signer: Signer) -> Ledger:
    return await Ledger.connect(str(context.ledger_url), signer, package=context.package)
