"""`daas k3s check`: what is missing or wrong in the files of an installation, beside what it was written for."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from daas.common.errors import ConfigurationError
from daas.kube.install.difference import differences
from daas.kube.install.files import APISERVER, FILES, GATEWAY, Installation, config, contents, installed
from daas.kube.install.pki import CA_CERTIFICATES

Object = dict[str, Any]

#: Renewal is due this long before the end: K3s renews its own at 90 days.
RENEW_BEFORE: Final = timedelta(days=90)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
#: Files that an operator adds to, or changes in the course of a migration: what differs is said, and no more.
_OWN: Final = ("audit-policy.yaml", "encryption.yaml")


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
    try:
        wanted = installed(directory)
    except ConfigurationError as error:
        return [Finding("error", "installation.yaml", f"{error.message}: write the files again")]
    return [
        *_certificates(directory, now, wanted),
        *_flags(directory, wanted),
        *_authorization(directory),
        *_audit(directory),
        *_differences(directory, wanted),
    ]


def _differences(directory: Path, wanted: Installation) -> Iterator[Finding]:
    """Every file beside what would be written now; config.yaml may say more than ours, and is looked at elsewhere."""
    for name, documents in contents(directory, wanted).items():
        if name == "config.yaml":
            continue
        found = list(yaml.safe_load_all((directory / name).read_text()))
        for text in differences(documents, found):
            # What a kubeconfig holds is not for a screen.
            said = "is not what would be written now" if name.endswith(".kubeconfig") else text.removeprefix("[0].")
            yield Finding("warning" if name in _OWN else "error", name, said)


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


def _certificates(directory: Path, now: datetime, wanted: Installation) -> Iterator[Finding]:
    again = f"`daas k3s install {directory} --gateway {wanted.gateway_url} --renew certificates`"
    pki = directory / "pki"
    authorities = x509.load_pem_x509_certificates((pki / CA_CERTIFICATES).read_bytes())
    for name in (GATEWAY, APISERVER):
        leaf = x509.load_pem_x509_certificates((pki / f"{name}.crt").read_bytes())[0]
        issuers = [one for one in authorities if _issued(leaf, one)]
        if not issuers:
            yield Finding("error", f"pki/{name}.crt", "was issued by no authority in ca.crt")
        for one in (leaf, *issuers):
            yield from _validity(f"pki/{name}.crt" if one is leaf else f"pki/{CA_CERTIFICATES}", one, now, again)


def _issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _validity(name: str, certificate: x509.Certificate, now: datetime, again: str) -> Iterator[Finding]:
    end = certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= now < end:
        yield Finding("error", name, f"is valid from {certificate.not_valid_before_utc} to {end}")
    elif end - now < RENEW_BEFORE:
        yield Finding("warning", name, f"ends on {end:%Y-%m-%d}: renew with {again}")


def _flags(directory: Path, wanted: Installation) -> Iterator[Finding]:
    """Ours must be there, each with our value; an operator's others are not our business."""
    found = yaml.safe_load((directory / "config.yaml").read_text()) or {}
    flags = _by_name(found)
    for flag, value in _by_name(config(wanted)).items():
        if flag not in flags:
            yield Finding("error", "config.yaml", f"--{flag}={value} is missing")
        elif flags[flag] != value:
            yield Finding("error", "config.yaml", f"--{flag} is {flags[flag]!r}, not {value}")
    if "authorization-mode" in flags:
        yield Finding("error", "config.yaml", "--authorization-mode and --authorization-config exclude each other")
    if found.get("disable-scheduler"):
        yield Finding("error", "config.yaml", "disable-scheduler: system pods need the default scheduler")


def _by_name(document: Object) -> dict[str, str]:
    return dict(str(one).partition("=")[::2] for one in document.get("kube-apiserver-arg") or ())


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
