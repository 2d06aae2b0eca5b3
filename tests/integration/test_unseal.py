"""A pod mounts sealed Secrets: admission adds the init container, and it opens them as the node it runs on."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from support.kubelet import PodOnNode
from support.secret_stage import SecretStage, secret

from daas.gateway.webhooks.sealed import ApiServerSecrets
from daas.gateway.webhooks.unseal import UnsealContainer, inject, secret_names
from daas.kube.client import METADATA

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]

PASSWORD = "correct-horse-battery-staple"
REGISTRIES = json.dumps({"auths": {"registry.example": {"auth": "dXNlcjpzZXNhbWU="}}})
NODE = "worker-1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecretStage]:
    async with SecretStage(tmp_path_factory.mktemp("unseal")) as made:
        made.node = await made.account("node", stake_sui=20)
        assert (await made.daas("node", "register", NODE, keystore=made.node)).exit_code == 0
        await made.daas_json("secret", "policy", "create", "nodes", "--node", NODE, keystore=made.admin)
        registry = secret("pull", {".dockerconfigjson": REGISTRIES}, type="kubernetes.io/dockerconfigjson")
        texts = [secret("db", {"user": "admin", "password": PASSWORD}), registry, secret("open", {"k": "public"})]
        done = await made.daas("secret", "seal", "--policy", "nodes", text=yaml.safe_dump_all(texts[:2]))
        assert done.exit_code == 0, (done.output, done.exception)
        for manifest in [*yaml.safe_load_all(done.stdout), texts[2]]:
            await made.apply(manifest)
        yield made


async def admitted(stage: SecretStage, *volumes: dict[str, Any]) -> dict[str, Any]:
    """A pod with these volumes as admission leaves it, with what the API server says of its Secrets."""
    containers = [{"name": "app", "image": "registry.example/app"}]
    pod: dict[str, Any] = {"metadata": {"name": "web"}, "spec": {"containers": containers, "volumes": list(volumes)}}
    async with await stage.kube() as client:
        sealed = await ApiServerSecrets(client).sealed("default", secret_names(pod) | {"missing"})
    for step in inject(pod, sealed, UnsealContainer("registry.example/daas", "/etc/rancher/k3s-daas")):
        pod["spec"][step["path"].removeprefix("/spec/")] = step["value"]
    return pod


async def on_node(stage: SecretStage, pod: dict[str, Any], root: Path) -> PodOnNode:
    found = PodOnNode(pod, root)
    async with await stage.kube() as client:
        await found.mount(client, "default")
    return found


async def test_the_pod_finds_its_values_where_it_wanted_them_and_only_in_memory(
    stage: SecretStage, tmp_path: Path
) -> None:
    volumes = [
        {
            "name": "db",
            "secret": {"secretName": "db", "items": [{"key": "password", "path": "sub/pw", "mode": 0o400}]},
        },
        {"name": "pull", "secret": {"secretName": "pull"}},
        {"name": "open", "secret": {"secretName": "open"}},
    ]
    pod = await admitted(stage, *volumes)
    assert {v["name"] for v in pod["spec"]["volumes"] if v.get("emptyDir", {}).get("medium") == "Memory"} == {
        "db",
        "pull",
    }
    one = await on_node(stage, pod, tmp_path)
    done = one.unseal(namespace="default", node=NODE, keystore=stage.node, context=stage.directory / "context.json")
    assert done.returncode == 0, done.stderr
    assert one.file("db", "sub/pw").read_text() == PASSWORD
    assert one.file("db", "sub/pw").stat().st_mode & 0o777 == 0o400
    assert sorted(path.name for path in one.file("db", ".").rglob("*")) == ["pw", "sub"]
    assert one.file("pull", ".dockerconfigjson").read_text() == REGISTRIES
    assert one.file("open", "k").read_text() == "public"
    assert PASSWORD not in done.stdout + done.stderr


async def test_another_nodes_account_a_moved_secret_and_a_missing_key_leave_nothing_but_the_reason(
    stage: SecretStage, tmp_path: Path
) -> None:
    context = stage.directory / "context.json"
    pod = await admitted(stage, {"name": "db", "secret": {"secretName": "db"}})
    stranger = await stage.account("stranger", stake_sui=20)
    assert (await stage.daas("node", "register", "worker-2", keystore=stranger)).exit_code == 0
    one = await on_node(stage, pod, tmp_path / "stranger")
    for node, keystore, namespace, reason in [
        ("worker-2", stranger, "default", "node-not-allowed"),
        (NODE, stranger, "default", "not-this-node"),
        (NODE, stage.node, "elsewhere", "sealed-elsewhere"),
    ]:
        done = one.unseal(namespace=namespace, node=node, keystore=keystore, context=context)
        assert done.returncode == 1
        assert reason in done.stderr, done.stderr
        assert not list(one.file("db", ".").iterdir())
    items = [{"key": "nothing", "path": "x"}]
    pod = await admitted(stage, {"name": "db", "secret": {"secretName": "db", "items": items}})
    two = await on_node(stage, pod, tmp_path / "missing")
    done = two.unseal(namespace="default", node=NODE, keystore=stage.node, context=context)
    assert "no-key-in-secret" in done.stderr
    assert not list(two.file("db", ".").iterdir())


async def test_a_path_that_leads_out_of_the_volume_is_refused(stage: SecretStage, tmp_path: Path) -> None:
    items = [{"key": "password", "path": "../../escaped"}]
    pod = await admitted(stage, {"name": "db", "secret": {"secretName": "db", "items": items}})
    one = await on_node(stage, pod, tmp_path)
    done = one.unseal(namespace="default", node=NODE, keystore=stage.node, context=stage.directory / "context.json")
    assert "item-path" in done.stderr
    assert not list(tmp_path.rglob("escaped"))  # noqa: ASYNC240 - a test's own few files


async def test_what_admission_asks_of_a_secret_holds_none_of_its_values(stage: SecretStage) -> None:
    async with await stage.kube() as client:
        assert await ApiServerSecrets(client).sealed("default", {"db", "open", "missing"}) == {"db"}
        path = "/api/v1/namespaces/default/secrets/db"
        assert set(json.loads(await client.request("GET", path, accept=METADATA))) == {"apiVersion", "kind", "metadata"}
