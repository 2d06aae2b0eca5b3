"""`kubectl get` tables as the server prints them: columns and cells of each kind."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from daas.devstack.apiserver.pod_table import pod_cells
from daas.devstack.apiserver.resources import Resource

Object = dict[str, Any]
NONE = "<none>"


class Column(NamedTuple):
    """One column; priority 1 is shown by `-o wide` only."""

    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""


def human_duration(seconds: float) -> str:
    """A duration as kubectl prints ages (apimachinery duration.HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if days < 2920 and days % 365 else f"{years}y"


def age(timestamp: str | None) -> str:
    """Time since an RFC 3339 timestamp."""
    if not timestamp:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<unknown>"
    return human_duration((datetime.now(UTC) - then).total_seconds())


def _created(obj: Object) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _node_cells(node: Object) -> list[Any]:
    status = node.get("status") or {}
    words = [
        one["type"] if one.get("status") == "True" else f"Not{one['type']}"
        for one in status.get("conditions") or ()
        if one.get("type") == "Ready"
    ] or ["Unknown"]
    if (node.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = set()
    for key, value in (node["metadata"].get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/") and key.partition("/")[2]:
            roles.add(key.partition("/")[2])
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    addresses = {one.get("type"): one.get("address") for one in reversed(status.get("addresses") or [])}
    info = status.get("nodeInfo") or {}
    unknown = "<unknown>"
    return [
        node["metadata"]["name"],
        ",".join(words),
        ",".join(sorted(roles)) or NONE,
        _created(node),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or unknown,
        info.get("kernelVersion") or unknown,
        info.get("containerRuntimeVersion") or unknown,
    ]


def _service_cells(service: Object) -> list[Any]:
    spec = service.get("spec") or {}
    ports = ",".join(
        f"{one.get('port')}:{one['nodePort']}/{one.get('protocol')}"
        if one.get("nodePort")
        else f"{one.get('port')}/{one.get('protocol')}"
        for one in spec.get("ports") or ()
    )
    external = ",".join(spec.get("externalIPs") or ()) or NONE
    if spec.get("type") == "ExternalName":
        external = spec.get("externalName", "")
    elif spec.get("type") == "LoadBalancer" and external == NONE:
        external = "<pending>"
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    return [
        service["metadata"]["name"],
        spec.get("type", ""),
        spec.get("clusterIP") or NONE,
        external,
        ports or NONE,
        _created(service),
        selector or NONE,
    ]


def _event_cells(event: Object) -> list[Any]:
    involved, source = event.get("involvedObject") or {}, event.get("source") or {}
    first, last = event.get("firstTimestamp"), event.get("lastTimestamp")
    first_age = age(first or event.get("eventTime"))
    series = event.get("series") or {}
    last_age = age(series.get("lastObservedTime") or last or event.get("eventTime") or first)
    component = event.get("reportingComponent") or source.get("component", "")
    kind = involved.get("kind", "").lower()
    return [
        last_age,
        event.get("type", ""),
        event.get("reason", ""),
        f"{kind}/{involved['name']}" if involved.get("name") else kind,
        involved.get("fieldPath", ""),
        ", ".join(filter(None, (component, source.get("host") or event.get("reportingInstance")))),
        (event.get("message") or "").strip(),
        first_age,
        series.get("count") or event.get("count") or 1,
        event["metadata"]["name"],
    ]


def _containers(obj: Object) -> tuple[str, str]:
    spec = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = spec.get("containers") or ()
    return ",".join(one.get("name", "") for one in containers), ",".join(one.get("image", "") for one in containers)


def _selector(obj: Object) -> str:
    labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE


def _deployment_cells(one: Object) -> list[Any]:
    status, wanted = one.get("status") or {}, one["spec"].get("replicas", 1)
    return [
        one["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{wanted}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        *(_created(one), *_containers(one), _selector(one)),
    ]


def _replica_set_cells(one: Object) -> list[Any]:
    status = one.get("status") or {}
    counts = (one["spec"].get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0))
    return [one["metadata"]["name"], *counts, _created(one), *_containers(one), _selector(one)]


def _job_cells(one: Object) -> list[Any]:
    status, spec = one.get("status") or {}, one["spec"]
    wanted = spec.get("completions")
    done = f"{status.get('succeeded', 0)}/{wanted if wanted is not None else spec.get('parallelism', 1)}"
    conditions = {two.get("type") for two in status.get("conditions") or () if two.get("status") == "True"}
    state = next((name for name in ("Complete", "Failed", "Suspended") if name in conditions), "Running")
    return [one["metadata"]["name"], state, done, "", _created(one), *_containers(one), _selector(one)]


Cells = Callable[[Object], list[Any]]
_NAME, _AGE = Column("Name", format="name"), Column("Age")
_WORKLOAD_WIDE = (Column("Containers", priority=1), Column("Images", priority=1), Column("Selector", priority=1))

_TABLES: dict[str, tuple[tuple[Column, ...], Cells]] = {
    "pods": (
        (
            *(_NAME, Column("Ready"), Column("Status"), Column("Restarts"), _AGE),
            *(Column(name, priority=1) for name in ("IP", "Node", "Nominated Node", "Readiness Gates")),
        ),
        lambda pod: pod_cells(pod, age),
    ),
    "nodes": (
        (
            *(_NAME, Column("Status"), Column("Roles"), _AGE, Column("Version")),
            *(Column(name, priority=1) for name in ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version")),
            Column("Container-Runtime", priority=1),
        ),
        _node_cells,
    ),
    "namespaces": (
        (_NAME, Column("Status"), _AGE),
        lambda one: [one["metadata"]["name"], (one.get("status") or {}).get("phase", ""), _created(one)],
    ),
    "secrets": (
        (_NAME, Column("Type"), Column("Data", "integer"), _AGE),
        lambda one: [one["metadata"]["name"], one.get("type", ""), len(one.get("data") or ()), _created(one)],
    ),
    "configmaps": (
        (_NAME, Column("Data", "integer"), _AGE),
        lambda one: [
            one["metadata"]["name"],
            len(one.get("data") or ()) + len(one.get("binaryData") or ()),
            _created(one),
        ],
    ),
    "serviceaccounts": (
        (_NAME, Column("Secrets", "integer"), _AGE),
        lambda one: [one["metadata"]["name"], len(one.get("secrets") or ()), _created(one)],
    ),
    "services": (
        (
            *(_NAME, Column("Type"), Column("Cluster-IP"), Column("External-IP"), Column("Port(s)"), _AGE),
            Column("Selector", priority=1),
        ),
        _service_cells,
    ),
    "events": (
        (
            *(Column("Last Seen"), Column("Type"), Column("Reason"), Column("Object")),
            *(Column("Subobject", priority=1), Column("Source", priority=1), Column("Message")),
            *(Column("First Seen", priority=1), Column("Count", priority=1), Column("Name", priority=1)),
        ),
        _event_cells,
    ),
    "leases.coordination.k8s.io": (
        (_NAME, Column("Holder"), _AGE),
        lambda one: [one["metadata"]["name"], (one.get("spec") or {}).get("holderIdentity", ""), _created(one)],
    ),
    "deployments.apps": (
        (_NAME, Column("Ready"), Column("Up-to-date"), Column("Available"), _AGE, *_WORKLOAD_WIDE),
        _deployment_cells,
    ),
    "replicasets.apps": (
        (_NAME, Column("Desired"), Column("Current"), Column("Ready"), _AGE, *_WORKLOAD_WIDE),
        _replica_set_cells,
    ),
    "jobs.batch": (
        (_NAME, Column("Status"), Column("Completions"), Column("Duration"), _AGE, *_WORKLOAD_WIDE),
        _job_cells,
    ),
    "priorityclasses.scheduling.k8s.io": (
        (_NAME, Column("Value", "integer"), Column("Global-Default", "boolean"), _AGE),
        lambda one: [one["metadata"]["name"], one.get("value", 0), bool(one.get("globalDefault")), _created(one)],
    ),
}


def table(
    resource: Resource,
    objects: Iterable[Object],
    list_meta: Object,
    include: str,
    *,
    columns: bool = True,
) -> Object:
    """A `meta.k8s.io/v1` Table of stored objects.

    `include` is the includeObject parameter: None, Metadata or Object. Watches send `columns` once.
    """
    shown, cells = _TABLES.get(
        resource.key,
        (
            (_NAME, Column("Created At", "date")),
            lambda one: [one["metadata"]["name"], one["metadata"].get("creationTimestamp")],
        ),
    )
    rows: list[Object] = []
    for obj in objects:
        row: Object = {"cells": cells(obj)}
        if include == "Object":
            row["object"] = {"kind": resource.kind, "apiVersion": resource.group_version, **obj}
        elif include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            }
        rows.append(row)
    definitions = [
        {"name": one.name, "type": one.type, "format": one.format, "description": "", "priority": one.priority}
        for one in shown
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta,
        "columnDefinitions": definitions if columns else None,
        "rows": rows,
    }
