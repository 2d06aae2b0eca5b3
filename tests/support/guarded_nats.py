"""nats-server as production has it - TLS before the greeting, one NKey each - with a wire-tap that hears everything."""

import asyncio
import json
import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from daas.common.bus import Bus, BusSettings
from daas.common.bus.link import NKeyClient
from daas.common.nats_server import Tls, production_config
from daas.common.nkeys import keep_nkey
from daas.common.subjects import Service
from daas.devstack.identities import keep_certificate
from daas.devstack.nats import NatsServer, nats_server_binary
from daas.devstack.process import Process

TAP = "tap"
START_S = 60.0


class GuardedNats(NatsServer):
    """A NatsServer with the configuration of production.

    Args:
        store_dir: as of a NatsServer.
        identities: gets an NKey for each service, and the certificates.
        cluster: whose subjects the services may use.
        names: of the server, in its certificate.
    """

    def __init__(
        self, store_dir: Path, *, identities: Path, cluster: str, names: Sequence[str] = ("127.0.0.1",)
    ) -> None:
        super().__init__(store_dir)
        self._names = names
        self._identities = identities
        self._cluster = cluster

    async def start(self) -> None:
        """Starts it: on ports of its choice the first time, on the same ports after that."""
        tls = self._identities / "tls"
        keep_certificate(tls, self._names)
        ports_dir = self.store_dir / "ports"
        shutil.rmtree(ports_dir, ignore_errors=True)
        ports_dir.mkdir(parents=True)
        config = production_config(
            self._cluster,
            server_name=self._name,
            store_dir=self.store_dir / "jetstream",
            tls=Tls(tls / "server.pem", tls / "server.key", tls / "ca.pem"),
            nkeys={service: keep_nkey(self.nkey_file(service.value)) for service in Service},
            host="127.0.0.1",
            port=urlsplit(self.url).port or -1,
            monitor_port=urlsplit(self.monitor_url).port or -1,
        )
        path = self.store_dir / "nats-server.conf"
        path.write_text(with_tap(config, keep_nkey(self.nkey_file(TAP))), encoding="utf-8")
        argv: list[str | Path] = [nats_server_binary(), "-c", path, "--ports_file_dir", ports_dir]
        self._process = Process("nats-server", argv, log_path=self.store_dir / "nats-server.log", announces=False)
        await self._process.start()
        async with asyncio.timeout(START_S):
            while not (found := list(ports_dir.glob("*.ports"))) or not found[0].read_text().endswith("}"):
                assert self._process.running, self._process.log_tail()
                await asyncio.sleep(0.02)
        ports = json.loads(found[0].read_text(encoding="utf-8"))
        self.url, self.monitor_url = str(ports["nats"][0]), str(ports["monitoring"][0])

    def nkey_file(self, name: str) -> Path:
        """Where a user's seed is kept."""
        return self._identities / f"{name}.nk"

    def environment(self, service: Service) -> dict[str, str]:
        """How a service signs in."""
        return {
            "DAAS_NATS_NKEY_FILE": str(self.nkey_file(service.value)),
            "DAAS_NATS_CA_FILE": str(self._identities / "tls" / "ca.pem"),
            "DAAS_NATS_TLS_FIRST": "true",
        }

    async def bus(self, service: Service) -> Bus:
        """A connection in a service's name; use as `async with`."""
        settings = BusSettings(
            nats_url=self.url,
            cluster=self._cluster,
            nats_nkey_file=self.nkey_file(service.value),
            nats_ca_file=self._identities / "tls" / "ca.pem",
            nats_tls_first=True,
        )
        return await Bus.connect(service, settings)


def with_tap(config: str, public: str) -> str:
    """The configuration with one more user, who hears every subject and may speak on one that nobody reads."""
    head, mark, tail = config.rpartition("authorization: ")
    block = json.loads(tail)
    rights = {"publish": {"allow": [f"{TAP}.>"]}, "subscribe": {"allow": [">"]}}
    block["users"].append({"nkey": public, "permissions": rights})
    return f"{head}{mark}{json.dumps(block)}\n"


class Tap:
    """Hears what is said on the bus, from the inside of TLS; comes back by itself when the server does."""

    def __init__(self, server: GuardedNats) -> None:
        self._server = server
        self._client = NKeyClient()
        self.heard = bytearray()

    async def __aenter__(self) -> Self:
        environment = self._server.environment(Service.MONITOR)
        await self._client.connect(
            self._server.url,
            nkeys_seed=str(self._server.nkey_file(TAP)),
            tls=ssl.create_default_context(cafile=environment["DAAS_NATS_CA_FILE"]),
            tls_handshake_first=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            error_cb=_nobody_asks,
        )
        await self._client.subscribe(">", cb=self._hear)
        await self._client.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def _hear(self, message: Any) -> None:
        self.heard += message.subject.encode() + str(message.headers).encode() + message.data

    async def say(self, data: bytes) -> None:
        """Says something and returns when it has been heard."""
        before = len(self.heard)
        await self._client.publish(f"{TAP}.said", data)
        async with asyncio.timeout(100):
            while data not in self.heard[before:]:  # noqa: ASYNC110 - NATS calls back on a task of its own
                await asyncio.sleep(0.02)


async def _nobody_asks(_error: Exception) -> None:
    """The server is killed on purpose."""
