"""Who may read Secrets, decided in the enclave by stake on the ledger: plain kubectl against the whole system."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import yaml
from support.command import daas_here
from support.facts import bus_of, kube_of, running

from daas.common import subjects
from daas.common.access import PolicyDecided
from daas.common.facts import fact_of
from daas.common.subjects import Stream
from daas.devstack.stack import Stack
from daas.identity.credential import Login, kubeconfig
from daas.kube import KubeClient
from daas.ledger import Ledger, Signer
from daas.policy import Evaluator, load_folder
from daas.policy.record import verify

pytestmark = [
    pytest.mark.connected,
    pytest.mark.timeout(280),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

SUI = 10**9
#: What leads to pods or rights by way of somebody else.
UNSTAKED = (
    ("create", "deployment", "d", "--image=nginx", "--replicas=2"),
    ("create", "job", "j", "--image=nginx"),
    ("create", "namespace", "mine"),
    ("create", "clusterrolebinding", "b", "--clusterrole=all", "--group=daas:accounts"),
)
#: The API server remembers a refusal for 10 s; a loaded machine may need some more.
PATIENCE_S = 60.0


class Person:
    """Somebody with a Sui key, a kubeconfig that logs in by it, and kubectl."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack, self._home = stack, stack.state_dir / name
        self._home.mkdir()
        self.signer = Signer.generate(self._home / "sui.key")
        content = kubeconfig(
            server=stack.ready("apiserver", "url"),
            authority_pem=(stack.state_dir / "apiserver" / "ca.crt").read_bytes(),
            login=Login(str(self._home / "sui.key"), stack.cluster, "k3s"),
            command=[sys.executable, "-m", "daas.cli"],
        )
        self._kubeconfig = self._home / "kubeconfig"
        self._kubeconfig.write_text(yaml.safe_dump(content))

    async def kubectl(self, *arguments: str) -> tuple[bool, str]:
        process = await asyncio.create_subprocess_exec(
            *("kubectl", "--kubeconfig", str(self._kubeconfig), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(self._home)},
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        return process.returncode == 0, output.decode()

    async def until(self, said: Callable[[bool, str], bool], *arguments: str) -> str:
        """Asks again until the answer is as expected."""
        end = time.monotonic() + PATIENCE_S
        while True:
            succeeded, text = await self.kubectl(*arguments)
            if said(succeeded, text):
                return text
            assert time.monotonic() < end, text
            await asyncio.sleep(0.3)

    async def stake(self, bonded_sui: int, unbond_sui: int = 0) -> None:
        """Deposits money from the faucet, or starts to take some out again."""
        context = self._stack.context()
        if bonded_sui:
            body = {"FixedAmountRequest": {"recipient": self.signer.address, "amount": (bonded_sui + 10) * SUI}}
            faucet = self._stack.ready("ledger", "faucet")
            async with aiohttp.ClientSession() as session, session.post(faucet, json=body) as answer:
                assert answer.status < 300
        async with await Ledger.connect(context["ledger_url"], self.signer, package=context["package"]) as ledger:
            if bonded_sui:
                await ledger.staking.deposit(context["registry"], bonded_sui * SUI)
            if unbond_sui:
                await ledger.staking.request_withdraw(context["registry"], unbond_sui * SUI)


async def let_everybody_do_everything(client: KubeClient) -> None:
    """What RBAC gives to every account, so that only stake decides."""
    group = "rbac.authorization.k8s.io"
    role = {"metadata": {"name": "all"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
    binding = {
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "all"},
        "subjects": [{"kind": "Group", "apiGroup": group, "name": "daas:accounts"}],
    }
    await client.request("POST", f"/apis/{group}/v1/clusterroles", body=role)
    await client.request("POST", f"/apis/{group}/v1/clusterrolebindings", body=binding)


async def decisions(stack: Stack, count: int) -> list[PolicyDecided]:
    async with bus_of(stack) as bus:
        facts: list[PolicyDecided] = []
        async with contextlib.aclosing(bus.read(Stream.POLICY)) as messages:
            async for message in messages:
                facts.append(fact_of(message, subjects.POLICY_DECIDED, PolicyDecided))
                if sum(len(fact.decisions) for fact in facts) >= count:
                    return facts
    raise AssertionError("unreachable")


async def daas(stack: Stack, *arguments: str) -> tuple[int, str]:
    return await daas_here(stack.context_path, *arguments)


async def decisions_are_verified_from_the_archive(stack: Stack, directory: Path) -> None:
    """The cluster's store has them all, and a file of it is enough where there is neither bus nor ledger."""
    end = time.monotonic() + PATIENCE_S
    while True:
        code, text = await daas(stack, "policy", "verify", "--archive", "-o", "json")
        assert code == 0, text
        found = json.loads(text)
        if found["verified"] >= 4:
            break
        assert time.monotonic() < end, text
        await asyncio.sleep(0.3)
    (key,) = found["keys"]
    assert [(check["name"], check["outcome"]) for check in key["checks"]] == [
        (name, "passed") for name in ("attestation", "measurements", "binding", "registration")
    ]
    file = directory / "access.json"
    code, text = await daas(stack, "evidence", "access", str(file))
    assert code == 0, text
    code, text = await daas(stack, "policy", "verify", "--evidence", str(file), "--offline")
    assert code == 0, text
    assert "access decisions verified" in text
    # Without offline a ledger has to say so; without the document nobody vouches for the key.
    changed = json.loads(file.read_text())
    changed["keys"] = []
    file.write_text(json.dumps(changed))
    code, text = await daas(stack, "policy", "verify", "--evidence", str(file), "--offline", "-o", "json")
    assert code == 1
    assert "access-key" in text


async def test_stake_opens_secrets_its_loss_closes_them_and_an_absent_enclave_stops_people_and_nobody_else(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "state") as stack, kube_of(stack) as admin:
        await let_everybody_do_everything(admin)
        secret = {"metadata": {"name": "s"}, "data": {"a": "Yg=="}}
        await admin.request("POST", "/api/v1/namespaces/default/secrets", body=secret)
        rich, poor = Person(stack, "rich"), Person(stack, "poor")
        await rich.stake(1500)

        # Staked: RBAC has the last word, and says yes. Unstaked: refused with the reason.
        await rich.until(lambda succeeded, _: succeeded, "get", "secret", "s")
        succeeded, text = await poor.kubectl("get", "secret", "s")
        assert not succeeded
        assert "get secrets in default with 0 SUI at stake: forbidden by secrets-take-an-operators-stake" in text
        succeeded, text = await poor.kubectl("get", "pods")
        assert not succeeded
        assert "no policy permits it" in text
        for command in UNSTAKED:
            succeeded, text = await poor.kubectl(*command)
            assert not succeeded
            assert "with 0 SUI at stake: no policy permits it" in text
        succeeded, text = await poor.kubectl("auth", "whoami")
        assert succeeded, text

        # Stake that is on its way out counts no more, within what the API server remembers.
        await rich.stake(0, unbond_sui=1000)
        text = await rich.until(lambda succeeded, _: not succeeded, "get", "secret", "s")
        assert "with 500 SUI at stake" in text

        # Everything that was decided is on record, signed, and what the policies say.
        facts, evaluator = await decisions(stack, 4), Evaluator(load_folder())
        assert sum(verify(fact, evaluator) for fact in facts) >= 4
        assert {fact.simulated for fact in facts} == {True}

        await decisions_are_verified_from_the_archive(stack, tmp_path)

        # No enclave: people are refused with the reason, the cluster's own identities are not held up.
        await stack.kill("enclave")
        text = await rich.until(lambda _, text: "stake can't be checked" in text, "get", "pods", "-n", "kube-system")
        assert "denied" in text or "Forbidden" in text or "forbidden" in text
        await admin.request("GET", "/api/v1/namespaces/default/secrets/s")
        succeeded, text = await rich.kubectl(*UNSTAKED[0])
        assert not succeeded
        assert "stake can't be checked" in text

        # It comes back with a new key and answers again.
        await stack.start_service("enclave")
        await rich.until(lambda succeeded, _: succeeded, "get", "pods")
