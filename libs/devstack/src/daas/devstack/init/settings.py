"""The settings of each part, as its container sees addresses and files."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from daas.common.subjects import Service
from daas.devstack.deployment import Deployment

#: Where each container finds its own folder.
MOUNTED: Final = "/run/daas"
KMS_SOCKET: Final = "/run/kms/kms.sock"
NSM_SOCKET: Final = "/run/nsm/nsm.sock"
#: The gateway as other containers know it.
GATEWAY_HOST: Final = "gateway"
#: The webhooks, on the loopback that the gateway shares with the API server, and as other containers reach them.
WEBHOOK_PORT: Final = 8443
WEBHOOK_PUBLISHED: Final = 18443
#: Of the init container that opens sealed Secrets; no kubelet of a development system pulls it.
UNSEAL_IMAGE: Final = "k3s-daas/cli:0.1.0"


@dataclass(frozen=True)
class Surroundings:
    """What settings are made of.

    Attributes:
        deployed: what is on the ledger.
        ledger_url: as the relay sees it, beside the ledger.
        shared_ledger_url: as every other container sees it.
        own_ledger: whether it is the embedded one, which makes no checkpoints on its own.
        attestation_root: SHA-256 of the software NSM's root, hex.
        etcd, walrus: their addresses.
        walrus_epoch_ms: length of an epoch there.
    """

    deployed: Deployment
    ledger_url: str
    shared_ledger_url: str
    own_ledger: bool
    attestation_root: str
    etcd: str
    walrus: str
    walrus_epoch_ms: int


def service_settings(service: Service, cluster: str, nats_url: str) -> dict[str, str]:
    """The settings that every service has."""
    return {
        "DAAS_CLUSTER": cluster,
        "DAAS_NATS_URL": nats_url,
        "DAAS_NATS_NKEY_FILE": f"{MOUNTED}/nats.nk",
        "DAAS_NATS_CA_FILE": f"{MOUNTED}/nats-ca.pem",
        "DAAS_NATS_TLS_FIRST": "true",
        "DAAS_STATE_DIR": f"/state/{service.value}",
    }


def own_settings(service: Service, around: Surroundings) -> dict[str, str]:
    """The settings that one service alone has."""
    deployed = around.deployed
    return {
        Service.RELAY: _ledger("RELAY", around.ledger_url, deployed)
        | {
            "DAAS_RELAY_KEYSTORE": f"{MOUNTED}/operator.key",
            "DAAS_RELAY_DEVELOPMENT_ROOT": around.attestation_root,
        },
        Service.STORAGE: {
            "DAAS_STORAGE_ETCD_ENDPOINTS": around.etcd,
            "DAAS_STORAGE_EVIDENCE_BACKEND": "both",
            "DAAS_STORAGE_AUDIT_BACKEND": "walrus",
            "DAAS_STORAGE_WALRUS_PUBLISHERS": around.walrus,
            "DAAS_STORAGE_WALRUS_AGGREGATORS": around.walrus,
            "DAAS_STORAGE_WALRUS_EPOCH_MS": str(around.walrus_epoch_ms),
        },
        Service.GATEWAY: _ledger("GATEWAY", around.shared_ledger_url, deployed)
        | {
            "DAAS_GATEWAY_KUBECONFIG": f"{MOUNTED}/kubeconfig",
            "DAAS_GATEWAY_KEEPER_TRUST_FILE": f"{MOUNTED}/keeper-trust.json",
            "DAAS_GATEWAY_UNSEAL_IMAGE": UNSEAL_IMAGE,
            "DAAS_GATEWAY_WEBHOOK_PORT": str(WEBHOOK_PORT),
            "DAAS_GATEWAY_WEBHOOK_CERTIFICATE_FILE": f"{MOUNTED}/gateway.crt",
            "DAAS_GATEWAY_WEBHOOK_KEY_FILE": f"{MOUNTED}/gateway.key",
            "DAAS_GATEWAY_WEBHOOK_CLIENT_CA_FILE": f"{MOUNTED}/ca.crt",
        },
        Service.ENCLAVE: {"DAAS_ENCLAVE_NSM": NSM_SOCKET},
        Service.SEAL_KEEPER: _ledger("SEAL_KEEPER", around.shared_ledger_url, deployed)
        | {
            "DAAS_SEAL_KEEPER_NSM": NSM_SOCKET,
            "DAAS_SEAL_KEEPER_KEY_SERVERS": f"{MOUNTED}/key-servers.json",
            "DAAS_SEAL_KEEPER_POLICIES": json.dumps({"default": deployed.seal_policy}, separators=(",", ":")),
            "DAAS_SEAL_KEEPER_KUBECONFIG": f"{MOUNTED}/kubeconfig",
        },
    }[service]


def key_server_settings(around: Surroundings) -> dict[str, str]:
    """The settings of a key server."""
    return _ledger("KEY_SERVER", around.shared_ledger_url, around.deployed) | {
        "DAAS_KEY_SERVER_KEY_FILES": f"{MOUNTED}/master.json",
        "DAAS_KEY_SERVER_SIMULATED": str(around.own_ledger).lower(),
    }


def kms_settings() -> dict[str, str]:
    """The settings of the KMS plugin."""
    return {
        "DAAS_KMS_SOCKET": KMS_SOCKET,
        "DAAS_KMS_KEYRING": f"{MOUNTED}/keyring.json",
        "DAAS_KMS_KEY_SERVERS": f"{MOUNTED}/key-servers.json",
        "DAAS_KMS_KEYSTORE": f"{MOUNTED}/account.key",
    }


def _ledger(part: str, url: str, deployed: Deployment) -> dict[str, str]:
    return {
        f"DAAS_{part}_LEDGER_URL": url,
        f"DAAS_{part}_PACKAGE": deployed.package,
        f"DAAS_{part}_REGISTRY": deployed.registry,
    }


def keeper_trust(around: Surroundings, pcrs: Mapping[str, str]) -> dict[str, Any]:
    """What an administrator would pin of the seal-keeper: here the registers and the root of the software NSM."""
    return {
        "measurements": [dict(pcrs)],
        "chain": around.deployed.chain,
        "registry": around.deployed.registry,
        "development_root_sha256": around.attestation_root,
    }


def env_file(settings: Mapping[str, str]) -> bytes:
    """Lines that a shell reads."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(settings.items())).encode()
