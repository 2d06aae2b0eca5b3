"""Run the development API server: `python -m daas.devstack.apiserver --state DIR [--port 0]`."""

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path

from daas.common.errors import ConfigurationError
from daas.devstack.apiserver.development import start
from daas.devstack.apiserver.storage import HISTORY_EVENTS_MAX
from daas.devstack.apiserver.webhooks.options import add_flags, from_flags


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m daas.devstack.apiserver",
        description="A simulated Kubernetes API server. When ready, prints a JSON line: url, kubeconfig.",
    )
    parser.add_argument("--state", type=Path, required=True, help="directory for everything it keeps")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0: the system chooses (default)")
    parser.add_argument("--history", type=int, default=HISTORY_EVENTS_MAX, help="changes that a watch can reach back")
    parser.add_argument(
        "--no-controllers",
        action="store_true",
        help="a bare API server: deleted namespaces and pods on nodes stay until someone finishes them",
    )
    parser.add_argument("--encryption-provider-config", type=Path, help="EncryptionConfiguration: KMS v2 and identity")
    add_flags(parser)
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    running = await start(
        arguments.state,
        port=arguments.port,
        controllers=not arguments.no_controllers,
        history_events_max=arguments.history,
        webhooks=from_flags(arguments),
        encryption_config=arguments.encryption_provider_config,
    )
    # What is loaded by now stays: keep the collector from walking it on every full collection.
    gc.collect()
    gc.freeze()
    line = {
        "ready": True,
        "url": running.url,
        "kubeconfig": str(running.kubeconfig.resolve()),
        "pid": os.getpid(),
        "simulated": True,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    await stopping.wait()
    await running.stop()


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(_run(_arguments()))
    except ConfigurationError as wrong:
        sys.stderr.write(f"refuses to start: {wrong}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
