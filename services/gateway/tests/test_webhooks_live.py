"""An API server configured by the files of an installation asks a running gateway; people use plain kubectl."""

import asyncio
import base64
import json
import os
import shutil
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
import yaml
from support.access_signer import AccessSigner

from daas.common.bus import Bus, BusSettings, Event
from daas.common.bus.requests import Answering
from daas.common.messages import ChainStakeChanged
from daas.common.subjects import CHAIN_STAKE_CHANGED, POLICY_EVALUATE, Service, Stream
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.gateway.webhooks.policy import Question, Verdict
from daas.identity.credential import Login, kubeconfig
from daas.kube import KubeClient
from daas.kube.install import Installation, check_cluster, check_files, install
from daas.seal.signatures import Ed25519Signer

pytestmark = [pytest.mark.connected, pytest.mark.timeout(280)]

SUI = 10**9
SEED = b"\x07" * 32
ALICE = Ed25519Signer(SEED).address
#: What `daas login` runs, as a kubeconfig names it.
LOGIN = (
    "import typer; from daas.cli.login import login; a = typer.Typer(); a.command()(login); "
    "a.callback()(lambda: None); a()"
)


class Live:
    """The running parts."""

    def __init__(self, directory: Path, client: KubeClient, relay: Bus, gateway: Process, human: Path) -> None:
        self.directory, self.client, self.relay, self.gateway, self.human = directory, client, relay, gateway, human
        self.answering = True
        self.signer = AccessSigner(b"\x09" * 32)
        self.asked: list[Question] = []

    async def stake(self, bonded_sui: int, version: int) -> None:
        fact = ChainStakeChanged(
            registry="0x" + "11" * 32,
            tx_digest=f"t{version}",
            event_index=0,
            checkpoint=version,
            timestamp_ms=version,
            simulated=True,
            account=ALICE,
            change="deposited",
            amount_mist=0,
            bonded_mist=bonded_sui * SUI,
            unbonding_mist=0,
        )
        await self.relay.publish(CHAIN_STAKE_CHANGED, fact, message_id=f"stake/{version}")

    async def kubectl(self, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *("kubectl", "--kubeconfig", str(self.human), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(self.directory)},
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, output.decode()

    async def answer(self, event: Event[Question]) -> Verdict:
        """The policy engine: by the built-in policies Secrets take 1000 SUI."""
        self.asked.append(event.body)
        if not self.answering:
            await asyncio.Event().wait()
        return self.signer.answer(event.body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def apply(client: KubeClient, path: Path) -> None:
    """POSTs the manifests of a file."""
    plural = {"Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "ValidatingAdmissionPolicy": None}
    for manifest in yaml.safe_load_all(await asyncio.to_thread(path.read_text)):
        kind, version = manifest["kind"], manifest["apiVersion"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        namespace = manifest["metadata"].get("namespace")
        where = f"/namespaces/{namespace}" if namespace else ""
        name = plural.get(kind) or (kind.lower()[:-1] + "ies" if kind.endswith("y") else kind.lower() + "s")
        await client.request("POST", f"{base}{where}/{name}", body=manifest)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    directory, port = tmp_path / "daas", free_port()
    install(directory, Installation(f"https://127.0.0.1:{port}", prefix=directory, kms_socket=None))
    flags = [f"--{one}" for one in yaml.safe_load((directory / "config.yaml").read_text())["kube-apiserver-arg"]]
    state = tmp_path / "apiserver"
    state.mkdir()
    argv = ["python", "-m", "daas.devstack.apiserver", "--state", str(state), *flags]
    apiserver = Process("apiserver", argv, log_path=tmp_path / "apiserver.log")
    keystore = tmp_path / "sui.keystore"
    keystore.write_text(json.dumps([base64.b64encode(b"\0" + SEED).decode()]))
    keystore.chmod(0o600)
    async with NatsServer(tmp_path / "nats") as nats:
        ready = await apiserver.start()
        login = Login(str(keystore), "test", "k3s")
        human = tmp_path / "human.yaml"
        content = kubeconfig(
            server=ready["url"],
            authority_pem=(state / "ca.crt").read_bytes(),
            login=login,
            command=[sys.executable, "-c", LOGIN],
        )
        human.write_text(yaml.safe_dump(content))
        gateway = Process(
            "gateway",
            ["python", "-m", "daas.gateway"],
            log_path=tmp_path / "gateway.log",
            env={
                "DAAS_NATS_URL": nats.url,
                "DAAS_CLUSTER": "test",
                "DAAS_STATE_DIR": str(tmp_path / "gateway"),
                "DAAS_GATEWAY_KUBECONFIG": ready["kubeconfig"],
                "DAAS_GATEWAY_WEBHOOK_PORT": str(port),
                "DAAS_GATEWAY_WEBHOOK_CERTIFICATE_FILE": str(directory / "pki/gateway.crt"),
                "DAAS_GATEWAY_WEBHOOK_KEY_FILE": str(directory / "pki/gateway.key"),
                "DAAS_GATEWAY_WEBHOOK_CLIENT_CA_FILE": str(directory / "pki/ca.crt"),
            },
        )
        settings = BusSettings(nats_url=nats.url, cluster="test")
        async with (
            Bus(Service.RELAY, settings) as relay,
            Bus(Service.ENCLAVE, settings) as enclave,
            await KubeClient.connect(Path(ready["kubeconfig"])) as client,
        ):
            await relay.declare()
            house = Live(directory, client, relay, gateway, human)
            await Answering(enclave, POLICY_EVALUATE, Question, house.answer, 64).start()
            await house.stake(1500, 1)
            await house.signer.register(relay, "0x" + "22" * 32)
            await gateway.start()
            for name in ("namespace", "rbac", "admission"):
                await apply(client, directory / f"manifests/daas-{name}.yaml")
            for name, labels in (("managed", {"k3s-daas.io/managed": "true"}), ("plain", {})):
                body = {"metadata": {"name": name, "labels": labels}}
                await client.request("POST", "/api/v1/namespaces", body=body)
            role = {"metadata": {"name": "all"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "all"}
            everyone = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "daas:accounts"}
            binding = {"metadata": {"name": "all"}, "roleRef": reference, "subjects": [everyone]}
            await client.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", body=role)
            await client.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body=binding)
            yield house
            await gateway.terminate()
    await apiserver.terminate()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl_with_a_sui_key_from_login_to_slash_to_outage(live: Live) -> None:
    assert check_files(live.directory) == []
    assert await check_cluster(live.client, live.directory) == []

    # Who am I: kubectl fetches the token by itself.
    code, text = await live.kubectl("auth", "whoami", "-o", "json")
    assert code == 0, text
    info = json.loads(text)["status"]["userInfo"]
    assert info["username"] == f"sui:{ALICE}"
    assert info["groups"] == ["daas:accounts", "daas:stakers", "daas:tier:gold", "system:authenticated"]

    # Enough stake: RBAC decides; the pod gets our scheduler where the namespace is managed.
    assert (await live.kubectl("-n", "managed", "create", "secret", "generic", "s", "--from-literal=a=b"))[0] == 0
    assert (await live.kubectl("-n", "managed", "run", "a", "--image=nginx"))[0] == 0
    assert (await live.kubectl("-n", "plain", "run", "a", "--image=nginx"))[0] == 0
    for namespace, scheduler in (("managed", "k3s-daas"), ("plain", "default-scheduler")):
        pod = json.loads(await live.client.request("GET", f"/api/v1/namespaces/{namespace}/pods/a"))
        assert pod["spec"]["schedulerName"] == scheduler

    # What asks for sealing is not stored unsealed; what is sensitive is no ConfigMap.
    sealed = {"metadata": {"name": "x", "labels": {"k3s-daas.io/seal-policy": "p"}}, "data": {"a": "Yg=="}}
    with pytest.raises(Exception, match="Secret managed/x is not sealed"):
        await live.client.request("POST", "/api/v1/namespaces/managed/secrets", body=sealed)
    public = {"metadata": {"name": "x", "labels": {"k3s-daas.io/sensitive": "1"}}}
    with pytest.raises(Exception, match="sealed Secret"):
        await live.client.request("POST", "/api/v1/namespaces/managed/configmaps", body=public)

    # Nobody brings a proof along.
    forged = {
        "metadata": {"name": "f", "annotations": {"k3s-daas.io/proof": "1/0"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    with pytest.raises(Exception, match="proof annotations come with the binding"):
        await live.client.request("POST", "/api/v1/namespaces/managed/pods", body=forged)

    # A slash takes effect within what the API server remembers (10 s).
    assert (await live.kubectl("-n", "managed", "get", "secret", "s"))[0] == 0
    await live.stake(10, 2)
    slashed = time.monotonic()
    while (await live.kubectl("-n", "managed", "get", "secret", "s"))[0] == 0:
        assert time.monotonic() - slashed < 30, "the slash has no effect"
        await asyncio.sleep(0.2)
    code, text = await live.kubectl("-n", "managed", "get", "secret", "s")
    assert "with 10 SUI at stake: forbidden by secrets-take-an-operators-stake" in text

    # Without the engine: people are refused with the reason, the cluster's own identities are not held up.
    live.answering = False
    code, text = await live.kubectl("-n", "plain", "get", "secret", "other")
    assert code != 0
    assert "stake can't be checked" in text
    await live.client.request("GET", "/api/v1/namespaces/plain/secrets")

    # Audit: everything arrived as facts, and no Secret's content among them.
    async def audited() -> list[bytes]:
        first, last = await live.relay.stream_bounds(Stream.METADATA)
        found = [await live.relay.fetch(Stream.METADATA, n) for n in range(max(first, 1), last + 1)]
        return [one.data for one in found]

    end = time.monotonic() + 100
    while b'"pods"' not in b"".join(await audited()):
        assert time.monotonic() < end, "no audit"
        await asyncio.sleep(0.1)
    assert b"Yg==" not in b"".join(await audited())
    rss = psutil.Process(live.gateway.pid).memory_info().rss
    assert rss < 120 * 1024 * 1024, f"{rss / 2**20:.0f} MiB"


async def test_only_api_servers_may_ask_what_is_not_for_everyone(live: Live) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(live.gateway.ready["http"] + "/status") as response:
            url = (await response.json())["webhooks"]
        tls = ssl.create_default_context(cafile=str(live.directory / "pki/ca.crt"))
        for path, code in (("/authn", 401), ("/authz", 401), ("/audit", 401), ("/mutate", 400), ("/nothing", 404)):
            async with session.post(url + path, json={}, ssl=tls) as response:
                assert response.status == code, path
