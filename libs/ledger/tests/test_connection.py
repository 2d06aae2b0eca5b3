"""Nodes that are away, silent or no Sui node at all become typed errors; the home directory stays empty."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas.common.errors import ConfigurationError, Unavailable
from daas.ledger import Ledger, RpcError, RpcUnavailable


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A TCP server that takes connections and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def keep(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    for writer in writers:
        writer.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "url", ["127.0.0.1:9000", "ftp://127.0.0.1", "http://", "http://user@127.0.0.1", "http://127.0.0.1/path"]
)
async def test_an_address_that_is_no_node_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await Ledger.connect(url)
    assert refused.value.reason == "ledger-url"


async def test_a_node_that_is_away_is_unavailable_and_worth_asking_again() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(RpcUnavailable) as refused:
        await Ledger.connect(f"http://127.0.0.1:{port}")
    assert refused.value.retryable
    assert isinstance(refused.value, Unavailable)


async def test_a_node_that_does_not_answer_runs_into_the_deadline(silent_port: int) -> None:
    with pytest.raises(RpcUnavailable) as refused:
        await Ledger.connect(f"http://127.0.0.1:{silent_port}", timeout_ms=200)
    assert refused.value.reason == "node-timeout"


async def test_a_server_of_another_protocol_is_refused() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(b"220 not an HTTP/2 server\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    with pytest.raises(RpcError):
        await Ledger.connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_ms=2000)
    server.close()
    await server.wait_closed()


def test_the_library_is_light_until_it_connects_and_writes_nothing_at_home(tmp_path: Path) -> None:
    program = (
        "import sys, daas.ledger\n"
        "assert not any('pysui' in name or 'grpclib' in name for name in sys.modules)\n"
        "import daas.ledger._pysui\n"
        "assert 'pysui' not in sys.modules and 'gql' not in sys.modules\n"
        "resident = int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20\n"
        "assert resident < 70, f'{resident:.0f} MB'\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.iterdir()) == []
