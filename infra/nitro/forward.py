"""Forwards stream connections between TCP, Unix and vsock addresses: `python3 -I forward.py LISTEN=TARGET ...`.

An enclave has no network, only vsock to its parent. Inside, the scheduler dials 127.0.0.1 and this program carries the
bytes over vsock; on the parent the same program carries them on to NATS. It sees TLS records and nothing else. The
number of connections is bounded, everything is counted, and the end of one direction is passed on while the other
still flows. Standard library only: it runs on the parent host and in the enclave as it stands.

Addresses: `tcp:HOST:PORT`, `unix:PATH`, `vsock:CID:PORT` (listening: CID 4294967295 is any; parent of an enclave: 3).
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

#: Connections at once for one pair; NATS needs one or two, the rest absorbs reconnections.
CONNECTIONS_MAX = 64
#: What one direction of one connection holds at most, in bytes.
BUFFER_BYTES = 65_536
CONNECT_TIMEOUT_S = 5.0
BACKLOG = 128
REPORT_S = 60.0
_ACCEPT_RETRY_S = 0.1


@dataclass(frozen=True)
class Address:
    """One end: the kind, and what the socket of that kind is given."""

    kind: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads `tcp:HOST:PORT`, `unix:PATH` or `vsock:CID:PORT`.

        Raises:
            ValueError: it is none of these.
        """
        kind, _, rest = text.partition(":")
        if kind == "unix" and rest:
            return cls(kind, rest, 0)
        host, _, port = rest.rpartition(":")
        most = {"tcp": 65_535, "vsock": 2**32 - 1}.get(kind, -1)
        if not host or not port.isdecimal() or int(port) > most or (kind == "vsock" and not host.isdecimal()):
            raise ValueError(f"expected tcp:HOST:PORT, unix:PATH or vsock:CID:PORT, not {text!r}")
        return cls(kind, host, int(port))

    def make_socket(self) -> socket.socket:
        """A socket of this kind, not blocking."""
        if self.kind == "unix":
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        elif self.kind == "vsock":
            made = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        else:
            made = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        return made

    @property
    def sockaddr(self) -> str | tuple[str | int, int]:
        """What bind and connect take."""
        if self.kind == "unix":
            return self.host
        return (int(self.host) if self.kind == "vsock" else self.host, self.port)

    def listen(self) -> socket.socket:
        """A listening socket. A Unix socket that nobody answers on is replaced; only the owner may connect to ours."""
        made = self.make_socket()
        if self.kind == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.kind == "unix":
            _remove_stale(Path(self.host))
        try:
            made.bind(self.sockaddr)
            if self.kind == "unix":
                Path(self.host).chmod(0o600)
            made.listen(BACKLOG)
        except OSError:
            made.close()
            raise
        return made

    def forget(self) -> None:
        """Removes what listening left behind."""
        if self.kind == "unix":
            Path(self.host).unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


@dataclass
class Counters:
    """What one pair has done: connections by their fate, and bytes by direction (up: from listener to target)."""

    accepted: int = 0
    refused: int = 0
    unreachable: int = 0
    broken: int = 0
    open: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class Forwarder:
    """One listener and its target.

    Args:
        listen: where connections come from.
        target: where they go to; dialled anew for each.
        connections_max: more are accepted and closed at once, and counted as refused.
    """

    def __init__(self, listen: Address, target: Address, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self.counters = Counters()
        self.listening: socket.socket | None = None
        self._listen = listen
        self._target = target
        self._connections_max = connections_max
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listens. Raises OSError where the address can't be had."""
        self.listening = self._listen.listen()

    async def run(self) -> None:
        """Accepts until it is cancelled; then every connection is cut."""
        assert self.listening is not None, "opened"
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(self.listening)
                except OSError:  # no file descriptors, or the client has gone already: the listener goes on
                    self.counters.broken += 1
                    await asyncio.sleep(_ACCEPT_RETRY_S)
                    continue
                self.counters.accepted += 1
                if len(self._tasks) >= self._connections_max:
                    self.counters.refused += 1
                    client.close()
                    continue
                client.setblocking(False)
                task = asyncio.create_task(self._serve(client))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self.listening.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._listen.forget()

    async def _serve(self, client: socket.socket) -> None:
        self.counters.open += 1
        loop = asyncio.get_running_loop()
        try:
            with client, self._target.make_socket() as upstream:
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        await loop.sock_connect(upstream, self._target.sockaddr)
                except (OSError, TimeoutError):
                    self.counters.unreachable += 1
                    return
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(self._pump(client, upstream, "bytes_up"))
                        both.create_task(self._pump(upstream, client, "bytes_down"))
                except* OSError:
                    self.counters.broken += 1
                    _reset(client)
                    _reset(upstream)
        finally:
            self.counters.open -= 1

    async def _pump(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        """Carries one direction to its end and passes the end on. Reads only after what it read before is written."""
        loop = asyncio.get_running_loop()
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while size := await loop.sock_recv_into(source, buffer):
            await loop.sock_sendall(sink, buffer[:size])
            setattr(self.counters, counter, getattr(self.counters, counter) + size)
        with contextlib.suppress(OSError):  # the sink has closed its other half already
            sink.shutdown(socket.SHUT_WR)


def _reset(broken: socket.socket) -> None:
    """Lets a close be seen as a reset, so that nobody takes a cut stream for one that ended in order (TCP only)."""
    if broken.family in {socket.AF_INET, socket.AF_INET6}:
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _pair(text: str) -> tuple[Address, Address]:
    listen, separator, target = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected LISTEN=TARGET, not {text!r}")
    try:
        return Address.parse(listen), Address.parse(target)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _report(forwarders: dict[str, Forwarder]) -> None:
    counts = {name: asdict(forwarder.counters) for name, forwarder in forwarders.items()}
    sys.stderr.write(json.dumps({"event": "forwarded", "counts": counts}) + "\n")


async def _main(pairs: list[tuple[Address, Address]], names: list[str], connections_max: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    forwarders = {
        name: Forwarder(listen, target, connections_max=connections_max)
        for name, (listen, target) in zip(names, pairs, strict=True)
    }
    for forwarder in forwarders.values():
        forwarder.open()
    tasks = [asyncio.create_task(forwarder.run()) for forwarder in forwarders.values()]
    stopping = asyncio.create_task(stop.wait())
    sys.stdout.write(json.dumps({"ready": True, "pairs": names}) + "\n")
    sys.stdout.flush()
    ended: set[asyncio.Task[None]] = set()
    while not (stop.is_set() or ended):
        await asyncio.wait([stopping, *tasks], timeout=REPORT_S, return_when=asyncio.FIRST_COMPLETED)
        ended = {task for task in tasks if task.done()}
        _report(forwarders)
    for task in (stopping, *tasks):
        task.cancel()
    await asyncio.gather(stopping, *tasks, return_exceptions=True)
    for name, task in zip(names, tasks, strict=True):
        if task in ended:  # one of several pairs is no forwarder: whoever started this starts it again
            sys.stderr.write(json.dumps({"event": "ended", "pair": name, "error": repr(task.exception())}) + "\n")
    return 1 if ended else 0


def main() -> int:
    """Runs until SIGTERM or SIGINT; a JSON line on stdout when it listens, counters on stderr every minute."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="LISTEN=TARGET", help="tcp:H:P, unix:PATH or vsock:CID:P")
    parser.add_argument("--connections-max", type=int, default=CONNECTIONS_MAX, help="at once, for each pair")
    options = parser.parse_args()
    try:
        pairs = [_pair(text) for text in options.pairs]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return asyncio.run(_main(pairs, options.pairs, options.connections_max))


if __name__ == "__main__":
    sys.exit(main())
