"""Runs the software NSM: `python -m daas.devstack.nsm --socket PATH --state DIR`."""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from daas.common.errors import ConfigurationError
from daas.devstack.nsm.authority import DevelopmentAuthority, load_or_create_root
from daas.devstack.nsm.module import SoftwareNsm
from daas.devstack.nsm.pcrs import DEFAULT_IMAGE_MEASURE, development_measurement
from daas.devstack.nsm.server import NsmServer

_DESCRIPTION = """A stand-in for /dev/nsm: the same requests and the same documents over a Unix socket, signed under its
own development root. One process is one enclave: clients share its registers, and a lock lasts until the process ends.
Prints one line of JSON when it is ready; ends on SIGTERM or SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m daas.devstack.nsm", description=_DESCRIPTION)
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="Unix socket to listen on")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="where the root is kept")
    parser.add_argument(
        "--image-measure",
        nargs="*",
        default=[],
        metavar="STRING",
        help=f"up to three strings that PCR0, 1 and 2 measure (default: {' '.join(DEFAULT_IMAGE_MEASURE)})",
    )
    parser.add_argument("--debug", action="store_true", help="an enclave in debug mode: PCR0, 1 and 2 are zero")
    parser.add_argument(
        "--enclave-per-connection",
        action="store_true",
        help="every connection is an enclave of its own: boots when it connects, with fresh registers",
    )
    parser.add_argument(
        "--clock-offset-file",
        type=Path,
        metavar="FILE",
        help="how many milliseconds this hypervisor's clock is ahead, read at each request; no file: none",
    )
    options = parser.parse_args(arguments)
    if len(options.image_measure) > len(DEFAULT_IMAGE_MEASURE):
        parser.error(f"--image-measure takes at most {len(DEFAULT_IMAGE_MEASURE)} strings")
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
    authority = DevelopmentAuthority(load_or_create_root(options.state, _clock_ms()))
    measurement = None if options.debug else development_measurement(options.image_measure)

    def clock_ms() -> int:
        return _clock_ms() + _offset_ms(options.clock_offset_file)

    def boot() -> SoftwareNsm:
        return SoftwareNsm(authority, measurement, clock_ms)

    nsm = boot()
    nsm_of_connection: Callable[[], SoftwareNsm] = boot if options.enclave_per_connection else lambda: nsm
    async with NsmServer(options.socket, nsm_of_connection):
        ready = {
            "ready": True,
            "simulated": True,
            "socket": str(options.socket),
            "root_sha256": authority.root_sha256.hex(),
            "root_der": str(options.state / "root.der"),
            "module_id": None if options.enclave_per_connection else nsm.module_id,
            "debug": options.debug,
            "pcrs": {str(index): nsm.pcrs.value(index).hex() for index in (0, 1, 2)},
        }
        print(json.dumps(ready), flush=True)  # noqa: T201 (the launcher waits for this line)
        await stop.wait()


def _offset_ms(path: Path | None) -> int:
    return int(path.read_text(encoding="ascii")) if path is not None and path.exists() else 0


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
