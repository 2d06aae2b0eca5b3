"""Runs the Walrus stand-in: `python -m daas.devstack.walrus --state DIR`."""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from daas.common.errors import ConfigurationError
from daas.devstack.walrus.server import UPLOAD_BYTES, WalrusServer
from daas.devstack.walrus.store import EPOCH_MS, BlobStore

_DESCRIPTION = """A stand-in for a Walrus publisher and aggregator in one: the API of both over a directory. Blob ids
are blake2b-256 digests, not Walrus's own; every answer says X-Daas-Simulated. Prints one line of JSON when it is
ready; ends on SIGTERM or SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m daas.devstack.walrus", description=_DESCRIPTION)
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="where blobs are kept")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0: the system chooses")
    parser.add_argument("--epoch-ms", type=int, default=EPOCH_MS, help="length of an epoch, fixed at the first start")
    parser.add_argument("--upload-bytes", type=int, default=UPLOAD_BYTES, help="largest upload")
    parser.add_argument("--jwt-secret-file", type=Path, help="ask for tokens (HS256) signed with this file's bytes")
    parser.add_argument("--jwt-expiring-sec", type=int, default=0, help="longest life of a token; 0: what it says")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_run(options))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 (the answer of a command)
        return 2
    return 0


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = BlobStore(options.state, epoch_ms=options.epoch_ms, clock_ms=lambda: time.time_ns() // 1_000_000)
    try:
        secret = options.jwt_secret_file.read_bytes() if options.jwt_secret_file else None
    except OSError as error:
        raise ConfigurationError(
            f"{options.jwt_secret_file} can't be read: {error.strerror}", reason="unreadable-file"
        ) from None
    server = WalrusServer(
        store,
        port=options.port,
        jwt_secret=secret,
        jwt_expiring_s=options.jwt_expiring_sec,
        upload_bytes=options.upload_bytes,
    )
    async with server:
        ready = {"ready": True, "simulated": True, "url": server.url, "epoch": store.epoch, "epoch_ms": store.epoch_ms}
        print(json.dumps(ready), flush=True)  # noqa: T201 (the launcher waits for this line)
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
