"""What comes when the servers are up: bus, Move package, registry, seeds; and what each part is told of them."""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from daas.common.bus import Bus, BusSettings
from daas.common.errors import Unavailable
from daas.common.nkeys import write_private
from daas.common.subjects import Service
from daas.devstack.access import AccessFiles
from daas.devstack.at_rest import AtRest
from daas.devstack.deployment import deploy, fund, operator_key
from daas.devstack.init.identities import KEY_SERVERS, SERVICES, folder
from daas.devstack.init.settings import (
    KMS_SOCKET,
    MOUNTED,
    Surroundings,
    env_file,
    keeper_trust,
    key_server_settings,
    kms_settings,
    own_settings,
    service_settings,
)
from daas.kube import KubeClient

T = TypeVar("T")

_READY_S: Final = 120.0
_POLL_S: Final = 0.1


async def ready_line(path: Path, deadline: float) -> dict[str, Any]:
    """What a stand-in announced in a file when it was ready.

    Raises:
        Unavailable: `process-not-ready`.
    """
    return await _waited(path, lambda: _announced(path), deadline)


async def _waited(path: Path, read: Callable[[], T | None], deadline: float) -> T:
    while True:
        if (found := read()) is not None:
            return found
        if time.monotonic() > deadline:
            raise Unavailable(f"{path} does not say that its part is ready", reason="process-not-ready")
        await asyncio.sleep(_POLL_S)


def _announced(path: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # not started, or half written
        return None
    return said if isinstance(said, dict) and said.get("ready") is True else None


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


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
    """Declares, publishes, creates, seals and writes down.

    Raises:
        DaasError: a part is not there, or is another than the one that was deployed to.
    """
    identities: Path = options.identities
    deadline = time.monotonic() + _READY_S
    ledger, nsm, apiserver, walrus = [
        await ready_line(options.ready / f"{name}.json", deadline) for name in ("ledger", "nsm", "apiserver", "walrus")
    ]
    ledger_url, faucet = options.ledger_url or ledger["url"], options.faucet or ledger["faucet"]
    pcrs = nsm["pcrs"]
    _, deployed = await asyncio.gather(
        _declare_bus(options.nats_url, options.cluster, identities / "people"),
        deploy(
            options.state / "deployment.json",
            ledger_url=ledger_url,
            faucet=faucet,
            signer=operator_key(folder(identities, "relay") / "operator.key"),
            policy=bytes.fromhex(options.policy),
            pcrs=(bytes.fromhex(pcrs["0"]), bytes.fromhex(pcrs["1"]), bytes.fromhex(pcrs["2"])),
        ),
    )
    around = Surroundings(
        deployed=deployed,
        ledger_url=ledger_url,
        shared_ledger_url=options.shared_ledger_url,
        own_ledger=options.ledger_url is None,
        attestation_root=str(nsm["root_sha256"]),
        etcd=options.etcd,
        walrus=options.walrus,
        walrus_epoch_ms=int(walrus["epoch_ms"]),
    )
    await AtRest(folder(identities, "kms"), Path(KMS_SOCKET)).prepare(
        deployed,
        cluster=options.cluster,
        ledger_url=ledger_url,
        faucet=faucet,
        key_servers=identities / "kms" / "key-servers.json",
    )
    await _keep_account(identities / "people", faucet)
    theirs = None
    if (path := options.kubeconfig) is not None:
        theirs = await _waited(path, lambda: _content(path), deadline)
    inside = _write_kubeconfigs(options, apiserver, theirs)
    _write_settings(options, around, pcrs)
    _write_context(options, around, pcrs)
    access = identities / ("access" if theirs is None else "k3s")
    async with await KubeClient.connect(inside) as client:
        await AccessFiles(access).admit(client)


async def _keep_account(people: Path, faucet: str) -> None:
    """An account with money for whoever uses the command line: stake takes both."""
    path = people / "account.key"
    if not (path.exists() and (people / "context.json").exists()):
        await fund(faucet, operator_key(path).address)


def _write_kubeconfigs(options: argparse.Namespace, apiserver: Mapping[str, Any], theirs: bytes | None) -> Path:
    """The API server for the gateway beside it and people on the host, and as other containers see it; the latter."""
    identities: Path = options.identities
    if theirs is None:
        beside = Path(apiserver["kubeconfig"]).read_bytes()
        inside = beside.replace(str(apiserver["url"]).encode(), options.kubernetes_inside.encode())
    else:
        beside = inside = theirs.replace(b"https://127.0.0.1:", f"https://{options.kubernetes_host}:".encode())
    for name, kubeconfig in (("gateway", beside), (Service.SEAL_KEEPER.value, inside), ("people", beside)):
        write_private(identities / name / "kubeconfig", kubeconfig)
    path = identities / "people" / "kubeconfig.inside"
    write_private(path, inside)
    return path


def _write_settings(options: argparse.Namespace, around: Surroundings, pcrs: Mapping[str, str]) -> None:
    identities: Path = options.identities
    trust = json.dumps(keeper_trust(around, pcrs), indent=2).encode() + b"\n"
    write_private(identities / "gateway" / "keeper-trust.json", trust)
    for service in SERVICES:
        settings = service_settings(service, options.cluster, options.nats_url) | own_settings(service, around)
        write_private(identities / service.value / "service.env", env_file(settings))
    for name in KEY_SERVERS:
        write_private(identities / name / "service.env", env_file(key_server_settings(around)))
    write_private(identities / "kms" / "service.env", env_file(kms_settings()))


def _write_context(options: argparse.Namespace, around: Surroundings, pcrs: Mapping[str, str]) -> None:
    people, deployed = options.identities / "people", around.deployed
    context = {
        "cluster": options.cluster,
        "nats_url": options.public_nats_url,
        "etcd_endpoints": [options.public_etcd],
        "ledger_url": around.ledger_url,
        "package": deployed.package,
        "registry": deployed.registry,
        "chain": deployed.chain,
        "attestation_root": around.attestation_root,
        "allowed_pcrs": pcrs,
        "kubeconfig": f"{MOUNTED}/kubeconfig.inside",
        "key_servers": json.loads((people / "key-servers.json").read_bytes()),
        "seal_policies": {"default": deployed.seal_policy},
        "walrus_aggregators": [around.walrus],
        "simulated": True,
    }
    write_private(people / "context.json", json.dumps(context, indent=2).encode() + b"\n")
