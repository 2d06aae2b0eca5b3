"""The network between a service and everything else, so that it can be cut: a network namespace, or a proxy to NATS.

In a namespace a service has a veth pair as its only way out. What it sends to 127.0.0.1 goes through the pair to the
host's loopback, where the servers are; what it listens on is reached at its end of the pair. A link that is cut drops
packets without a word, and connections over it live on when it is back, as with a cable that was pulled.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

LOCAL = "127.0.0.1"


class NotPermitted(Exception):
    """Why there are no network namespaces here."""


class Links(ABC):
    """The links of some services; use as `async with`."""

    #: For the report.
    kind: str

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *_: object) -> None: ...

    @abstractmethod
    def command(self, service: str, argv: Sequence[str | Path]) -> list[str | Path]:
        """How the service is started so that it is behind its link."""

    @abstractmethod
    def address(self, service: str) -> str:
        """Where the service listens."""

    @abstractmethod
    async def nats_url(self, service: str, url: str) -> str:
        """NATS as the service reaches it."""

    @abstractmethod
    async def cut(self, service: str) -> None:
        """Nothing gets through any more."""

    @abstractmethod
    async def join(self, service: str) -> None:
        """Everything gets through again. Nothing happens to a link that is whole."""


class Namespaces(Links):
    """One network namespace for each service.

    Raises:
        NotPermitted: by `async with`, where this process may not make them.
    """

    kind = "network namespaces"

    def __init__(self, services: Sequence[str]) -> None:
        # Names of interfaces end at 15 characters. The addresses are of no one: nothing routes there.
        self._mark = secrets.token_hex(3)
        block = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}"
        self._number = {service: n for n, service in enumerate(services)}
        self._net = dict.fromkeys(services, f"{block}.{{}}")
        self._undo = contextlib.AsyncExitStack()

    def _space(self, service: str) -> str:
        return f"day-{self._mark}-{self._number[service]}"

    def _pair(self, service: str) -> tuple[str, str]:
        name = f"d{self._mark}{self._number[service]}"
        return f"{name}h", f"{name}n"

    def names(self, service: str) -> tuple[str, str, str]:
        """What is made for a service: the namespace and both ends of the pair."""
        return self._space(service), *self._pair(service)

    def _ends(self, service: str) -> tuple[str, str]:
        first = 4 * self._number[service]
        return self._net[service].format(first + 1), self._net[service].format(first + 2)

    async def __aenter__(self) -> Self:
        missing = [tool for tool in ("ip", "iptables", "sysctl") if shutil.which(tool) is None]
        if os.geteuid() != 0 or missing:
            raise NotPermitted(f"not root, or not installed: {', '.join(missing) or 'nothing'}")
        try:
            for service in self._number:
                await self._make(service)
        except BaseException as error:
            await self._undo.aclose()
            if isinstance(error, subprocess.CalledProcessError):
                raise NotPermitted(f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}") from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    async def _make(self, service: str) -> None:
        space, (outside, inside), (host, own) = self._space(service), self._pair(service), self._ends(service)
        await _run("ip", "netns", "add", space)
        self._undo.push_async_callback(_quietly, "ip", "netns", "del", space)
        await _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", space)
        self._undo.push_async_callback(_quietly, "ip", "link", "del", outside)
        await _run("ip", "addr", "add", f"{host}/30", "dev", outside)
        await _run("ip", "link", "set", outside, "up")
        await _run("ip", "-n", space, "addr", "add", f"{own}/30", "dev", inside)
        for device in ("lo", inside):
            await _run("ip", "-n", space, "link", "set", device, "up")
        await _run("ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        await _run("sysctl", "-qw", f"net.ipv4.conf.{outside}.route_localnet=1")
        within = ("ip", "netns", "exec", space, "iptables", "-w", "10", "-t", "nat", "-A")
        await _run(*within, "OUTPUT", "-p", "tcp", "-d", LOCAL, "-j", "DNAT", "--to-destination", host)
        # Not MASQUERADE: that forgets its connections when the device goes down.
        await _run(*within, "POSTROUTING", "-o", inside, "-j", "SNAT", "--to-source", own)
        arriving = ("PREROUTING", "-i", outside, "-p", "tcp", "-d", host, "-j", "DNAT", "--to-destination", LOCAL)
        await _run("iptables", "-w", "10", "-t", "nat", "-A", *arriving)
        self._undo.push_async_callback(_quietly, "iptables", "-w", "10", "-t", "nat", "-D", *arriving)

    def command(self, service: str, argv: Sequence[str | Path]) -> list[str | Path]:
        started = [sys.executable if part == "python" else part for part in argv]
        return ["ip", "netns", "exec", self._space(service), *started]

    def address(self, service: str) -> str:
        return self._ends(service)[1]

    async def nats_url(self, service: str, url: str) -> str:
        return url

    async def cut(self, service: str) -> None:
        await self._set(service, "down")

    async def join(self, service: str) -> None:
        await self._set(service, "up")

    async def _set(self, service: str, state: str) -> None:
        await _run("ip", "-n", self._space(service), "link", "set", self._pair(service)[1], state)


class Proxies(Links):
    """Where there are no namespaces: a TCP proxy between each service and NATS; its other links stay whole."""

    kind = "proxies to NATS"

    def __init__(self) -> None:
        self._doors: dict[str, Proxy] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for door in self._doors.values():
            await door.stop()

    def command(self, service: str, argv: Sequence[str | Path]) -> list[str | Path]:
        return list(argv)

    def address(self, service: str) -> str:
        return LOCAL

    async def nats_url(self, service: str, url: str) -> str:
        if service not in self._doors:
            parts = urlsplit(url)
            self._doors[service] = Proxy([(str(parts.hostname), int(parts.port or 0))])
            await self._doors[service].start()
        return f"nats://{LOCAL}:{self._doors[service].port}"

    async def cut(self, service: str) -> None:
        self._doors[service].flowing.clear()

    async def join(self, service: str) -> None:
        if service in self._doors:
            self._doors[service].flowing.set()


class Proxy:
    """Passes connections on to the first of some addresses that takes them; holds back bytes while it is not flowing.

    Args:
        targets: tried in this order; a change counts for the next connection.
    """

    #: A server on this machine takes a connection at once, or is not there.
    CONNECT_S = 1.0

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        self.targets = targets
        self.port = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._server: asyncio.Server | None = None
        self._stopped = False
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        """Listens; on a port of the system's choice where none is given."""
        self._server = await asyncio.start_server(self._connected, LOCAL, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends every connection."""
        self._stopped = True
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def where(self) -> list[tuple[str, int]]:
        """Where to pass the next connection on to."""
        return self.targets

    def passed(self, data: bytes) -> None:
        """Called with what goes through, in either direction."""

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopped:  # it was accepted before
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._open.discard(task)
            writer.transport.abort()  # a task that is cancelled before it began closes nothing by itself
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
                raise error

        task.add_done_callback(ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            await self.flowing.wait()
            for host, port in self.where():
                try:
                    async with asyncio.timeout(self.CONNECT_S):
                        behind, ahead = await asyncio.open_connection(host, port)
                except (OSError, TimeoutError):
                    continue
                async with closing(ahead):
                    await self._between((reader, ahead), (behind, writer))
                return

    async def _between(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Passes on until one side has closed."""
        both = [asyncio.create_task(self._pass_on(*way)) for way in ways]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            self.passed(data)
            await self.flowing.wait()
            target.write(data)
            await target.drain()


@contextlib.asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closes a connection at the end; at once where the end is an error or a cancellation, whenever that comes."""
    try:
        yield
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()  # does nothing to what is closed


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode or 1, argv, stderr=said)


async def _quietly(*argv: str) -> None:
    """One step back; what is left of the others is taken back as well."""
    with contextlib.suppress(subprocess.CalledProcessError):
        await _run(*argv)


@contextlib.asynccontextmanager
async def open_links(services: Sequence[str]) -> AsyncIterator[tuple[Links, str]]:
    """Links of the best kind there is, and why it is not a better one (empty where it is the best)."""
    async with contextlib.AsyncExitStack() as stack:
        links: Links
        try:
            links, note = await stack.enter_async_context(Namespaces(services)), ""
        except NotPermitted as reason:
            links, note = await stack.enter_async_context(Proxies()), str(reason)
        yield links, note
