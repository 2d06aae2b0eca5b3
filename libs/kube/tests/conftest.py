"""A development API server as a process of its own, and a TCP door in front of it that can be shut."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from daas.kube import KubeClient

READY_S = 30.0


class ApiServerProcess:
    """The server of one state directory; it may be killed and started again."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process: asyncio.subprocess.Process | None = None
        self.kubeconfig = Path()
        self.url = ""

    async def start(self, *arguments: str) -> None:
        with (self.state / "stderr.log").open("ab") as stderr:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "daas.devstack.apiserver",
                "--state",
                str(self.state),
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), READY_S)
        assert line, (self.state / "stderr.log").read_text()
        ready = json.loads(line)
        self.url, self.kubeconfig = ready["url"], Path(ready["kubeconfig"])

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.process = None


class Door:
    """A TCP forwarder: what stands between a client and a server may be cut, refused, and pointed elsewhere."""

    def __init__(self) -> None:
        self.target = ("127.0.0.1", 0)
        self.accepted = 0
        self.open = True
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Breaks every connection that goes through."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if not self.open:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        self._writers -= {writer, up_writer}

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


class DoorKube:
    """An API server behind a door, and a kubeconfig that leads through it."""

    def __init__(self, server: ApiServerProcess, door: Door, kubeconfig: Path) -> None:
        self.server = server
        self.door = door
        self.kubeconfig = kubeconfig


@pytest.fixture
async def apiserver(tmp_path: Path) -> AsyncIterator[ApiServerProcess]:
    state = tmp_path / "apiserver"
    state.mkdir()
    server = ApiServerProcess(state)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def kube(apiserver: ApiServerProcess) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(apiserver.kubeconfig) as client:
        yield client


@pytest.fixture
async def behind_door(apiserver: ApiServerProcess, tmp_path: Path) -> AsyncIterator[DoorKube]:
    door = Door()
    port = await door.start()
    door.target = ("127.0.0.1", int(apiserver.url.rsplit(":", 1)[1]))
    config: Any = yaml.safe_load(apiserver.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path = tmp_path / "door.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    yield DoorKube(apiserver, door, path)
    await door.stop()


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits for a condition, with a deadline."""

    async def wait(condition: Callable[[], object], what: str, deadline_s: float = 20.0) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while not condition():
            assert loop.time() < end, what
            await asyncio.sleep(0.01)

    return wait


def pod_manifest(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}], **spec},
    }


@pytest.fixture
def manifest() -> Callable[..., dict[str, Any]]:
    return pod_manifest
