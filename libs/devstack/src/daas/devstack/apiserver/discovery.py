"""Discovery: /version, /api, /apis, group and resource lists, and the aggregated form that kubectl asks for first."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from daas.devstack.apiserver.resources import GROUP_VERSIONS, RESOURCES, Resource

Object = dict[str, Any]

VERSION = "v1.32.4+daas-simulated"
AGGREGATED_V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
AGGREGATED_V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


def version_info() -> Object:
    """The body of /version: it says that this is a simulation."""
    try:
        build = version("k3s-daas-devstack")
    except PackageNotFoundError:
        build = "unknown"
    return {
        "major": "1",
        "minor": "32",
        "gitVersion": VERSION,
        "gitCommit": f"k3s-daas-devstack-{build}",
        "gitTreeState": "simulated",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": f"python-{platform.python_version()}",
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def _group_version(group: str, version_name: str) -> str:
    return f"{group}/{version_name}" if group else version_name


def api_versions() -> Object:
    """The body of /api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_group(group: str) -> Object:
    """The body of /apis/GROUP. Raises KeyError for a group that is not served."""
    versions = [
        {"groupVersion": _group_version(group, one), "version": one} for name, one in GROUP_VERSIONS if name == group
    ]
    if not versions or not group:
        raise KeyError(group)
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def api_groups() -> Object:
    """The body of /apis."""
    names = dict.fromkeys(group for group, _ in GROUP_VERSIONS if group)
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [api_group(name) for name in names]}


def _resource_entry(resource: Resource) -> list[Object]:
    entry: Object = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    out = [entry]
    for sub in resource.subresources:
        one: Object = {
            "name": f"{resource.plural}/{sub.name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": sub.kind,
            "verbs": list(sub.verbs),
        }
        if (sub.group, sub.version) != (resource.group, resource.version):
            one |= {"group": sub.group, "version": sub.version}
        out.append(one)
    return out


def resource_list(group: str, version_name: str) -> Object:
    """The body of /api/v1 and /apis/GROUP/VERSION. Raises KeyError for one that is not served."""
    if (group, version_name) not in GROUP_VERSIONS:
        raise KeyError(group, version_name)
    mine = [one for one in RESOURCES if (one.group, one.version) == (group, version_name)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": _group_version(group, version_name),
        "resources": [entry for one in mine for entry in _resource_entry(one)],
    }


def _aggregated_resource(resource: Resource) -> Object:
    def kind(group: str, version_name: str, name: str) -> Object:
        return {"group": group, "version": version_name, "kind": name}

    out: Object = {
        "resource": resource.plural,
        "responseKind": kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.kind.lower(),
        "verbs": list(resource.verbs),
    }
    if resource.short:
        out["shortNames"] = list(resource.short)
    if resource.categories:
        out["categories"] = list(resource.categories)
    if resource.subresources:
        out["subresources"] = [
            {"subresource": sub.name, "responseKind": kind(sub.group, sub.version, sub.kind), "verbs": list(sub.verbs)}
            for sub in resource.subresources
        ]
    return out


def aggregated(*, core: bool, api_version: str) -> Object:
    """The APIGroupDiscoveryList of /api (`core`) or /apis."""
    groups: dict[str, list[Object]] = {}
    for group, version_name in GROUP_VERSIONS:
        if (group == "") is not core:
            continue
        mine = [one for one in RESOURCES if (one.group, one.version) == (group, version_name)]
        entry = {
            "version": version_name,
            "freshness": "Current",
            "resources": [_aggregated_resource(one) for one in mine],
        }
        groups.setdefault(group, []).append(entry)
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
            "versions": versions,
        }
        for group, versions in groups.items()
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{api_version}",
        "metadata": {},
        "items": items,
    }
