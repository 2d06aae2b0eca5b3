"""Secrets at rest: kubectl, the development API server, the KMS plugin and key servers, all of them processes."""

import asyncio
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from support.kms import KmsStage, eventually, kms_stage

from daas.devstack.process import Process
from daas.kms import envelope
from daas.kms import keyring as keyrings
from daas.kms.stored import StoredObject
from daas.kube.install import Installation
from daas.kube.install.files import encryption
from daas.sealkeeper.kms.settings import KmsSettings

pytestmark = [
    pytest.mark.connected,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


class Cluster:
    """A development API server under the configuration that `daas k3s install` writes, and kubectl."""

    def __init__(self, stage: KmsStage) -> None:
        self.stage = stage
        self.state = stage.root / "apiserver"
        config = stage.root / "encryption.yaml"
        wanted = Installation("https://gateway:8443", kms_socket=stage.endpoint)
        config.write_text(yaml.safe_dump(encryption(wanted)))
        self.process = Process(
            "apiserver",
            ["python", "-m", "daas.devstack.apiserver", "--state", self.state, "--encryption-provider-config", config],
            log_path=stage.root / "logs" / "apiserver.log",
        )

    async def kubectl(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        child = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(self.process.ready["kubeconfig"]), "--cache-dir",
            str(self.stage.root / "kubectl"), *arguments, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, errors = await child.communicate(stdin.encode())
        assert child.returncode == code, errors.decode()
        return (out + errors).decode()

    async def health(self, path: str) -> str:
        child = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(self.process.ready["kubeconfig"]), "get", "--raw", path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, errors = await child.communicate()
        return (out + errors).decode()

    async def ready(self) -> bool:
        return (await self.health("/readyz")).strip() == "ok"

    def bodies(self, resource: str = "secrets") -> dict[str, bytes]:
        """The newest stored value of each object, by name, read from the store's file."""
        with sqlite3.connect(f"file:{self.state / 'log.sqlite'}?mode=ro", uri=True) as store:
            rows = store.execute("SELECT name, body FROM log WHERE resource = ? ORDER BY version", (resource,))
            return dict(rows.fetchall())

    def everything_stored(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.state.glob("log.sqlite*"))


def context_of(stage: KmsStage, folder: Path) -> str:
    """What the command line knows of the stage: the path of its file."""
    path = folder / "context.json"
    context = {
        "cluster": "test",
        "nats_url": "nats://127.0.0.1:1",
        "etcd_endpoints": ["http://127.0.0.1:1"],
        "ledger_url": stage.ledger_process.ready["url"],
        "registry": stage.registry,
        "package": stage.package,
        "chain": "00" * 32,
        "attestation_root": "11" * 32,
        "allowed_pcrs": {str(number): "22" * 48 for number in range(3)},
        "simulated": True,
    }
    path.write_text(json.dumps(context))
    return str(path)


async def run(*arguments: str, code: int = 0, **environment: str) -> str:
    """What a Python program of ours prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip
    out, errors = await child.communicate()
    assert child.returncode == code, (out + errors).decode()
    return out.decode() or errors.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with kms_stage(tmp_path_factory.mktemp("at-rest")) as stage:
        running = Cluster(stage)
        await running.process.start()
        yield running
        await running.process.terminate()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugin(cluster: Cluster) -> AsyncIterator[list[Process]]:
    """The plugin that runs; tests may put another in its place."""
    first = cluster.stage.plugin()
    await first.start()
    await eventually(cluster.ready)
    yield [first]


async def test_until_the_plugin_answers_everything_but_secrets_is_served(cluster: Cluster) -> None:
    assert "kms-providers failed" in await cluster.health("/readyz")
    assert "kms-providers failed" in await cluster.health("/healthz")
    assert "code = Unavailable" in await cluster.health("/healthz/kms-providers")
    refused = await cluster.kubectl("create", "secret", "generic", "early", "--from-literal=a=b", code=1)
    assert "got unexpected nil transformer" in refused
    assert "created" in await cluster.kubectl("create", "configmap", "early", "--from-literal=a=b")


async def test_kubectl_create_secret_leaves_only_noise_in_the_store(cluster: Cluster, plugin: list[Process]) -> None:
    assert plugin
    assert (await cluster.health("/healthz/kms-providers")).strip() == "ok"
    await cluster.kubectl("create", "secret", "generic", "db", "--from-literal=password=correct-horse-battery")
    shown = json.loads(await cluster.kubectl("get", "secret", "db", "-o", "json"))
    assert shown["data"] == {"password": "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"}
    stored = cluster.everything_stored()
    for noise in (b"correct-horse-battery", b"Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5", b'"password"'):
        assert noise not in stored
    body = cluster.bodies()["db"]
    assert body.startswith(b"k8s:enc:kms:v2:seal-keeper:")
    found = StoredObject.decode(body)
    assert found.key_id == await cluster.stage.key_id()
    assert len(found.dek_source) < 1024
    assert list(found.annotations) == [envelope.ANNOTATION]
    # Objects that no rule names stay readable: only Secrets are encrypted.
    assert b'"a":"b"' in cluster.bodies("configmaps")["early"]


async def test_a_restarted_plugin_is_not_noticed(cluster: Cluster, plugin: list[Process]) -> None:
    await plugin.pop().kill()
    assert "Y29ycmVjdC1" in await cluster.kubectl("get", "secret", "db", "-o", "json")
    await cluster.kubectl("create", "secret", "generic", "meanwhile", "--from-literal=a=b")
    plugin.append(cluster.stage.plugin())
    await plugin[0].start()
    await eventually(cluster.ready)
    await cluster.kubectl("create", "secret", "generic", "after", "--from-literal=a=b")


async def test_an_api_server_that_starts_without_the_plugin_has_its_secrets_when_it_is_back(
    cluster: Cluster, plugin: list[Process]
) -> None:
    await plugin.pop().terminate()
    await cluster.process.terminate()
    await cluster.process.start()
    health = await cluster.health("/readyz")
    assert "kms-providers failed" in health
    assert "informer-sync failed" in health
    refused = await cluster.kubectl("get", "secret", "db", code=1)
    assert "InternalError" in refused
    assert "got unexpected nil transformer" in refused
    assert "early" in await cluster.kubectl("get", "configmaps")
    plugin.append(cluster.stage.plugin())
    await plugin[0].start()
    await eventually(cluster.ready)
    names = json.loads(await cluster.kubectl("get", "secrets", "-o", "json"))["items"]
    assert {one["metadata"]["name"] for one in names} == {"db", "meanwhile", "after"}


async def test_after_a_rotation_a_rewrite_brings_every_secret_under_the_new_key(
    cluster: Cluster, plugin: list[Process]
) -> None:
    assert plugin
    old_id = await cluster.stage.key_id()
    new_id = cluster.stage.rotate().generations[-1].key_id

    async def taken_up() -> bool:
        return await cluster.stage.key_id() == new_id

    await eventually(taken_up)
    # The API server asks once a minute: a restart asks at once.
    await cluster.process.terminate()
    await cluster.process.start()
    await eventually(cluster.ready)
    assert {StoredObject.decode(one).key_id for one in cluster.bodies().values()} == {old_id}
    every = await cluster.kubectl("get", "secrets", "-A", "-o", "json")
    # Kubectl has no schema of a List from the development server, which serves no /openapi/v2.
    await cluster.kubectl("replace", "--validate=false", "-f", "-", stdin=every)
    assert {StoredObject.decode(one).key_id for one in cluster.bodies().values()} == {new_id}
    assert "Y29ycmVjdC1" in await cluster.kubectl("get", "secret", "db", "-o", "json")
    # The old generation is no longer needed.
    ring = keyrings.load(cluster.stage.keyring_path)
    keyrings.save(cluster.stage.keyring_path, keyrings.drop(ring, 1))
    await cluster.process.terminate()
    await cluster.process.start()
    await eventually(cluster.ready)
    assert "Y29ycmVjdC1" in await cluster.kubectl("get", "secret", "db", "-o", "json")


async def test_break_glass_gives_every_secret_back_on_another_machine(
    cluster: Cluster, plugin: list[Process], tmp_path: Path
) -> None:
    """A copy of the store and two master keys, or two key servers, are enough: no API server, no plugin."""
    assert plugin
    stage = cluster.stage
    elsewhere = tmp_path / "elsewhere"
    await asyncio.to_thread(shutil.copytree, cluster.state, elsewhere)
    exported = await run("-m", "daas.devstack.apiserver.export", str(elsewhere))
    assert "correct-horse" not in exported
    copy, out = tmp_path / "copy.json", tmp_path / "restored.json"
    copy.write_text(exported)
    keys = []
    for number in (0, 2):
        path = tmp_path / f"master-{number}.json"
        scalar = stage.master_secrets[number].hex()
        path.write_text(json.dumps({"object_id": "0x" + stage.object_ids[number].hex(), "master_key": scalar}))
        keys += ["--master-key", str(path)]
    restoring = ("-m", "daas.cli", "kms", "restore", str(copy), "--keyring", str(stage.keyring_path), "-o", str(out))
    said = await run(*restoring, *keys)
    assert "3 Secrets restored, 0 not" in said
    assert out.stat().st_mode & 0o777 == 0o600
    found = {one["metadata"]["name"]: one["data"] for one in json.loads(out.read_text())["items"]}
    assert found["db"] == {"password": "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"}
    assert set(found) == {"db", "meanwhile", "after"}

    # One master key is not enough, and says so.
    assert "worth 1 shares, the threshold is 2" in await run(*restoring, *keys[:2], code=1)

    # With key servers that still serve, for an account that the policy lets in.
    asking = ("--key-servers", str(stage.servers_path), "--keystore", str(stage.keystore_path))
    said = await run(*restoring, *asking, DAAS_CONTEXT=context_of(stage, tmp_path))
    assert "3 Secrets restored, 0 not" in said

    # What comes back is what kubectl takes.
    await cluster.kubectl("delete", "secret", "db")
    await cluster.kubectl("apply", "--validate=false", "-f", str(out))
    assert "Y29ycmVjdC1" in await cluster.kubectl("get", "secret", "db", "-o", "json")


async def test_the_commands_make_rotate_and_show_what_plugins_use(
    cluster: Cluster, plugin: list[Process], tmp_path: Path
) -> None:
    assert plugin
    stage = cluster.stage
    kms = ("-m", "daas.cli", "kms")
    assert json.loads(await run(*kms, "status", stage.endpoint, "-o", "json"))["key_id"] == await stage.key_id()
    assert "code = Unavailable" in await run(*kms, "status", f"unix://{tmp_path}/none.sock", code=1)
    path, context = str(tmp_path / "keyring.json"), context_of(stage, tmp_path)
    servers = ("--key-servers", str(stage.servers_path), "-o", "json")
    await run(*kms, "init", path, "--policy", stage.policy.address, *servers, DAAS_CONTEXT=context)
    again = await run(*kms, "init", path, "--policy", stage.policy.address, *servers, code=1, DAAS_CONTEXT=context)
    assert "is there already" in again
    rows = json.loads(await run(*kms, "rotate", path, *servers, DAAS_CONTEXT=context))
    assert [(row["generation"], row["servers"], row["threshold"]) for row in rows] == [(1, 3, 2), (2, 3, 2)]
    assert "is the current one" in await run(*kms, "drop", path, "2", "--yes", code=1)
    await run(*kms, "drop", path, "1", "--yes")
    assert [one.number for one in keyrings.load(Path(path)).generations] == [2]


async def test_the_endpoint_that_k3s_gets_is_where_the_plugin_listens() -> None:

    endpoint: Any = encryption(Installation("https://gateway:8443"))["resources"][0]["providers"][0]["kms"]["endpoint"]
    default: Path = KmsSettings.model_fields["kms_socket"].default
    assert endpoint == f"unix://{default}"
