"""The ledger's process: opens the state, serves gRPC and HTTP on loopback, stops on a signal."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web
from grpclib.server import Server

from daas.devstack.ledger.clock import LedgerClock
from daas.devstack.ledger.errors import LedgerError
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.rpc.control import Control
from daas.devstack.ledger.rpc.services import EncodedCodec, Services
from daas.devstack.ledger.store import Store

HOST = "127.0.0.1"
STOP_SECONDS = 2.0


def pinned_digests(packages: Sequence[Path], digests: Sequence[str]) -> list[bytes]:
    """Digests of the packages that may be published: of package files, and as hexadecimal.

    Raises:
        LedgerError: a file or digest is not what it should be.
    """
    found = []
    for path in packages:
        try:
            found.append(bytes.fromhex(json.loads(path.read_text())["digest"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{path} is no built package: {error}", reason="bad-package") from error
    for digest in digests:
        try:
            found.append(bytes.fromhex(digest))
        except ValueError:
            raise LedgerError("expected a package digest in hexadecimal", reason="bad-package") from None
    return found


def default_packages() -> list[Path]:
    """The package file of the installed `daas.ledger`, if it is installed."""
    spec = find_spec("daas.ledger")
    locations = spec.submodule_search_locations if spec is not None else None
    paths = [Path(location) / "package" / "daas.json" for location in locations or ()]
    return [path for path in paths if path.exists()]


async def serve(state: Path, *, port: int, pinned: Sequence[bytes], clock_ms: int | None) -> None:
    """Serve until SIGTERM or SIGINT; prints one JSON line when ready."""
    store = Store(state)
    try:
        ledger = Ledger(store, LedgerClock(clock_ms), pinned)
        server = Server([Services(ledger)], codec=EncodedCodec())
        await server.start(HOST, port)
        assert server._server is not None  # noqa: SLF001 - grpclib has no other way to read the port back
        rpc_port = server._server.sockets[0].getsockname()[1]  # noqa: SLF001 - as above
        runner = web.AppRunner(Control(ledger).application(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        faucet_port = runner.addresses[0][1]
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        ready = {
            "ready": True,
            "url": f"http://{HOST}:{rpc_port}",
            "faucet": f"http://{HOST}:{faucet_port}/v2/gas",
            "clock": f"http://{HOST}:{faucet_port}/clock",
            "congestion": f"http://{HOST}:{faucet_port}/congestion",
            "chain": ledger.chain.hex(),
            "simulated": True,
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()
        server.close()
        try:
            await asyncio.wait_for(server.wait_closed(), STOP_SECONDS)
        except TimeoutError:
            logging.getLogger(__name__).info("subscriptions were still open when the ledger stopped")
    finally:
        store.close()
