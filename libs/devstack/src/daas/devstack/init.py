"""Prepares a development system whose parts run in containers: `python -m daas.devstack.init identities|deploy`.

`identities` comes before everything: an NKey for each service, a certificate and the configuration for NATS. `deploy`
comes when the servers are up: it declares the bus, publishes the Move package, creates the registry (simulated) and
writes down for each service and for the command line what they need to know. Both may be repeated; what was made stays.
"""

import argparse
import asyncio
import json
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from daas.common.bus import Bus, BusSettings
from daas.common.errors import DaasError, Unavailable
from daas.common.nats_server import Tls, production_config
from daas.common.nkeys import keep_nkey, write_private
from daas.common.subjects import Service
from daas.devstack.deployment import Deployment, deploy, operator_key
from daas.devstack.identities import keep_certificate

#: NATS users of a development system; those that act on a person's behalf share the folder `people`.
SERVICES: Final = (Service.GATEWAY, Service.ENCLAVE, Service.RELAY, Service.STORAGE)
PEOPLE: Final = (Service.CLI, Service.MONITOR, Service.OPERATOR)
#: Where each container finds its own folder.
MOUNTED: Final = "/run/daas"
_READY_S: Final = 120.0
_POLL_S: Final = 0.1


def make_identities(identities: Path, nats: Path, *, cluster: str, nats_names: Sequence[str]) -> None:
    """Makes what is missing below both folders.

    Args:
        identities: gets `<service>/nats.nk` and `<service>/nats-ca.pem`, and for people `people/<user>.nk`.
        nats: gets the certificate and `nats-server.conf`, in which it is mounted at /etc/nats and the store at /data.
        cluster: of K3s-DaaS.
        nats_names: DNS names and addresses by which clients know the server.
    """
    keep_certificate(nats, nats_names)
    nkeys = {service: keep_nkey(_folder(identities, service.value) / "nats.nk") for service in SERVICES}
    nkeys |= {user: keep_nkey(_folder(identities, "people") / f"{user.value}.nk") for user in PEOPLE}
    for name in (*(service.value for service in SERVICES), "people"):
        shutil.copyfile(nats / "ca.pem", identities / name / "nats-ca.pem")
    mounted = Path("/etc/nats")
    config = production_config(
        cluster,
        server_name=f"daas-{cluster}",
        store_dir=Path("/data"),
        tls=Tls(mounted / "server.pem", mounted / "server.key", mounted / "ca.pem"),
        nkeys=nkeys,
    )
    write_private(nats / "nats-server.conf", config.encode())


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


async def ready_line(path: Path, deadline: float) -> dict[str, Any]:
    """What a stand-in announced in a file when it was ready.

    Raises:
        Unavailable: `process-not-ready`.
    """
    while True:
        if (said := _announced(path)) is not None:
            return said
        if time.monotonic() > deadline:
            raise Unavailable(f"{path} does not say that its part is ready", reason="process-not-ready")
        await asyncio.sleep(_POLL_S)


def _announced(path: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # not started, or half written
        return None
    return said if isinstance(said, dict) and said.get("ready") is True else None


async def _declare_bus(nats_url: str, cluster: str, people: Path) -> None:
    settings = BusSettings(
        nats_url=nats_url,
        cluster=cluster,
        nats_nkey_file=people / f"{Service.OPERATOR.value}.nk",
        nats_ca_file=people / "nats-ca.pem",
        nats_tls_first=True,
    )
    async with await Bus.connect(Service.OPERATOR, settings) as bus:
        await bus.declare(consumers=True)


async def initialise(options: argparse.Namespace) -> None:
    """Declares, publishes, creates and writes down.

    Raises:
        DaasError: a part is not there, or is another than the one that was deployed to.
    """
    identities: Path = options.identities
    deadline = time.monotonic() + _READY_S
    ledger, nsm, apiserver = [
        await ready_line(options.ready / f"{name}.json", deadline) for name in ("ledger", "nsm", "apiserver")
    ]
    ledger_url = options.ledger_url or ledger["url"]
    keystore = _folder(identities, "relay") / "operator.key"
    pcrs = nsm["pcrs"]
    _, deployment = await asyncio.gather(
        _declare_bus(options.nats_url, options.cluster, identities / "people"),
        deploy(
            options.state / "deployment.json",
            ledger_url=ledger_url,
            faucet=options.faucet or ledger["faucet"],
            signer=operator_key(keystore),
            policy=bytes.fromhex(options.policy),
            pcrs=(bytes.fromhex(pcrs["0"]), bytes.fromhex(pcrs["1"]), bytes.fromhex(pcrs["2"])),
        ),
    )
    kubeconfig = _kubeconfig(options, apiserver)
    write_private(identities / "gateway" / "kubeconfig", kubeconfig)
    for service in SERVICES:
        settings = service_settings(service, options.cluster, options.nats_url) | _own_settings(
            service, deployment, ledger_url, str(nsm["root_sha256"]), options.etcd
        )
        write_private(identities / service.value / "service.env", env_file(settings))
    context = {
        "cluster": options.cluster,
        "nats_url": options.public_nats_url,
        "etcd_endpoints": [options.public_etcd],
        "ledger_url": ledger_url,
        "package": deployment.package,
        "registry": deployment.registry,
        "chain": deployment.chain,
        "attestation_root": nsm["root_sha256"],
        "allowed_pcrs": pcrs,
        "kubeconfig": f"{MOUNTED}/kubeconfig",
        "simulated": True,
    }
    write_private(identities / "people" / "kubeconfig", kubeconfig)
    write_private(identities / "people" / "context.json", json.dumps(context, indent=2).encode() + b"\n")


def _kubeconfig(options: argparse.Namespace, apiserver: Mapping[str, Any]) -> bytes:
    if options.kubeconfig is None:
        return Path(apiserver["kubeconfig"]).read_bytes()
    content: bytes = options.kubeconfig.read_bytes()
    return content.replace(b"https://127.0.0.1:", f"https://{options.kubernetes_host}:".encode())


def service_settings(service: Service, cluster: str, nats_url: str) -> dict[str, str]:
    """The settings that every service has, as its container sees the files."""
    return {
        "DAAS_CLUSTER": cluster,
        "DAAS_NATS_URL": nats_url,
        "DAAS_NATS_NKEY_FILE": f"{MOUNTED}/nats.nk",
        "DAAS_NATS_CA_FILE": f"{MOUNTED}/nats-ca.pem",
        "DAAS_NATS_TLS_FIRST": "true",
        "DAAS_STATE_DIR": f"/state/{service.value}",
    }


def _own_settings(service: Service, deployed: Deployment, ledger_url: str, root: str, etcd: str) -> dict[str, str]:
    return {
        Service.RELAY: {
            "DAAS_RELAY_LEDGER_URL": ledger_url,
            "DAAS_RELAY_PACKAGE": deployed.package,
            "DAAS_RELAY_REGISTRY": deployed.registry,
            "DAAS_RELAY_KEYSTORE": f"{MOUNTED}/operator.key",
            "DAAS_RELAY_DEVELOPMENT_ROOT": root,
        },
        Service.STORAGE: {"DAAS_STORAGE_ETCD_ENDPOINTS": etcd},
        Service.GATEWAY: {"DAAS_GATEWAY_KUBECONFIG": f"{MOUNTED}/kubeconfig"},
        Service.ENCLAVE: {"DAAS_ENCLAVE_NSM": "/run/nsm/nsm.sock"},
    }[service]


def env_file(settings: Mapping[str, str]) -> bytes:
    """Lines that both a shell and `docker run --env-file` read; the values here need no quotes.

    Raises:
        ConfigurationError: a value would mean something to a shell.
    """
    assert all(shlex.quote(value) == value for value in settings.values()), "addresses, paths, hex and words"
    return "".join(f"{name}={value}\n" for name, value in sorted(settings.items())).encode()


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m daas.devstack.init", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    identities = commands.add_parser("identities", help="keys, certificate and configuration for NATS")
    deployment = commands.add_parser("deploy", help="bus, Move package, registry, settings, context")
    for command in (identities, deployment):
        command.add_argument("--identities", type=Path, required=True, help="folder with a folder for each service")
        command.add_argument("--cluster", default="dev", help="name of the cluster (default: dev)")
    identities.add_argument("--nats", type=Path, required=True, help="folder for NATS")
    identities.add_argument("--nats-name", action="append", default=[], help="name or address of the NATS server")
    deployment.add_argument("--ready", type=Path, required=True, help="folder with ledger, nsm and apiserver .json")
    deployment.add_argument("--state", type=Path, required=True, help="where the deployment is written down")
    deployment.add_argument("--policy", required=True, help="digest of the placement policy, hex")
    deployment.add_argument("--nats-url", required=True, help="as the services see it")
    deployment.add_argument("--etcd", required=True, help="etcd as the services see it")
    deployment.add_argument("--public-nats-url", required=True, help="NATS as people see it")
    deployment.add_argument("--public-etcd", required=True, help="etcd as people see it")
    deployment.add_argument("--ledger-url", help="another ledger than the embedded one")
    deployment.add_argument("--faucet", help="its faucet")
    deployment.add_argument("--kubeconfig", type=Path, help="of another API server than the development one")
    deployment.add_argument("--kubernetes-host", default="kubernetes", help="its name, in place of 127.0.0.1")
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
