"""A ledger, an API server and three key servers, with accounts that have money, and the `daas` command for them."""

import asyncio
import base64
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from typer.testing import CliRunner

from daas.cli.main import app
from daas.devstack.deployment import Deployment, deploy
from daas.devstack.process import Process
from daas.kube.client import KubeClient
from daas.ledger import Ledger, Signer

FUNDS_MIST = 100 * 10**9
PCRS = (b"\x11" * 48, b"\x22" * 48, b"\x33" * 48)


class SecretStage:
    """Use as `async with`; `daas` runs the command line in a thread, beside this loop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.deployment: Deployment | None = None
        self.ledger = self._process("ledger", "daas.devstack.ledger", "--state", directory / "ledger")
        self.apiserver = self._process("apiserver", "daas.devstack.apiserver", "--state", directory / "apiserver")
        self.key_servers = self._process("key-servers", "daas.sealkeeper.keyserver")
        self.admin = directory / "admin.key"
        #: The keystore of a node, where a test registers one.
        self.node = directory / "node.key"
        self._lock = threading.Lock()

    def _process(self, name: str, module: str, *arguments: str | Path) -> Process:
        return Process(name, ["python", "-m", module, *arguments], log_path=self.directory / "logs" / f"{name}.log")

    async def __aenter__(self) -> Self:
        await asyncio.gather(self.ledger.start(), self.apiserver.start())
        self.deployment = await deploy(
            self.directory / "deployment.json",
            ledger_url=self.ledger.ready["url"],
            faucet=self.ledger.ready["faucet"],
            signer=Signer.generate(self.admin),
            policy=bytes(32),
            pcrs=PCRS,
        )
        files = [self.directory / f"server-{n}.json" for n in (1, 2, 3)]
        self.key_servers = await self.key_server_process("key-servers", *files)
        self.write_context(self.servers())
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in (self.key_servers, self.apiserver, self.ledger):
            await process.terminate()

    async def key_server_process(self, name: str, *files: Path) -> Process:
        """A process with one key server for each file; missing ones are made."""
        process = Process(
            name,
            ["python", "-m", "daas.sealkeeper.keyserver"],
            log_path=self.directory / "logs" / f"{name}.log",
            env=self.key_server_environment(*files),
        )
        await process.start()
        return process

    def key_server_environment(self, *files: Path) -> dict[str, str]:
        assert self.deployment is not None
        return {
            "DAAS_KEY_SERVER_LEDGER_URL": self.ledger.ready["url"],
            "DAAS_KEY_SERVER_PACKAGE": self.deployment.package,
            "DAAS_KEY_SERVER_REGISTRY": self.deployment.registry,
            "DAAS_KEY_SERVER_KEY_FILES": ",".join(map(str, files)),
            "DAAS_KEY_SERVER_MAKE_KEYS": "true",
            "DAAS_KEY_SERVER_SIMULATED": "true",
        }

    def servers(self) -> list[dict[str, Any]]:
        """The key servers as an administrator pins them."""
        return [
            {key: each[key] for key in ("object_id", "url", "public_key")} | {"name": f"server-{n}"}
            for n, each in enumerate(self.key_servers.ready["servers"], start=1)
        ]

    def context(self, servers: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
        assert self.deployment is not None
        return {
            "cluster": "east",
            "nats_url": "nats://127.0.0.1:1",
            "etcd_endpoints": ["http://127.0.0.1:1"],
            "ledger_url": self.ledger.ready["url"],
            "registry": self.deployment.registry,
            "chain": self.deployment.chain,
            "package": self.deployment.package,
            "attestation_root": "44" * 32,
            "allowed_pcrs": {"0": "11" * 48, "1": "22" * 48, "2": "33" * 48},
            "simulated": True,
            "kubeconfig": self.apiserver.ready["kubeconfig"],
            "key_servers": {"threshold": 2, "servers": servers},
            "seal_policies": {"default": self.deployment.seal_policy},
            **changes,
        }

    def write_context(self, servers: list[dict[str, Any]], **changes: Any) -> Path:
        """Writes the context that `daas` uses by default."""
        path = self.directory / "context.json"
        path.write_text(json.dumps(self.context(servers, **changes)))
        return path

    async def account(self, name: str, *, stake_sui: int = 0) -> Path:
        """A keystore with money, and with stake where asked for."""
        path = self.directory / f"{name}.key"
        signer = Signer.generate(path)
        request = {"FixedAmountRequest": {"recipient": signer.address, "amount": FUNDS_MIST}}
        async with aiohttp.ClientSession() as session, session.post(self.ledger.ready["faucet"], json=request) as got:
            assert got.status < 300
        if stake_sui:
            async with await self.connect(path) as ledger:
                assert self.deployment is not None
                await ledger.staking.deposit(self.deployment.registry, stake_sui * 10**9)
        return path

    async def connect(self, keystore: Path) -> Ledger:
        assert self.deployment is not None
        signer = Signer.from_file(keystore)
        return await Ledger.connect(self.ledger.ready["url"], signer, package=self.deployment.package)

    async def daas(self, *arguments: str, keystore: Path | None = None, text: str | bytes | None = None) -> Any:
        """Runs `daas`; the result of typer's runner."""
        environment: Mapping[str, str | None] = {
            "DAAS_KEYSTORE": str(keystore) if keystore else None,
            "DAAS_CONTEXT": str(self.directory / "context.json"),
        }

        def run() -> Any:
            with self._lock:
                return CliRunner().invoke(app, list(arguments), env=environment, input=text)

        return await asyncio.to_thread(run)

    async def daas_json(self, *arguments: str, keystore: Path | None = None) -> Any:
        """What `daas ... -o json` says."""
        done = await self.daas(*arguments, "-o", "json", keystore=keystore)
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    async def kube(self) -> KubeClient:
        return await KubeClient.connect(Path(self.apiserver.ready["kubeconfig"]))

    async def apply(self, manifest: dict[str, Any]) -> None:
        """Creates a Secret."""
        async with await self.kube() as client:
            await client.request(
                "POST", f"/api/v1/namespaces/{manifest['metadata']['namespace']}/secrets", body=manifest
            )

    async def stored(self, namespace: str, name: str) -> dict[str, Any]:
        async with await self.kube() as client:
            found: dict[str, Any] = json.loads(
                await client.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
            )
            return found


def secret(name: str, values: dict[str, str], *, namespace: str = "default", **fields: Any) -> dict[str, Any]:
    """A Secret as somebody writes it."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data, **fields}


def bytes_below(directory: Path) -> dict[Path, bytes]:
    """Every file's content, key files excepted: they are what the secrets are protected by."""
    return {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and os.access(path, os.R_OK) and path.suffix != ".key"
    }
