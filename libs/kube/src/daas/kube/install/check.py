"""`daas k3s check`: what is missing or wrong in the files of an installation and on a running cluster."""

import base64
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from daas.common.errors import DaasError
from daas.kube.client import KubeClient
from daas.kube.install.files import APISERVER, FILES, GATEWAY
from daas.kube.install.manifests import NAMESPACE
from daas.kube.install.pki import CA_CERTIFICATES

Object = dict[str, Any]

#: Renewal is due this long before the end: K3s renews its own at 90 days.
RENEW_BEFORE: Final = timedelta(days=90)
#: The first patch release of each minor version that takes an authorization-config (k3s-io/k3s#12017).
FLOORS: Final = {29: 16, 30: 12, 31: 8, 32: 4}
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_FLAGS: Final = {
    "authentication-token-webhook-config-file": "authn.kubeconfig",
    "authorization-config": "authz.yaml",
    "audit-policy-file": "audit-policy.yaml",
    "audit-webhook-config-file": "audit.kubeconfig",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is missing or wrong."""

    level: Literal["error", "warning"]
    subject: str
    text: str


def check_files(directory: Path, now: datetime | None = None) -> list[Finding]:
    """What is wrong in a directory that `install` wrote."""
    now = now or datetime.now(UTC)
    findings = list(_present(directory))
    if findings:
        return findings
    return [*_certificates(directory, now), *_flags(directory), *_authorization(directory), *_audit(directory)]


def _present(directory: Path) -> Iterator[Finding]:
    for name, secret in FILES.items():
        path = directory / name
        if not path.is_file():
            yield Finding("error", name, "is missing")
        elif secret and path.stat().st_mode & _OTHERS:
            yield Finding("error", name, f"holds a key and has mode {stat.S_IMODE(path.stat().st_mode):04o}, not 0600")
        elif name.endswith((".yaml", ".kubeconfig")):
            try:
                list(yaml.safe_load_all(path.read_text()))
            except yaml.YAMLError as error:
                yield Finding("error", name, f"is not YAML: {error}")


def _certificates(directory: Path, now: datetime) -> Iterator[Finding]:
    pki = directory / "pki"
    authorities = x509.load_pem_x509_certificates((pki / CA_CERTIFICATES).read_bytes())
    for name in (GATEWAY, APISERVER):
        leaf = x509.load_pem_x509_certificates((pki / f"{name}.crt").read_bytes())[0]
        issuers = [one for one in authorities if _issued(leaf, one)]
        if not issuers:
            yield Finding("error", f"pki/{name}.crt", "was issued by no authority in ca.crt")
        for one in (leaf, *issuers):
            yield from _validity(f"pki/{name}.crt" if one is leaf else f"pki/{CA_CERTIFICATES}", one, now)


def _issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _validity(name: str, certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    end = certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= now < end:
        yield Finding("error", name, f"is valid from {certificate.not_valid_before_utc} to {end}")
    elif end - now < RENEW_BEFORE:
        yield Finding("warning", name, f"ends on {end:%Y-%m-%d}: renew with `daas k3s install --renew`")


def _flags(directory: Path) -> Iterator[Finding]:
    config = yaml.safe_load((directory / "config.yaml").read_text()) or {}
    flags = dict(str(one).partition("=")[::2] for one in config.get("kube-apiserver-arg") or ())
    for flag, file in _FLAGS.items():
        if Path(flags.get(flag, "")).name != file:
            yield Finding("error", "config.yaml", f"--{flag} does not name {file}")
    if flags.get("authentication-token-webhook-version") != "v1":
        yield Finding(
            "error", "config.yaml", "--authentication-token-webhook-version is not v1 (the default is v1beta1)"
        )
    if "authorization-mode" in flags:
        yield Finding("error", "config.yaml", "--authorization-mode and --authorization-config exclude each other")
    if config.get("disable-scheduler"):
        yield Finding("error", "config.yaml", "disable-scheduler: system pods need the default scheduler")


def _authorization(directory: Path) -> Iterator[Finding]:
    config = yaml.safe_load((directory / "authz.yaml").read_text()) or {}
    authorizers = config.get("authorizers") or [{}]
    first = authorizers[0]
    if first.get("type") != "Webhook":
        yield Finding("error", "authz.yaml", "the webhook is not first: after RBAC it could restrict nothing")
        return
    if first["webhook"].get("failurePolicy") != "Deny":
        yield Finding("error", "authz.yaml", "failurePolicy is not Deny: an outage of the gateway would lift the rules")
    expressions = " ".join(one["expression"] for one in first["webhook"].get("matchConditions") or ())
    for word in ("system:masters", "system:nodes", "startsWith('system:')"):
        if word not in expressions:
            yield Finding("error", "authz.yaml", f"no matchCondition exempts {word}: an outage would stop the cluster")
    if [one.get("type") for one in authorizers[1:]] != ["Node", "RBAC"]:
        yield Finding("warning", "authz.yaml", "expected Node and RBAC after the webhook")


def _audit(directory: Path) -> Iterator[Finding]:
    policy = yaml.safe_load((directory / "audit-policy.yaml").read_text()) or {}
    for rule in policy.get("rules") or ():
        if rule.get("level") not in ("Request", "RequestResponse"):
            if _covers_secrets(rule) and not rule.get("verbs") and not rule.get("users"):
                return
            continue
        if _covers_secrets(rule):
            yield Finding("error", "audit-policy.yaml", f"level {rule['level']} for secrets copies them out of etcd")
            return


def _covers_secrets(rule: Object) -> bool:
    resources = rule.get("resources")
    if not resources:
        return True
    core = [one for one in resources if not one.get("group")]
    return any(not one.get("resources") or {"secrets", "*"} & set(one["resources"]) for one in core)


# The running cluster -----------------------------------------------------------------------------------------------


async def check_cluster(client: KubeClient, directory: Path) -> list[Finding]:
    """What is missing or wrong on a running cluster, compared with the files."""
    findings = [finding async for finding in _version(client)]
    authority = (directory / "pki" / CA_CERTIFICATES).read_bytes()
    group = "/apis/admissionregistration.k8s.io/v1"
    for manifest in _manifests(directory):
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        plural = kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")
        found = await _get(client, f"{group}/{plural}/{name}")
        if found is None:
            findings.append(Finding("error", f"{kind} {name}", "is not there: apply manifests/"))
            continue
        for hook in found.get("webhooks") or ():
            findings += _hook(f"{kind} {name}", hook, authority)
    if await _get(client, f"/api/v1/namespaces/{NAMESPACE}") is None:
        findings.append(Finding("error", f"Namespace {NAMESPACE}", "is not there: apply manifests/"))
    if await _get(client, "/apis/rbac.authorization.k8s.io/v1/clusterroles/k3s-daas-gateway") is None:
        findings.append(Finding("error", "ClusterRole k3s-daas-gateway", "is not there: apply manifests/"))
    return findings


def _manifests(directory: Path) -> list[Object]:
    return list(yaml.safe_load_all((directory / "manifests/daas-admission.yaml").read_text()))


def _hook(subject: str, hook: Object, authority: bytes) -> Iterator[Finding]:
    if hook.get("failurePolicy") != "Fail":
        yield Finding("error", subject, "failurePolicy is not Fail")
    if not hook.get("namespaceSelector"):
        yield Finding("error", subject, "no namespaceSelector: an outage would stop system namespaces too")
    bundle = base64.b64decode((hook.get("clientConfig") or {}).get("caBundle") or "")
    if bundle.strip() != authority.strip():
        yield Finding("error", subject, "caBundle is not pki/ca.crt: apply manifests/ again")


async def _get(client: KubeClient, path: str) -> Object | None:
    try:
        found: Object = msgspec.json.decode(await client.request("GET", path))
    except DaasError as error:
        if error.http_status == 404:
            return None
        raise
    return found


async def _version(client: KubeClient) -> AsyncIterator[Finding]:
    found = await _get(client, "/version") or {}
    text = str(found.get("gitVersion", ""))
    parts = text.lstrip("v").partition("+")[0].partition("-")[0].split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        yield Finding("warning", "version", f"{text!r} can't be read")
        return
    minor, patch = int(parts[1]), int(parts[2])
    if "k3s" in text and (minor < min(FLOORS) or patch < FLOORS.get(minor, 0)):
        yield Finding("error", "version", f"{text}: K3s takes no authorization-config before 1.{minor}.{FLOORS[minor]}"
                      if minor in FLOORS else f"{text} is too old")  # fmt: skip
