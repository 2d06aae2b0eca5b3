"""`daas k3s install`: every file a K3s server needs so that its API server asks the gateway.

Written for K3s after v1.32.3 (v1.31.7, v1.30.11, v1.29.15): before, K3s set --authorization-mode itself and the API
server refuses that together with an AuthorizationConfiguration (k3s-io/k3s#12017).
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import yaml

from daas.common.errors import ConfigurationError
from daas.kube import exempt
from daas.kube.install import admission, manifests
from daas.kube.install.pki import CA_CERTIFICATES, CA_KEY, Authority, write_file, write_private

#: Where the files lie on a server.
PREFIX: Final = Path("/etc/rancher/k3s/daas")
GATEWAY, APISERVER = "gateway", "apiserver"
#: Every file below the directory, and whether it holds a key.
FILES: Final[dict[str, bool]] = {
    "installation.yaml": False,
    "config.yaml": False,
    "encryption.yaml": False,
    "admission.yaml": False,
    "admission.kubeconfig": True,
    "authn.kubeconfig": True,
    "authz.kubeconfig": True,
    "authz.yaml": False,
    "audit-policy.yaml": False,
    "audit.kubeconfig": True,
    f"pki/{CA_CERTIFICATES}": False,
    f"pki/{CA_KEY}": True,
    f"pki/{GATEWAY}.crt": False,
    f"pki/{GATEWAY}.key": True,
    f"pki/{APISERVER}.crt": False,
    f"pki/{APISERVER}.key": True,
    "manifests/daas-namespace.yaml": False,
    "manifests/daas-rbac.yaml": False,
    "manifests/daas-admission.yaml": False,
}


@dataclass(frozen=True, slots=True)
class Installation:
    """What to write.

    Attributes:
        gateway_url: https URL under which API servers reach the gateway.
        gateway_names: host names and addresses of its certificate; the URL's host is added.
        prefix: where the directory will lie on the server.
        kms_socket: of seal-keeper's KMS plugin; None leaves encryption at rest out.
        managed_label: namespaces with this label (value "true") are ours.
    """

    gateway_url: str
    gateway_names: Sequence[str] = ()
    prefix: Path = PREFIX
    kms_socket: str | None = "unix:///run/k3s-daas/kms.sock"
    managed_label: str = "k3s-daas.io/managed"


def install(directory: Path, wanted: Installation) -> list[Path]:
    """Writes every file, keeping keys and certificates that are there already; the files' paths.

    Raises:
        ConfigurationError: `authority` where a half-written authority lies in the directory.
    """
    for one in (directory, directory / "pki", directory / "manifests"):
        one.mkdir(parents=True, exist_ok=True, mode=0o700)
    pki = directory / "pki"
    if not (pki / CA_KEY).exists():
        Authority.create().write(pki)
    if not all((pki / f"{name}.crt").exists() for name in (GATEWAY, APISERVER)):
        issue_leaves(directory, wanted)
    for name, documents in contents(directory, wanted).items():
        _yaml(directory / name, *documents)
    return [directory / name for name in FILES]


def contents(directory: Path, wanted: Installation) -> dict[str, list[dict[str, Any]]]:
    """The documents of every YAML file, made of the settings and of what lies in the directory's `pki`."""
    pki = directory / "pki"
    authority = (pki / CA_CERTIFICATES).read_bytes()
    bundle = base64.b64encode(authority).decode()
    asking = {
        name: [_kubeconfig(pki, authority, f"{wanted.gateway_url}/{name}")] for name in ("authn", "authz", "audit")
    }
    return {
        "installation.yaml": [msgspec.to_builtins(wanted, enc_hook=str)],
        "config.yaml": [config(wanted)],
        "encryption.yaml": [encryption(wanted)],
        "admission.yaml": [admission_control(wanted)],
        "admission.kubeconfig": [_identities(pki, wanted.gateway_url)],
        "authz.yaml": [authorization(wanted)],
        "audit-policy.yaml": [audit_policy()],
        **{f"{name}.kubeconfig": documents for name, documents in asking.items()},
        "manifests/daas-namespace.yaml": manifests.namespace(),
        "manifests/daas-rbac.yaml": manifests.rbac(),
        "manifests/daas-admission.yaml": admission.admission(wanted.gateway_url, bundle, wanted.managed_label),
    }


def installed(directory: Path) -> Installation:
    """What a directory was written for.

    Raises:
        ConfigurationError: `installation`.
    """
    path = directory / "installation.yaml"

    def decode(wanted: type[Any], found: Any) -> Any:
        if wanted is Path:
            return Path(found)
        raise NotImplementedError(wanted)

    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), Installation, dec_hook=decode)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}", reason="installation") from None


def issue_leaves(directory: Path, wanted: Installation) -> None:
    """Issues the gateway's and the API server's certificates anew by the authority in the directory."""
    pki = directory / "pki"
    authority = Authority.load(pki)
    host = wanted.gateway_url.removeprefix("https://").partition("/")[0].rpartition(":")[0].strip("[]")
    names = list(dict.fromkeys([*wanted.gateway_names, host or wanted.gateway_url.removeprefix("https://")]))
    authority.server("k3s-daas gateway", names).write(pki, GATEWAY)
    authority.client("kube-apiserver").write(pki, APISERVER)


def _yaml(path: Path, *documents: dict[str, Any]) -> None:
    text = "---\n".join(yaml.safe_dump(one, sort_keys=False, width=120) for one in documents)
    write = write_private if path.suffix == ".kubeconfig" else write_file
    write(path, text.encode())


def config(wanted: Installation) -> dict[str, Any]:
    """`/etc/rancher/k3s/config.yaml`: the API server's flags. The default scheduler stays for system pods."""
    prefix = wanted.prefix
    arguments = [
        f"authentication-token-webhook-config-file={prefix}/authn.kubeconfig",
        "authentication-token-webhook-version=v1",  # the default is still v1beta1
        "authentication-token-webhook-cache-ttl=30s",
        f"authorization-config={prefix}/authz.yaml",
        f"admission-control-config-file={prefix}/admission.yaml",
        f"audit-policy-file={prefix}/audit-policy.yaml",
        f"audit-webhook-config-file={prefix}/audit.kubeconfig",
        "audit-webhook-mode=batch",
        "audit-webhook-batch-max-wait=1s",
    ]
    if wanted.kms_socket is not None:
        arguments += [
            f"encryption-provider-config={prefix}/encryption.yaml",
            "encryption-provider-config-automatic-reload=true",
        ]
    return {"disable-scheduler": False, "secrets-encryption": False, "kube-apiserver-arg": arguments}


def encryption(wanted: Installation) -> dict[str, Any]:
    """EncryptionConfiguration: Secrets under the KMS plugin; identity stays until everything is rewritten."""
    providers: list[dict[str, Any]] = [{"identity": {}}]
    if wanted.kms_socket is not None:
        kms = {"apiVersion": "v2", "name": "seal-keeper", "endpoint": wanted.kms_socket, "timeout": "3s"}
        providers.insert(0, {"kms": kms})
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    }


def authorization(wanted: Installation) -> dict[str, Any]:
    """AuthorizationConfiguration: the gateway first, since after RBAC it could restrict nothing.

    It is asked about every resource, and about every path that is not discovery. The cluster's own identities are left
    out, or an outage of the gateway would stop controllers and kubelets. A kubelet reads Secrets as system:node:*, so
    what a pod's owner may mount is a question for admission, not for this webhook.
    """
    webhook = {
        "authorizedTTL": "30s",
        "unauthorizedTTL": "10s",  # also of "no opinion": a slash takes effect after at most this
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": f"{wanted.prefix}/authz.kubeconfig"},
        "matchConditions": [{"expression": one} for one in exempt.conditions()],
    }
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Webhook", "name": "sui-stake", "webhook": webhook},
            {"type": "Node", "name": "node"},
            {"type": "RBAC", "name": "rbac"},
        ],
    }


def admission_control(wanted: Installation) -> dict[str, Any]:
    """AdmissionConfiguration: which certificate the API server shows to admission webhooks of ours."""
    version = "apiserver.config.k8s.io/v1"
    webhooks = {
        "apiVersion": version,
        "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": f"{wanted.prefix}/admission.kubeconfig",
    }
    plugins = [{"name": f"{one}AdmissionWebhook", "configuration": webhooks} for one in ("Mutating", "Validating")]
    return {"apiVersion": version, "kind": "AdmissionConfiguration", "plugins": plugins}


def audit_policy() -> dict[str, Any]:
    """What is told of requests: of Secrets and tokens never more than that somebody asked."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": ["system:apiserver"]},
            {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {
                "level": "Metadata",
                "resources": [
                    {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
                    {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
                ],
            },
            {
                "level": "RequestResponse",
                "resources": [{"group": "", "resources": ["pods", "pods/binding", "namespaces", "services"]}],
                "verbs": ["create", "update", "patch", "delete"],
            },
            {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
            {"level": "None"},
        ],
    }


def _user(pki: Path) -> dict[str, Any]:
    certificate, key = (base64.b64encode((pki / f"{APISERVER}.{end}").read_bytes()).decode() for end in ("crt", "key"))
    return {"client-certificate-data": certificate, "client-key-data": key}


def _identities(pki: Path, gateway_url: str) -> dict[str, Any]:
    """Of this kubeconfig only users are read: by the host and port of a webhook's URL. No other webhook gets ours."""
    host = urlsplit(gateway_url).netloc
    name = host if urlsplit(gateway_url).port else f"{host}:443"
    return {"apiVersion": "v1", "kind": "Config", "users": [{"name": name, "user": _user(pki)}]}


def _kubeconfig(pki: Path, authority: bytes, url: str) -> dict[str, Any]:
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(authority).decode()}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gateway", "cluster": cluster}],
        "users": [{"name": "kube-apiserver", "user": _user(pki)}],
        "contexts": [{"name": "gateway", "context": {"cluster": "gateway", "user": "kube-apiserver"}}],
        "current-context": "gateway",
    }
