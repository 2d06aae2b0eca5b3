"""The forwarder between vsock and the rest, over Unix sockets in the place of vsock."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.nitro_parts import NITRO, nitro_part

forward = nitro_part("forward")


@asynccontextmanager
async def forwarding(tmp_path: Path, handler: Any, *, connections_max: int = 64) -> AsyncIterator[tuple[Path, Any]]:
    """A server behind two forwarders, as parent and enclave are: listener -> vsock stand-in -> target."""
    target, middle, front = (tmp_path / name for name in ("target", "middle", "front"))
    server = await asyncio.start_unix_server(handler, path=target)
    pairs = [(front, middle), (middle, target)]
    forwarders = [
        forward.Forwarder(
            forward.Address.parse(f"unix:{listen}"), forward.Address.parse(f"unix:{to}"), connections_max=most
        )
        for (listen, to), most in zip(pairs, (connections_max, 64), strict=True)
    ]
    for forwarder in forwarders:
        forwarder.open()
    tasks = [asyncio.create_task(forwarder.run()) for forwarder in forwarders]
    try:
        yield front, forwarders[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
        await server.wait_closed()
        assert not front.exists()


async def after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only when it has seen the end of the request: works only if half-closes are passed on."""
    data = await reader.read(-1)
    writer.write(data[::-1])
    await writer.drain()
    writer.close()


async def test_the_end_of_one_direction_is_passed_on_while_the_other_still_flows(tmp_path: Path) -> None:
    async with forwarding(tmp_path, after_the_end) as (front, forwarder):
        reader, writer = await asyncio.open_unix_connection(front)
        sent = os.urandom(3_000_000)
        writer.write(sent)
        writer.write_eof()
        assert (await asyncio.wait_for(reader.read(-1), 100)) == sent[::-1]
        writer.close()
        await until(lambda: forwarder.counters.open == 0)
        counters = forwarder.counters
        assert (counters.bytes_up, counters.bytes_down, counters.broken) == (len(sent), len(sent), 0)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_connections_beyond_the_bound_are_refused_and_counted_and_the_others_go_on(tmp_path: Path) -> None:
    async with forwarding(tmp_path, echo, connections_max=2) as (front, forwarder):
        kept = [await asyncio.open_unix_connection(front) for _ in range(2)]
        for reader, writer in kept:
            writer.write(b"ping")
            assert await asyncio.wait_for(reader.readexactly(4), 100) == b"ping"
        third, third_writer = await asyncio.open_unix_connection(front)
        assert await asyncio.wait_for(third.read(1), 100) == b""
        third_writer.close()
        for reader, writer in kept:
            writer.write(b"pong")
            assert await asyncio.wait_for(reader.readexactly(4), 100) == b"pong"
            writer.close()
        await until(lambda: forwarder.counters.open == 0)
        counters = forwarder.counters
        assert (counters.accepted, counters.refused) == (3, 1)


async def test_a_target_that_is_away_is_counted_and_the_next_connection_finds_it_back(tmp_path: Path) -> None:
    front, target = tmp_path / "front", tmp_path / "target"
    forwarder = forward.Forwarder(forward.Address.parse(f"unix:{front}"), forward.Address.parse(f"unix:{target}"))
    forwarder.open()
    task = asyncio.create_task(forwarder.run())
    reader, writer = await asyncio.open_unix_connection(front)
    assert await asyncio.wait_for(reader.read(1), 100) == b""
    writer.close()
    assert forwarder.counters.unreachable == 1
    server = await asyncio.start_unix_server(echo, path=target)
    reader, writer = await asyncio.open_unix_connection(front)
    writer.write(b"back")
    assert await asyncio.wait_for(reader.readexactly(4), 100) == b"back"
    writer.close()
    await until(lambda: forwarder.counters.open == 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
    await server.wait_closed()


async def test_a_reader_that_stops_reading_stops_the_writer_too(tmp_path: Path) -> None:
    stalled = asyncio.Event()

    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stalled.wait()
        writer.close()

    async with forwarding(tmp_path, deaf) as (front, forwarder):
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(front))
            sent = last = 0
            for _ in range(200):
                try:
                    sent += client.send(bytes(65_536))
                except BlockingIOError:
                    await asyncio.sleep(0.02)
                    if sent == last:
                        break
                    last = sent
                await asyncio.sleep(0)
            assert sent < 8_000_000
            assert forwarder.counters.bytes_up < 8_000_000
        stalled.set()


@pytest.mark.parametrize(
    "text", ["", "tcp:", "tcp:host", "tcp:host:99999", "unix:", "vsock:3", "vsock:x:1", "pipe:x:1"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected tcp"):
        forward.Address.parse(text)


@pytest.mark.connected
def test_the_program_carries_tcp_says_when_it_is_ready_and_reports_at_its_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        pair = f"unix:{tmp_path}/front=tcp:127.0.0.1:{target.getsockname()[1]}"
        program = subprocess.Popen(
            [sys.executable, "-I", NITRO / "forward.py", pair],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert program.stdout is not None
            assert json.loads(program.stdout.readline()) == {"ready": True, "pairs": [pair]}
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{tmp_path}/front")
                client.sendall(b"over")
                client.shutdown(socket.SHUT_WR)
                served, _ = target.accept()
                with served:
                    assert served.recv(100) == b"over"
                    assert served.recv(100) == b""
                    served.sendall(b"and back")
                assert client.recv(100) == b"and back"
                assert client.recv(100) == b""
            program.terminate()
            _, reported = program.communicate(timeout=90)
            assert json.loads(reported.splitlines()[-1])["counts"][pair]["bytes_down"] == 8
        finally:
            program.kill()
            program.wait()


async def test_a_pair_that_ends_ends_the_program_so_that_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = forward.Forwarder.run

    async def ends(self: Any) -> None:
        if self._listen.host.endswith("second"):
            self.listening.close()
            raise RuntimeError("by the test")
        await runs(self)

    monkeypatch.setattr(forward.Forwarder, "run", ends)
    names = [f"unix:{tmp_path}/{name}=unix:{tmp_path}/target" for name in ("first", "second")]
    pairs = [tuple(forward.Address.parse(end) for end in name.split("=")) for name in names]
    assert await asyncio.wait_for(forward._main(pairs, names, 4), 100) == 1
    ended = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (ended["event"], ended["pair"]) == ("ended", names[1])
    assert not (tmp_path / "first").exists()
