"""What comes before everything: keys, certificates and configurations, each in the folder of the one who needs it."""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from daas.common.nats_server import Tls, production_config
from daas.common.nkeys import keep_nkey, write_private
from daas.common.subjects import Service
from daas.devstack.identities import keep_certificate
from daas.devstack.init.settings import GATEWAY_HOST, KMS_SOCKET, MOUNTED, WEBHOOK_PORT, WEBHOOK_PUBLISHED
from daas.kube.install import Installation, install
from daas.seal import MasterKey, format_address
from daas.seal.ibe import random_scalar

#: NATS users of a development system; those that act on a person's behalf share the folder `people`.
SERVICES: Final = (Service.GATEWAY, Service.ENCLAVE, Service.RELAY, Service.STORAGE, Service.SEAL_KEEPER)
PEOPLE: Final = (Service.CLI, Service.MONITOR, Service.OPERATOR)
#: Two of the three open what is sealed; each is a container, so that one may fall alone.
KEY_SERVERS: Final = ("key-server-1", "key-server-2", "key-server-3")
KEY_SERVER_THRESHOLD: Final = 2
KEY_SERVER_PORT: Final = 2024
#: Where K3s finds its folder.
K3S_PREFIX: Final = Path("/etc/rancher/k3s/daas")


class MasterKeyFile(msgspec.Struct, frozen=True):
    """What a key server reads: `object_id` with 0x, `master_key` 64 hex digits."""

    object_id: str
    master_key: str

    def __repr__(self) -> str:
        return f"MasterKeyFile({self.object_id})"


def make_identities(identities: Path, nats: Path, *, cluster: str, nats_names: Sequence[str]) -> None:
    """Makes what is missing below both folders.

    Args:
        identities: gets `<service>/nats.nk` and `<service>/nats-ca.pem`, for people `people/<user>.nk`, for key servers
            `<name>/master.json`, and what the API server and K3s read in `kubernetes` and `k3s`.
        nats: gets the certificate and `nats-server.conf`, in which it is mounted at /etc/nats and the store at /data.
        cluster: of K3s-DaaS.
        nats_names: DNS names and addresses by which clients know the server.
    """
    keep_certificate(nats, nats_names)
    nkeys = {service: keep_nkey(folder(identities, service.value) / "nats.nk") for service in SERVICES}
    nkeys |= {user: keep_nkey(folder(identities, "people") / f"{user.value}.nk") for user in PEOPLE}
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
    _write_access(identities)
    _write_key_servers(identities)


def _write_access(identities: Path) -> None:
    """How API servers ask the gateway; only those who ask and the one who answers get a key."""
    access = folder(identities, "access")
    names = (GATEWAY_HOST, "127.0.0.1")
    beside = Installation(
        f"https://127.0.0.1:{WEBHOOK_PORT}", names, prefix=Path(MOUNTED), kms_socket=f"unix://{KMS_SOCKET}"
    )
    install(access, beside)
    copied = ("authn.kubeconfig", "authz.kubeconfig", "authz.yaml", "encryption.yaml")
    for name in (*copied, "admission.yaml", "admission.kubeconfig"):
        write_private(folder(identities, "kubernetes") / name, (access / name).read_bytes())
    for name in ("gateway.crt", "gateway.key", "ca.crt"):
        write_private(folder(identities, Service.GATEWAY.value) / name, (access / "pki" / name).read_bytes())
    elsewhere = Installation(
        f"https://{GATEWAY_HOST}:{WEBHOOK_PUBLISHED}", names, prefix=K3S_PREFIX, kms_socket=f"unix://{KMS_SOCKET}"
    )
    k3s = folder(identities, "k3s")
    shutil.copytree(access / "pki", k3s / "pki", dirs_exist_ok=True)
    install(k3s, elsewhere)
    for name in ("ca.key", "gateway.key"):  # neither is an API server's
        (k3s / "pki" / name).unlink()


def _write_key_servers(identities: Path) -> None:
    """A master key for each key server, and for everybody else the public halves."""
    servers = []
    for name in KEY_SERVERS:
        path = folder(identities, name) / "master.json"
        if not path.exists():
            secret = random_scalar().to_bytes(32, "big")
            made = MasterKeyFile(format_address(secrets.token_bytes(32)), secret.hex())
            write_private(path, msgspec.json.encode(made) + b"\n")
        kept = msgspec.json.decode(path.read_bytes(), type=MasterKeyFile)
        public_key = MasterKey.from_bytes(bytes.fromhex(kept.master_key)).public_key
        url = f"http://{name}:{KEY_SERVER_PORT}"
        servers.append({"object_id": kept.object_id, "url": url, "public_key": public_key.hex(), "name": name})
    pinned = msgspec.json.format(msgspec.json.encode({"threshold": KEY_SERVER_THRESHOLD, "servers": servers}), indent=2)
    for name in (Service.SEAL_KEEPER.value, "kms", "people"):
        write_private(folder(identities, name) / "key-servers.json", pinned + b"\n")


def folder(parent: Path, name: str) -> Path:
    """A private folder, made if missing."""
    path = parent / name
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
