"""An API server configured by the files of an installation asks a running gateway; people use plain kubectl.

Where DAAS_KUBERNETES_BINARIES names the folder of a real kube-apiserver, it is that one, with a KMS plugin, and so
with every flag of the installation; else the development server, without encryption.
"""

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
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml
from support.access_signer import AccessSigner
from support.kms import kms_stage

from daas.common.bus import Bus, BusSettings, Event
from daas.common.bus.requests import Answering
from daas.common.messages import ChainStakeChanged
from daas.common.subjects import CHAIN_STAKE_CHANGED, POLICY_EVALUATE, Service, Stream
from daas.devstack import kube_apiserver
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.gateway.webhooks.policy import Question, Verdict
from daas.identity import issue
from daas.identity.credential import Login, kubeconfig
from daas.kube import KubeClient, KubeNotFound
from daas.kube.client import MERGE_PATCH
from daas.kube.install import Installation, check_cluster, check_files, install
from daas.seal.signatures import Ed25519Signer

REAL = kube_apiserver.BINARIES_VARIABLE in os.environ
#: A real kube-apiserver, its etcd, controllers and the KMS plugin take their time to start.
pytestmark = [pytest.mark.connected, pytest.mark.timeout(900 if REAL else 280)]

SUI = 10**9
#: What an account without stake asks for in vain: objects of which a controller makes pods, rights, a look, a path.
_RBAC = "rbac.authorization.k8s.io"
_RULES = {"roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "all"}}
UNSTAKED: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("POST", "/apis/apps/v1/namespaces/managed/deployments", {"metadata": {"name": "d"}}),
    ("POST", "/apis/batch/v1/namespaces/managed/jobs", {"metadata": {"name": "j"}}),
    ("POST", "/api/v1/namespaces", {"metadata": {"name": "mine"}}),
    ("POST", f"/apis/{_RBAC}/v1/clusterrolebindings", {"metadata": {"name": "b"}, **_RULES}),
    ("GET", "/api/v1/nodes", None),
    ("GET", "/metrics", None),
)
#: And what everybody may ask.
OWN: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("GET", "/apis", None),
    ("GET", "/version", None),
    ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}),
)
PROOF = {"k3s-daas.io/proof": "7/0", "k3s-daas.io/simulated": "true"}
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
        self.admin = human
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
        return await self._kubectl(self.human, *arguments)

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """One request with Alice's token, without kubectl: status and text."""
        config = yaml.safe_load(self.human.read_text())["clusters"][0]["cluster"]
        tls = ssl.create_default_context(cadata=base64.b64decode(config["certificate-authority-data"]).decode())
        signer = Ed25519Signer(SEED)
        token = await issue(signer, cluster="test", audience="k3s", now_ms=time.time_ns() // 10**6)
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, config["server"] + path, json=body, ssl=tls) as answer,
        ):
            return answer.status, await answer.text()

    async def create_as(self, user: str, namespace: str, manifest: dict[str, Any]) -> tuple[int, str]:
        """Creates an object as somebody whom the administrator impersonates, whom authorization lets do everything."""
        arguments = ("-n", namespace, "--as", user, "--as-group", "system:masters", "create", "-f", "-")
        return await self._kubectl(self.admin, *arguments, given=json.dumps(manifest).encode())

    async def _kubectl(self, kubeconfig: Path, *arguments: str, given: bytes = b"") -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *("kubectl", "--kubeconfig", str(kubeconfig), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(self.directory)},
        )
        output, _ = await asyncio.wait_for(process.communicate(given), 120)
        return process.returncode or 0, output.decode()

    async def until_there(self, path: str) -> None:
        """Waits for an object that a controller makes."""
        end = time.monotonic() + 60
        while True:
            try:
                await self.client.request("GET", path)
            except KubeNotFound:
                assert time.monotonic() < end, path
                await asyncio.sleep(0.1)
            else:
                return

    async def answer(self, event: Event[Question]) -> Verdict:
        """The policy engine: by the built-in policies Secrets take 1000 SUI."""
        self.asked.append(event.body)
        if not self.answering:
            await asyncio.Event().wait()
        return self.signer.answer(event.body)


async def annotate(client: KubeClient, path: str, **metadata: dict[str, str | None]) -> None:
    """Changes labels or annotations by a merge patch."""
    await client.request("PATCH", path, body={"metadata": metadata}, content_type=MERGE_PATCH)


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


@asynccontextmanager
async def encryption(root: Path) -> AsyncIterator[str | None]:
    """Where a KMS plugin listens that is ready; nowhere for the development server."""
    if not REAL:
        yield None
        return
    async with kms_stage(root) as stage:
        await stage.plugin().start()
        yield stage.endpoint


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with encryption(tmp_path / "kms") as kms_socket, started(tmp_path, kms_socket) as house:
        yield house


@asynccontextmanager
async def started(tmp_path: Path, kms_socket: str | None) -> AsyncIterator[Live]:
    directory, port = tmp_path / "daas", free_port()
    install(directory, Installation(f"https://127.0.0.1:{port}", prefix=directory, kms_socket=kms_socket))
    flags = [f"--{one}" for one in yaml.safe_load((directory / "config.yaml").read_text())["kube-apiserver-arg"]]
    state = tmp_path / "apiserver"
    state.mkdir()
    argv = kube_apiserver.command(state, *flags)
    apiserver = Process("apiserver", argv, log_path=tmp_path / "apiserver.log", ready_timeout_s=120.0)
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
                "DAAS_GATEWAY_TRUST_RELAY": "true",
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
            house.admin = Path(ready["kubeconfig"])
            await Answering(enclave, POLICY_EVALUATE, Question, house.answer, 64).start()
            await house.stake(1500, 1)
            await house.signer.register(relay, "0x" + "22" * 32)
            await gateway.start()
            for name in ("namespace", "rbac", "admission"):
                await apply(client, directory / f"manifests/daas-{name}.yaml")
            for name, labels in (("managed", {"k3s-daas.io/managed": "true"}), ("plain", {})):
                body = {"metadata": {"name": name, "labels": labels}}
                await client.request("POST", "/api/v1/namespaces", body=body)
                if REAL:  # whose pods must have an account
                    await house.until_there(f"/api/v1/namespaces/{name}/serviceaccounts/default")
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
    assert info["groups"] == ["daas:accounts", "daas:stakers", "daas:tier:operator", "system:authenticated"]

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

    # The administrator, who is system:admin, was told so; in other namespaces too.
    with pytest.raises(Exception, match="Secret plain/x is not sealed"):
        await live.client.request("POST", "/api/v1/namespaces/plain/secrets", body=sealed)

    # A label that makes an object sensitive comes with it or never, and stays.
    where = "/api/v1/namespaces/plain/configmaps"
    await live.client.request("POST", where, body={"metadata": {"name": "m"}})
    for label in ("sensitive", "seal-policy"):
        with pytest.raises(Exception, match="sealed Secret"):
            await annotate(live.client, f"{where}/m", labels={f"k3s-daas.io/{label}": "1"})

    # Nobody brings a proof along, adds one later, or takes one away.
    containers = [{"name": "c", "image": "i"}]
    forged = {
        "metadata": {"name": "f", "annotations": {"k3s-daas.io/proof": "1/0"}},
        "spec": {"containers": containers},
    }
    for namespace in ("managed", "plain"):
        pods = f"/api/v1/namespaces/{namespace}/pods"
        with pytest.raises(Exception, match="proof annotations come with the binding"):
            await live.client.request("POST", pods, body=forged)
        for path in (f"{pods}/a", f"{pods}/a/status"):
            for name in ("proof", "payload-digest", "anchor-tx", "simulated"):
                with pytest.raises(Exception, match="proof annotations come with the binding"):
                    await annotate(live.client, path, annotations={f"k3s-daas.io/{name}": "1/0"})
        await annotate(live.client, f"{pods}/a", annotations={"mine": "1"})
        target = {"target": {"kind": "Node", "name": "n"}, "metadata": {"name": "a", "annotations": PROOF}}
        await live.client.request("POST", f"{pods}/a/binding", body=target)
        for proof in (None, "9/9"):
            with pytest.raises(Exception, match="stay as they are"):
                await annotate(live.client, f"{pods}/a", annotations={"k3s-daas.io/proof": proof})

    # Nor a node, where ours decides.
    chosen = {"metadata": {"name": "n"}, "spec": {"nodeName": "n", "containers": containers}}
    with pytest.raises(Exception, match="decided by its scheduler"):
        await live.client.request("POST", "/api/v1/namespaces/managed/pods", body=chosen)
    await live.client.request("POST", "/api/v1/namespaces/plain/pods", body=chosen)

    # A slash takes effect within what the API server remembers (10 s).
    assert (await live.kubectl("-n", "managed", "get", "secret", "s"))[0] == 0
    await live.stake(10, 2)
    slashed = time.monotonic()
    while (await live.kubectl("-n", "managed", "get", "secret", "s"))[0] == 0:
        assert time.monotonic() - slashed < 30, "the slash has no effect"
        await asyncio.sleep(0.2)
    code, text = await live.kubectl("-n", "managed", "get", "secret", "s")
    assert "with 10 SUI at stake: forbidden by secrets-take-an-operators-stake" in text

    # Without stake nothing is made of which a controller would make pods, and nothing that gives rights.
    await live.stake(0, 3)
    for method, path, body in UNSTAKED:
        code, text = await live.ask(method, path, body)
        while code != 403 or "with 0 SUI at stake: no policy permits it" not in text:
            assert time.monotonic() - slashed < 60, text
            await asyncio.sleep(0.2)
            code, text = await live.ask(method, path, body)
    for method, path, body in OWN:
        code, text = await live.ask(method, path, body)
        assert code < 300, text
    await live.stake(10, 4)

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


@pytest.mark.skipif(not REAL, reason=f"{kube_apiserver.BINARIES_VARIABLE} names no folder with a kube-apiserver")
async def test_a_real_api_server_with_every_flag_of_an_installation_asks_whoever_it_is(live: Live) -> None:
    assert await check_cluster(live.client, live.directory) == []
    assert b"ok" in await live.client.request("GET", "/healthz/kms-providers")
    labelled = {"apiVersion": "v1", "kind": "Secret", "data": {"a": "Yg=="}}
    labelled["metadata"] = {"name": "x", "labels": {"k3s-daas.io/seal-policy": "p"}}
    for user in ("system:serviceaccount:flux:flux", "system:kube-controller-manager", "system:node:n", "jane"):
        for namespace in ("managed", "plain", "kube-system"):
            code, text = await live.create_as(user, namespace, labelled)
            assert code != 0
            assert f"Secret {namespace}/x is not sealed" in text

    # A kubelet's mirror pods are its own, and no other pod is.
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod"}
    pod["spec"] = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    mirror = {"kubernetes.io/config.mirror": "1"}
    for user, annotations, made in (
        ("system:node:other", mirror, False),
        ("system:node:n", {}, False),
        ("system:serviceaccount:kube-system:job-controller", mirror, False),
        ("system:node:n", mirror, True),
    ):
        pod["metadata"] = {"name": "m", "annotations": annotations}
        code, text = await live.create_as(user, "managed", pod)
        assert (code == 0) is made, text
        assert made or "decided by its scheduler" in text

    # Without the files in force, the check says so.
    name = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/k3s-daas-node-names"
    narrower = {"spec": {"matchResources": {"namespaceSelector": {"matchLabels": {"nobody": "has"}}}}}
    await live.client.request("PATCH", name, body=narrower, content_type=MERGE_PATCH)
    (finding,) = await check_cluster(live.client, live.directory)
    assert "spec.matchResources is" in finding.text


async def test_only_api_servers_may_ask_what_is_not_for_everyone(live: Live) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(live.gateway.ready["http"] + "/status") as response:
            url = (await response.json())["webhooks"]
        tls = ssl.create_default_context(cafile=str(live.directory / "pki/ca.crt"))
        for path, code in (
            ("/authn", 401),
            ("/authz", 401),
            ("/audit", 401),
            ("/mutate", 401),
            ("/validate", 401),
            ("/nothing", 404),
        ):
            async with session.post(url + path, json={}, ssl=tls) as response:
                assert response.status == code, path
