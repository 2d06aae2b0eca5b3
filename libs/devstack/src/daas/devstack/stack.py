"""The whole system on one machine: every server and service as a process of its own, on ports that they choose.

Servers first (NATS, etcd, Walrus, ledger, API server, software NSM), then the registry on the ledger, then the
services. The services are started as anyone would start them, by command and environment; nothing of them is imported
here.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from daas.common.bus import Bus, BusSettings
from daas.common.errors import NotFound, Unavailable
from daas.common.subjects import Service
from daas.devstack import kube_apiserver
from daas.devstack.access import AccessFiles
from daas.devstack.at_rest import AtRest, socket_path, wait_until_ready
from daas.devstack.deployment import Deployment, deploy, operator_key
from daas.devstack.etcd import EtcdServer
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.kube import KubeClient

#: Modules of the services, by the name they go by on screen.
SEAL_KEEPER = "sealkeeper"
#: Nothing is pulled here: no kubelet runs the pods of a development stack.
UNSEAL_IMAGE = "k3s-daas/cli:dev"
SERVICES = ("relay", "enclave", "storage", "gateway", SEAL_KEEPER)
#: Seal key servers in one process, to save memory: two of the three open what is sealed.
KEY_SERVERS = 3
KEY_SERVER_THRESHOLD = 2
#: A machine that is busy with other things takes its time; what ends is told at once.
READY_TIMEOUT_S = 180.0
#: A real kube-apiserver prepares its storage first.
SERVER_TIMEOUT_S = 150.0
#: A restarted enclave boots with fresh registers, as it does on hardware.
NSM_ARGUMENTS = ("--enclave-per-connection",)

Progress = Callable[[str, str], None]


class Stack:
    """One development system with all its state below one directory.

    Args:
        state_dir: made if missing; a second run on the same directory continues where the first stopped.
        cluster: name of the cluster.
        policy: digest of the placement policy that enclaves must attest, 32 bytes.
        progress: told what starts (`name`) and where it is (`detail`).
        environment: more settings for the services.
        enclaves: how many enclaves run; all but one stand by.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        policy: bytes,
        cluster: str = "dev",
        progress: Progress | None = None,
        environment: Mapping[str, str] | None = None,
        enclaves: int = 1,
    ) -> None:
        self.state_dir = state_dir.resolve()
        self.cluster = cluster
        self.nats = NatsServer(self.state_dir / "nats")
        self.etcd = EtcdServer(self.state_dir / "etcd")
        self.access = AccessFiles(self.state_dir / "access")
        self.at_rest = AtRest(self.state_dir / "kms", socket_path("kms"))
        self.processes: dict[str, Process] = {}
        self.deployment: Deployment | None = None
        self._policy = policy
        self._progress = progress or (lambda _name, _detail: None)
        self._environment = dict(environment or {})
        self._enclaves = enclaves

    async def __aenter__(self) -> Self:
        """Starts everything; stops what was started where one part fails."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops everything."""
        await self.stop()

    async def start(self) -> None:
        """Starts servers, deployment and services, each as soon as what it needs is there.

        Raises:
            Unavailable: a part did not become ready; the error quotes the end of its log.
        """
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        await asyncio.to_thread(self.access.write)
        self.at_rest.write()
        await asyncio.gather(
            self._named("nats", self.nats.start(), lambda: self.nats.url),
            self._named("etcd", self.etcd.start(), lambda: self.etcd.endpoint),
            self._server("ledger", "--state", self.state_dir / "ledger"),
            self.start_apiserver(),
            self.start_walrus(),
            self._security_modules(),
        )
        await asyncio.gather(self._declare_bus(), self._deploy())
        await asyncio.gather(self._sealing(), *(self.start_service(n) for n in self.service_names if n != SEAL_KEEPER))
        async with await KubeClient.connect(Path(self.ready("apiserver", "kubeconfig"))) as client:
            await self.access.admit(client)
        self.write_context()

    async def _sealing(self) -> None:
        """The keeper and the KMS plugin read who the key servers are."""
        await self.start_key_servers()
        await asyncio.gather(self.start_kms(), self.start_service(SEAL_KEEPER))

    async def start_kms(self) -> None:
        """Starts the KMS plugin, or starts it again; returns when the API server reads and writes Secrets with it."""
        ledger, faucet = self.ready("ledger", "url"), self.ready("ledger", "faucet")
        await self.at_rest.prepare(
            self._deployed(),
            cluster=self.cluster,
            ledger_url=ledger,
            faucet=faucet,
            key_servers=self.key_servers_path,
        )
        process = self.processes["kms"] = Process(
            "kms",
            ["python", "-m", "daas.sealkeeper.kms"],
            log_path=self.state_dir / "logs" / "kms.log",
            env=self.at_rest.environment(self.key_servers_path),
            ready_timeout_s=READY_TIMEOUT_S,
        )
        await process.start()
        await wait_until_ready(Path(self.ready("apiserver", "kubeconfig")), READY_TIMEOUT_S)
        self._progress("kms", f"{self.at_rest.socket}; Secrets are encrypted at rest")

    async def _security_modules(self) -> None:
        """One software NSM for each enclave, under one root, which the first of them makes."""
        for name in self.nsm_names:
            socket = self._nsm_socket(name)
            await self._server(
                name, *NSM_ARGUMENTS, "--socket", socket, "--state", self.state_dir / "nsm", module="nsm"
            )

    @property
    def nsm_names(self) -> list[str]:
        """One software NSM for each enclave."""
        return ["nsm" if n == 0 else f"nsm-{n + 1}" for n in range(self._enclaves)]

    @property
    def service_names(self) -> list[str]:
        """The services of this stack; further enclaves are `enclave-2`, ..."""
        more = [f"enclave-{n + 1}" for n in range(1, self._enclaves)]
        return [*SERVICES, *more]

    def _nsm_socket(self, name: str) -> Path:
        return socket_path(name)

    async def _server(self, name: str, *arguments: str | Path, module: str | None = None) -> None:
        await self._start_server(name, ["python", "-m", f"daas.devstack.{module or name}", *arguments])

    async def _start_server(self, name: str, argv: list[str | Path]) -> None:
        log = self.state_dir / "logs" / f"{name}.log"
        process = self.processes[name] = Process(name, argv, log_path=log, ready_timeout_s=SERVER_TIMEOUT_S)
        ready = await process.start()
        self._progress(name, str(ready.get("url") or ready.get("socket")))

    async def start_apiserver(self, *flags: str) -> None:
        """Starts the API server, or starts it again on a new port after it was killed."""
        argv = kube_apiserver.command(self.state_dir / "apiserver", *self.access.flags, *self.at_rest.flags, *flags)
        await self._start_server("apiserver", argv)

    async def start_walrus(self) -> None:
        """Starts the Walrus stand-in, or starts it again on its old port after it was killed."""
        before = self.processes.get("walrus")
        port = str(before.ready["url"]).rpartition(":")[2] if before is not None and before.ready else "0"
        await self._server("walrus", "--state", self.state_dir / "walrus", "--port", port)

    async def start_key_servers(self) -> None:
        """Starts the Seal key servers, or starts them again on their old ports after they were killed."""
        before = self.processes.get("key-servers")
        port = str(before.ready["http"]).rpartition(":")[2] if before is not None and before.ready else "0"
        deployment = self._deployed()
        files = [self.state_dir / "key-servers" / f"server-{n + 1}.json" for n in range(KEY_SERVERS)]
        process = self.processes["key-servers"] = Process(
            "key-servers",
            ["python", "-m", "daas.sealkeeper.keyserver"],
            log_path=self.state_dir / "logs" / "key-servers.log",
            env={
                "DAAS_KEY_SERVER_LEDGER_URL": self.ready("ledger", "url"),
                "DAAS_KEY_SERVER_PACKAGE": deployment.package,
                "DAAS_KEY_SERVER_REGISTRY": deployment.registry,
                "DAAS_KEY_SERVER_KEY_FILES": ",".join(map(str, files)),
                "DAAS_KEY_SERVER_MAKE_KEYS": "true",
                "DAAS_KEY_SERVER_SIMULATED": "true",
                "DAAS_KEY_SERVER_PORT": port,
            },
            ready_timeout_s=READY_TIMEOUT_S,
        )
        await process.start()
        self.key_servers_path.write_text(json.dumps(self.key_servers(), indent=2) + "\n", encoding="utf-8")
        self._progress("key-servers", f"{KEY_SERVER_THRESHOLD} of {KEY_SERVERS} at {self.ready('key-servers', 'http')}")

    @property
    def key_servers_path(self) -> Path:
        """The key servers as an administrator pins them."""
        return self.state_dir / "key-servers.json"

    def key_servers(self) -> dict[str, Any]:
        """The content of that file: threshold, and of each server object id, address and public key."""
        servers = [
            {
                "object_id": each["object_id"],
                "url": each["url"],
                "public_key": each["public_key"],
                "name": f"server-{n}",
            }
            for n, each in enumerate(self.ready("key-servers", "servers"), start=1)
        ]
        return {"threshold": KEY_SERVER_THRESHOLD, "servers": servers}

    async def _named(self, name: str, started: Awaitable[None], where: Callable[[], str]) -> None:
        await started
        self._progress(name, where())

    async def _declare_bus(self) -> None:
        settings = BusSettings(nats_url=self.nats.url, cluster=self.cluster)
        async with await Bus.connect(Service.OPERATOR, settings) as bus:
            for _ in range(2):
                with contextlib.suppress(Unavailable):  # a busy disk takes its time for the first streams
                    return await bus.declare()
            return await bus.declare()

    async def _deploy(self) -> None:
        pcrs = self.ready("nsm", "pcrs")
        self.deployment = await deploy(
            self.state_dir / "deployment.json",
            ledger_url=self.ready("ledger", "url"),
            faucet=self.ready("ledger", "faucet"),
            signer=operator_key(self.state_dir / "operator.key"),
            policy=self._policy,
            pcrs=(bytes.fromhex(pcrs["0"]), bytes.fromhex(pcrs["1"]), bytes.fromhex(pcrs["2"])),
        )
        self._progress("registry", f"{self.deployment.registry} (simulated)")

    def ready(self, name: str, field: str) -> Any:
        """A field of what a process announced when it was ready.

        Raises:
            NotFound: `not-started`.
        """
        process = self.processes.get(name)
        if process is None or field not in process.ready:
            raise NotFound(f"{name} has announced no {field}", reason="not-started")
        return process.ready[field]

    def service_environment(self, name: str) -> dict[str, str]:
        """The settings of one service, as an operator would write them down."""
        deployment = self._deployed()
        common = {
            "DAAS_NATS_URL": self.nats.url,
            "DAAS_CLUSTER": self.cluster,
            "DAAS_STATE_DIR": str(self.state_dir / name),
        }
        own = {
            "relay": {
                "DAAS_RELAY_LEDGER_URL": self.ready("ledger", "url"),
                "DAAS_RELAY_PACKAGE": deployment.package,
                "DAAS_RELAY_REGISTRY": deployment.registry,
                "DAAS_RELAY_KEYSTORE": str(self.state_dir / "operator.key"),
                "DAAS_RELAY_DEVELOPMENT_ROOT": self.ready("nsm", "root_sha256"),
            },
            "storage": {
                "DAAS_STORAGE_ETCD_ENDPOINTS": self.etcd.endpoint,
                "DAAS_STORAGE_EVIDENCE_BACKEND": "both",
                "DAAS_STORAGE_AUDIT_BACKEND": "walrus",
                "DAAS_STORAGE_WALRUS_PUBLISHERS": self.ready("walrus", "url"),
                "DAAS_STORAGE_WALRUS_AGGREGATORS": self.ready("walrus", "url"),
                "DAAS_STORAGE_WALRUS_EPOCH_MS": str(self.ready("walrus", "epoch_ms")),
                "DAAS_STORAGE_WALRUS_LINGER_MS": "50",
            },
            "gateway": {
                "DAAS_GATEWAY_KUBECONFIG": self.ready("apiserver", "kubeconfig"),
                "DAAS_GATEWAY_LEDGER_URL": self.ready("ledger", "url"),
                "DAAS_GATEWAY_PACKAGE": deployment.package,
                "DAAS_GATEWAY_REGISTRY": deployment.registry,
                "DAAS_GATEWAY_KEEPER_TRUST_FILE": str(self._write_keeper_trust()),
                "DAAS_GATEWAY_UNSEAL_IMAGE": UNSEAL_IMAGE,
                **self.access.gateway_settings(),
            },
            SEAL_KEEPER: {
                "DAAS_SEAL_KEEPER_NSM": self.ready("nsm", "socket"),
                "DAAS_SEAL_KEEPER_LEDGER_URL": self.ready("ledger", "url"),
                "DAAS_SEAL_KEEPER_PACKAGE": deployment.package,
                "DAAS_SEAL_KEEPER_REGISTRY": deployment.registry,
                "DAAS_SEAL_KEEPER_KEY_SERVERS": str(self.key_servers_path),
                "DAAS_SEAL_KEEPER_POLICIES": json.dumps({"default": deployment.seal_policy}),
                "DAAS_SEAL_KEEPER_KUBECONFIG": self.ready("apiserver", "kubeconfig"),
            },
        }
        if name.startswith("enclave"):
            nsm = name.replace("enclave", "nsm")
            return common | {"DAAS_ENCLAVE_NSM": self.ready(nsm, "socket")} | self._environment
        return common | own[name] | self._environment

    def _write_keeper_trust(self) -> Path:
        """What an administrator would pin of the keeper: here the registers and the root of the software NSM."""
        deployment, path = self._deployed(), self.state_dir / "keeper-trust.json"
        trust = {
            "measurements": [self.ready("nsm", "pcrs")],
            "chain": deployment.chain,
            "registry": deployment.registry,
            "development_root_sha256": self.ready("nsm", "root_sha256"),
        }
        path.write_text(json.dumps(trust, indent=2) + "\n", encoding="utf-8")
        return path

    async def start_service(self, name: str) -> None:
        """Starts a service, or starts it again after it was killed; returns when it is ready.

        Raises:
            Unavailable: it ended first, or took too long; quotes the end of its log.
        """
        module = f"daas.{name.split('-', maxsplit=1)[0]}"
        process = self.processes[name] = Process(
            name,
            ["python", "-m", module],
            log_path=self.state_dir / "logs" / f"{name}.log",
            env=self.service_environment(name),
            ready_timeout_s=READY_TIMEOUT_S,
        )
        ready = await process.start()
        self._progress(name, str(ready.get("http")))

    async def kill(self, name: str) -> None:
        """SIGKILL to one process."""
        await self.processes[name].kill()

    def _deployed(self) -> Deployment:
        if self.deployment is None:
            raise Unavailable("the registry is not deployed yet", reason="not-deployed")
        return self.deployment

    def context(self) -> dict[str, Any]:
        """What the command line needs to find this stack."""
        deployment = self._deployed()
        return {
            "cluster": self.cluster,
            "nats_url": self.nats.url,
            "etcd_endpoints": [self.etcd.endpoint],
            "ledger_url": self.ready("ledger", "url"),
            "package": deployment.package,
            "registry": deployment.registry,
            "chain": deployment.chain,
            "attestation_root": self.ready("nsm", "root_sha256"),
            "allowed_pcrs": self.ready("nsm", "pcrs"),
            "kubeconfig": self.ready("apiserver", "kubeconfig"),
            "key_servers": self.key_servers(),
            "seal_policies": {"default": deployment.seal_policy},
            "walrus_aggregators": [self.ready("walrus", "url")],
            "services": {name: self.ready(name, "http") for name in [*self.service_names, "kms"]},
            "simulated": True,
        }

    @property
    def context_path(self) -> Path:
        """The file that `DAAS_CONTEXT` names."""
        return self.state_dir / "context.json"

    def write_context(self) -> None:
        """Writes the context for other commands on this machine."""
        self.context_path.write_text(json.dumps(self.context(), indent=2) + "\n", encoding="utf-8")

    def pids(self) -> dict[str, int]:
        """The process of every part, by name."""
        own = {name: process.pid for name, process in self.processes.items()}
        return own | {"nats": self.nats.process.pid, "etcd": self.etcd.pid}

    def rss_bytes(self) -> dict[str, int]:
        """Resident memory of every part, by name."""
        return {name: _rss_bytes(pid) for name, pid in self.pids().items()}

    async def stop(self) -> None:
        """Stops services first, then servers; nothing is left behind."""
        services = [self.processes.pop(name) for name in self.service_names if name in self.processes]
        await asyncio.gather(*(process.terminate() for process in services))
        servers = [self.processes.pop(name) for name in list(self.processes)]
        await asyncio.gather(*(process.terminate() for process in servers), self.nats.stop(), self.etcd.stop())
        self.context_path.unlink(missing_ok=True)


def _rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
