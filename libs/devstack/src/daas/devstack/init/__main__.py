"""The command `python -m daas.devstack.init`: its arguments, and what it runs."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from daas.common.errors import DaasError
from daas.devstack import init
from daas.devstack.init.deploy import initialise
from daas.devstack.init.identities import make_identities


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m daas.devstack.init", description=(init.__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    identities = commands.add_parser("identities", help="keys, certificates and configurations")
    deployment = commands.add_parser("deploy", help="bus, Move package, registry, settings, context")
    for command in (identities, deployment):
        command.add_argument("--identities", type=Path, required=True, help="folder with a folder for each service")
        command.add_argument("--cluster", default="dev", help="name of the cluster (default: dev)")
    identities.add_argument("--nats", type=Path, required=True, help="folder for NATS")
    identities.add_argument("--nats-name", action="append", default=[], help="name or address of the NATS server")
    deployment.add_argument(
        "--ready", type=Path, required=True, help="folder with ledger, nsm, apiserver and walrus .json"
    )
    deployment.add_argument("--state", type=Path, required=True, help="where the deployment is written down")
    deployment.add_argument("--policy", required=True, help="digest of the placement policy, hex")
    deployment.add_argument("--nats-url", required=True, help="as the services see it")
    deployment.add_argument("--etcd", required=True, help="etcd as the services see it")
    deployment.add_argument("--walrus", required=True, help="Walrus as the services see it")
    deployment.add_argument("--shared-ledger-url", required=True, help="the ledger as others than the relay see it")
    deployment.add_argument("--public-nats-url", required=True, help="NATS as people see it")
    deployment.add_argument("--public-etcd", required=True, help="etcd as people see it")
    deployment.add_argument("--ledger-url", help="another ledger than the embedded one")
    deployment.add_argument("--faucet", help="its faucet")
    deployment.add_argument(
        "--kubernetes-inside", default="https://kubernetes:16443", help="the development API server as services see it"
    )
    deployment.add_argument("--kubeconfig", type=Path, help="of another API server than the development one")
    deployment.add_argument("--kubernetes-host", default="kubernetes", help="that one's name, in place of 127.0.0.1")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the two commands. Returns 0, or 1 with the reason on stderr."""
    options = _arguments(arguments)
    try:
        if options.command == "identities":
            names = options.nats_name or ["localhost", "127.0.0.1"]
            make_identities(options.identities, options.nats, cluster=options.cluster, nats_names=names)
        else:
            asyncio.run(initialise(options))
    except DaasError as error:
        sys.stderr.write(f"daas.devstack.init: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
