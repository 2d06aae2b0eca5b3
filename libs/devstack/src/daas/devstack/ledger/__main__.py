"""`python -m daas.devstack.ledger`: run the simulated ledger."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from daas.devstack.ledger.errors import LedgerError
from daas.devstack.ledger.server import default_packages, pinned_digests, serve


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m daas.devstack.ledger",
        description="A simulated single-operator Sui ledger for development, without consensus.",
    )
    parser.add_argument("--state", type=Path, required=True, help="directory that holds the ledger's state")
    parser.add_argument("--port", type=int, default=0, help="port of the RPC server (0: the system chooses)")
    parser.add_argument(
        "--package", type=Path, action="append", default=[], help="built package that may be published (default: daas)"
    )
    parser.add_argument("--package-digest", action="append", default=[], help="digest, in hex, of such a package")
    parser.add_argument("--clock-ms", type=int, help="freeze the clock at this time; PUT /clock moves it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        pinned = pinned_digests(arguments.package or default_packages(), arguments.package_digest)
        asyncio.run(serve(arguments.state, port=arguments.port, pinned=pinned, clock_ms=arguments.clock_ms))
    except LedgerError as error:
        sys.stderr.write(f"ledger: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
