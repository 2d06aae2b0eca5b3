"""A development stack as compose has it and more: NKeys and TLS, two gateways, two enclaves, five key servers, links.

Whatever ends is started again, as a container with `restart: unless-stopped` is. Every service is behind a link of its
own that can be cut.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from daas.common.bus import Bus
from daas.common.errors import DaasError
from daas.common.subjects import Service
from daas.devstack.access import _free_port
from daas.devstack.process import Process
from daas.devstack.stack import READY_TIMEOUT_S, SEAL_KEEPER, SERVICES, Stack
from support.guarded_nats import GuardedNats
from support.links import Links, Proxy

KEY_SERVERS = 5
THRESHOLD = 3
GATEWAYS = ("gateway", "gateway-2")
ENCLAVES = ("enclave", "enclave-2")
#: Behind a link of their own.
LINKED = (*SERVICES, "gateway-2", "enclave-2")
KEY_SERVER_NAMES = tuple(f"key-server-{n + 1}" for n in range(KEY_SERVERS))
SERVERS = ("nats", "etcd", "ledger", "apiserver", "walrus", "kms", *KEY_SERVER_NAMES)
LEASE = "kube-system/k3s-daas-gateway"
#: Short, since a day is: client-go's default is 15 s.
LEASE_S = 4
RESTART_DELAY_S = 0.5
#: A machine that is busy with other tests takes its time.
SETTLE_S = 240.0
POLL_S = 0.1


class DayStack(Stack):
    """Use as `async with`, inside the links.

    Args:
        state_dir: as of a Stack.
        policy: as of a Stack.
        links: open, for the services in LINKED.
    """

    def __init__(self, state_dir: Path, *, policy: bytes, links: Links) -> None:
        super().__init__(state_dir, policy=policy, enclaves=len(ENCLAVES), environment={"DAAS_LOG_LEVEL": "debug"})
        self.links = links
        #: What has been started again after it ended, by name.
        self.restarts: Counter[str] = Counter()
        self.guarded = GuardedNats(
            self.state_dir / "nats", identities=self.state_dir / "identities", cluster=self.cluster
        )
        self.nats = self.guarded
        self._missing: set[str] = set()
        self._ports: dict[str, int] = {}
        self._nats_urls: dict[str, str] = {}
        self._front: Proxy | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._http: aiohttp.ClientSession | None = None

    # --- starting -----------------------------------------------------------------------------------------------

    @property
    def service_names(self) -> list[str]:
        return [*SERVICES, "gateway-2", "enclave-2"]

    async def start(self) -> None:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        await super().start()
        await self.until(lambda: self.well("gateway"), "a gateway that leads")
        self._supervisor = asyncio.create_task(self._supervise(), name="supervisor")

    async def stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        await super().stop()
        if self._front is not None:
            await self._front.stop()
        if self._http is not None:
            await self._http.close()

    async def start_apiserver(self, *flags: str) -> None:
        """On the same port again: its clients know it."""
        if self._front is None:
            for name in GATEWAYS:
                self._ports |= {f"{name}-http": _free_port(), f"{name}-webhooks": _free_port()}
            # As a Kubernetes Service would: whoever of the gateways takes the connection.
            self._front = Proxy([(self.links.address(name), self._ports[f"{name}-webhooks"]) for name in GATEWAYS])
            await self._front.start(self.access.port)
        await super().start_apiserver(*self._same_port("apiserver"), *flags)

    def _same_port(self, name: str) -> list[str]:
        before = self.processes.get(name)
        if before is not None and "url" in before.ready:
            self._ports[name] = int(str(before.ready["url"]).rpartition(":")[2])
        return ["--port", str(self._ports.get(name, 0))]

    async def _start_ledger(self) -> None:
        await self._server("ledger", "--state", self.state_dir / "ledger", *self._same_port("ledger"))

    async def start_walrus(self) -> None:
        """On the same port again."""
        await self._server("walrus", "--state", self.state_dir / "walrus", *self._same_port("walrus"))

    async def _declare_bus(self) -> None:
        for name in self.service_names:
            self._nats_urls[name] = await self.links.nats_url(name, self.nats.url)
        async with await self.bus(Service.OPERATOR) as bus:
            await bus.declare(consumers=True)

    async def bus(self, service: Service) -> Bus:
        """A connection in a service's name; use as `async with`."""
        return await self.guarded.bus(service)

    async def start_key_servers(self) -> None:
        await asyncio.gather(*(self._start_key_server(name) for name in KEY_SERVER_NAMES))
        self.key_servers_path.write_text(json.dumps(self.key_servers(), indent=2) + "\n", encoding="utf-8")

    async def _start_key_server(self, name: str) -> None:
        deployment, before = self._deployed(), self.processes.get(name)
        port = str(before.ready["http"]).rpartition(":")[2] if before is not None and before.ready else "0"
        process = Process(
            name,
            ["python", "-m", "daas.sealkeeper.keyserver"],
            log_path=self.state_dir / "logs" / f"{name}.log",
            env={
                "DAAS_KEY_SERVER_LEDGER_URL": self.ready("ledger", "url"),
                "DAAS_KEY_SERVER_PACKAGE": deployment.package,
                "DAAS_KEY_SERVER_REGISTRY": deployment.registry,
                "DAAS_KEY_SERVER_KEY_FILES": str(self.state_dir / "key-servers" / f"{name}.json"),
                "DAAS_KEY_SERVER_MAKE_KEYS": "true",
                "DAAS_KEY_SERVER_SIMULATED": "true",
                "DAAS_KEY_SERVER_PORT": port,
            },
            ready_timeout_s=SETTLE_S,
        )
        await process.start()
        self.processes[name] = process

    def key_servers(self) -> dict[str, Any]:
        found = [(name, self.ready(name, "servers")[0]) for name in KEY_SERVER_NAMES]
        fields = ("object_id", "url", "public_key")
        return {
            "threshold": THRESHOLD,
            "servers": [{"name": name} | {field: each[field] for field in fields} for name, each in found],
        }

    def service_environment(self, name: str) -> dict[str, str]:
        kind = "gateway" if name in GATEWAYS else name
        who = {SEAL_KEEPER: Service.SEAL_KEEPER}.get(kind) or Service(kind.partition("-")[0])
        address = self.links.address(name)
        own = {
            "DAAS_STATE_DIR": str(self.state_dir / name),
            "DAAS_NATS_URL": self._nats_urls[name],
            "DAAS_HTTP_HOST": address,
            **self.guarded.environment(who),
        }
        if kind == "gateway":
            own |= {
                "DAAS_HTTP_PORT": str(self._ports[f"{name}-http"]),
                "DAAS_GATEWAY_API_HOST": address,
                "DAAS_GATEWAY_WEBHOOK_HOST": address,
                "DAAS_GATEWAY_WEBHOOK_PORT": str(self._ports[f"{name}-webhooks"]),
                "DAAS_GATEWAY_LEASE": LEASE,
                "DAAS_GATEWAY_LEASE_S": str(LEASE_S),
            }
        return super().service_environment(kind) | own

    async def start_service(self, name: str) -> None:
        """Behind its link. A gateway is not waited for: one that stands by is not ready."""
        argv: list[str | Path] = ["python", "-m", f"daas.{name.partition('-')[0]}"]
        process = self.processes[name] = Process(
            name,
            self.links.command(name, argv),
            log_path=self.state_dir / "logs" / f"{name}.log",
            env=self.service_environment(name),
            announces=name not in GATEWAYS,
            ready_timeout_s=READY_TIMEOUT_S if self._supervisor is None else SETTLE_S,
        )
        await process.start()

    def ready(self, name: str, field: str) -> Any:
        if name in GATEWAYS and field == "http":
            return f"http://{self.links.address(name)}:{self._ports[f'{name}-http']}"
        return super().ready(name, field)

    # --- what a supervisor does ---------------------------------------------------------------------------------

    def part(self, name: str) -> Process:
        """The process of a part; another one once it has been started again."""
        if name == "etcd":
            return self.etcd.process
        return self.nats.process if name == "nats" else self.processes[name]

    def _alive(self, name: str) -> bool:
        return self.part(name).running

    async def _supervise(self) -> None:
        """Starts again what has ended; each by itself, since one may need another to become ready."""
        starting: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for name in (*self.service_names, *SERVERS):
                    if name in starting and not starting[name].done():
                        continue
                    if not self._alive(name):
                        if name not in self._missing:
                            self.restarts[name] += 1
                            self._missing.add(name)
                        starting[name] = asyncio.create_task(self._start_again(name), name=f"start {name}")
                await asyncio.sleep(POLL_S)
        finally:
            for task in starting.values():
                task.cancel()
            await asyncio.gather(*starting.values(), return_exceptions=True)

    async def _start_again(self, name: str) -> None:
        await asyncio.sleep(RESTART_DELAY_S)
        how: dict[str, Callable[[], Awaitable[None]]] = {
            "nats": self.nats.start,
            "etcd": self.etcd.start,
            "ledger": self._start_ledger,
            "apiserver": self.start_apiserver,
            "walrus": self.start_walrus,
            "kms": self.start_kms,
        }
        # What fails to start, because what it needs is away too, is tried again.
        with contextlib.suppress(DaasError, TimeoutError, AssertionError):
            if name in KEY_SERVER_NAMES:
                await self._start_key_server(name)
            elif name in how:
                await how[name]()
            else:
                await self.start_service(name)
            self._missing.discard(name)

    # --- what is done to it, and how it is --------------------------------------------------------------------------

    def signal(self, name: str, number: signal.Signals) -> None:
        """A signal to a part, where it lives."""
        if self._alive(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.part(name).pid, number)

    async def well(self, name: str) -> bool:
        """Whether a part answers as it does when all is well; of the gateways one leads and the other listens."""
        if not self._alive(name):
            return False
        if name in GATEWAYS:
            answers = [await self._status(f"{self.ready(one, 'http')}/readyz") for one in GATEWAYS]
            return 200 in answers and await self._status(f"{self.ready(name, 'http')}/healthz") == 200
        try:
            url = self._url(name)
        except DaasError:
            return False
        status = await self._status(url)
        return status == 200 if url.endswith("/readyz") else status != 0

    def _url(self, name: str) -> str:
        """What answers as soon as a part does; a service says more: whether it is ready.

        Raises:
            NotFound: `not-started`.
        """
        if name == "nats":
            return f"{self.nats.monitor_url}/healthz"
        if name == "etcd":
            return f"{self.etcd.endpoint}/health"
        if name == "ledger":
            return str(self.ready(name, "faucet"))
        if name in {"apiserver", "walrus"}:
            return f"{self.ready(name, 'url')}/healthz"
        return f"{self.ready(name, 'http')}/{'health' if name in KEY_SERVER_NAMES else 'readyz'}"

    async def _status(self, url: str) -> int:
        """The status of an answer, 0 where there is none."""
        assert self._http is not None
        try:
            async with self._http.get(url, ssl=False) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits until something holds.

        Raises:
            AssertionError: not within SETTLE_S; says what was waited for.
        """
        try:
            async with asyncio.timeout(SETTLE_S):
                while not await condition():  # noqa: ASYNC110 - a condition of other processes
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"not within {SETTLE_S:.0f} s: {what}") from None
