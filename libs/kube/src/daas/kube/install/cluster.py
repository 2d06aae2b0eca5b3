"""`daas k3s check --kubeconfig`: whether a running cluster has what the files say, and asks the gateway at all."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from daas.common.errors import DaasError
from daas.kube.client import KubeClient
from daas.kube.install.check import Finding
from daas.kube.install.difference import content, differences
from daas.kube.install.files import contents, installed
from daas.kube.install.manifests import NAMESPACE, SERVICE_ACCOUNT

Object = dict[str, Any]

#: The first patch release of each minor version that takes an authorization-config (k3s-io/k3s#12017).
FLOORS: Final = {29: 16, 30: 12, 31: 8, 32: 4}
#: Nobody's account: it has no key and no stake.
NOBODY: Final = "sui:0x" + "00" * 32
#: What an account without stake must not be let do: of each kind that leads to pods or rights, one.
_PROBES: Final[tuple[tuple[str, Object], ...]] = (
    ("pods", {"verb": "create", "version": "v1", "resource": "pods", "namespace": "default"}),
    ("deployments", {"verb": "create", "group": "apps", "version": "v1", "resource": "deployments",
                     "namespace": "default"}),
    ("clusterrolebindings", {"verb": "create", "group": "rbac.authorization.k8s.io", "version": "v1",
                             "resource": "clusterrolebindings"}),
)  # fmt: skip
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_AT_ONCE: Final = 8


async def check_cluster(client: KubeClient, directory: Path) -> list[Finding]:
    """What is missing or wrong on a running cluster, compared with what the directory was written for.

    Raises:
        ConfigurationError: `installation`: the directory does not say what it was written for.
        DaasError: the API server is away or does not let us look.
    """
    findings = [finding async for finding in _version(client)]
    expected = contents(directory, installed(directory))
    for name, documents in expected.items():
        if name.startswith("manifests/"):
            for manifest in documents:
                findings += await _object(client, manifest)
    findings += await _rights(client, expected["manifests/daas-rbac.yaml"])
    findings += [finding async for finding in _gate(client)]
    return findings


async def _object(client: KubeClient, manifest: Object) -> list[Finding]:
    subject = f"{manifest['kind']} {manifest['metadata']['name']}"
    found = await _get(client, _path(manifest))
    if found is None:
        return [Finding("error", subject, "is not there: apply manifests/")]
    if manifest["kind"] in ("Namespace", "ServiceAccount"):
        return []
    return [
        Finding("error", subject, f"{text}: apply manifests/ again")
        for text in differences(content(manifest), content(found))
    ]


def _path(manifest: Object) -> str:
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    where = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    kind = manifest["kind"].lower()
    return f"{base}{where}/{kind[:-1] + 'ies' if kind.endswith('y') else kind + 's'}/{metadata['name']}"


async def _rights(client: KubeClient, manifests: list[Object]) -> list[Finding]:
    """Whether the gateway's account may do what its role says, whatever authorizers there are."""
    group = f"system:serviceaccounts:{NAMESPACE}"
    account = {
        "user": f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}",
        "groups": ["system:serviceaccounts", group, "system:authenticated"],
    }
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(attributes: Object) -> list[Finding]:
        async with turn:
            status = await _review(client, {**account, "resourceAttributes": attributes})
        if status.get("allowed"):
            return []
        sub = f"/{attributes['subresource']}" if attributes.get("subresource") else ""
        what = f"{attributes['verb']} {attributes['resource']}{sub}"
        return [
            Finding("error", "the gateway's account", f"may not {what}: {status.get('reason') or 'no rule says so'}")
        ]

    wanted = [attributes for rule in _rules(manifests) for attributes in _asked(rule)]
    return [finding for found in await asyncio.gather(*map(one, wanted)) for finding in found]


def _rules(manifests: list[Object]) -> list[Object]:
    return [rule for manifest in manifests if manifest["kind"] == "ClusterRole" for rule in manifest["rules"]]


def _asked(rule: Object) -> Iterator[Object]:
    for group in rule["apiGroups"]:
        for named in rule["resources"]:
            resource, _, sub = named.partition("/")
            for verb in rule["verbs"]:
                asked = {"verb": verb, "group": group, "version": "*", "resource": resource, "subresource": sub}
                yield asked | ({"name": rule["resourceNames"][0]} if "resourceNames" in rule else {})


async def _gate(client: KubeClient) -> AsyncIterator[Finding]:
    """Whether the API server asks about stake, and about everything: an account that has none is refused."""
    for what, attributes in _PROBES:
        status = await _review(client, {"user": NOBODY, "resourceAttributes": attributes})
        if not status.get("denied"):
            text = f"nobody objects that an account without stake makes {what}: --authorization-config is not in force"
            yield Finding("error", "authorization", text)
    status = await _review(client, {"user": NOBODY, "nonResourceAttributes": {"verb": "get", "path": "/metrics"}})
    if not status.get("denied"):
        yield Finding("error", "authorization", "an account without stake may read /metrics, as far as stake goes")


async def _review(client: KubeClient, spec: Object) -> Object:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer: Object = msgspec.json.decode(await client.request("POST", _REVIEWS, body=body))
    status: Object = answer.get("status") or {}
    return status


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
