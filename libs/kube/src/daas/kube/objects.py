"""What we ask of an API server beside lists and watches: bindings, conditions, events and leases."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from daas.common.errors import DecodeError
from daas.kube.client import MERGE_PATCH, STRATEGIC_PATCH, KubeClient
from daas.kube.errors import KubeConflict

T = TypeVar("T")

#: Limit of an Event's note in events.k8s.io/v1.
NOTE_BYTES_MAX: Final = 1024
#: An object name; Event names are the pod's name, a dot and 16 hex digits.
NAME_LENGTH_MAX: Final = 253
ALREADY_EXISTS: Final = "kube-already-exists"


class BoundMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Identity of a pod as it stands on the server."""

    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] | None = None


class BoundSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Where the pod is bound to; empty while it is not."""

    node_name: str = ""


class BoundPod(msgspec.Struct, frozen=True):
    """What a binder must know of a pod after a conflict."""

    metadata: BoundMeta
    spec: BoundSpec = BoundSpec()


class _Series(msgspec.Struct, frozen=True):
    count: int = 1


class _Event(msgspec.Struct, frozen=True):
    metadata: BoundMeta
    series: _Series | None = None


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """coordination.k8s.io/v1 LeaseSpec; times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseMeta(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Name and version of a lease."""

    name: str
    namespace: str
    resource_version: str = ""


class Lease(msgspec.Struct, frozen=True):
    """A lease as it is read and written."""

    metadata: LeaseMeta
    spec: LeaseSpec = LeaseSpec()


def micro_time(moment: datetime) -> str:
    """metav1.MicroTime: RFC 3339 in UTC with six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"


async def get_pod(client: KubeClient, namespace: str, name: str) -> BoundPod:
    """The pod as the server has it now.

    Raises:
        DaasError: KubeNotFound and the others of `daas.kube.errors`; DecodeError for a body that is no pod.
    """
    body = await client.request("GET", _pod_path(namespace, name))
    return _decode(body, BoundPod)


async def bind(
    client: KubeClient, *, namespace: str, name: str, uid: str, node: str, annotations: Mapping[str, str]
) -> None:
    """Binds a pod; the server copies the annotations to the pod in the same write.

    The uid makes the server refuse a pod that was deleted and created again under the same name.

    Raises:
        KubeConflict: bound already, being deleted, or another uid.
        DaasError: the others of `daas.kube.errors`.
    """
    await client.request(
        "POST",
        f"{_pod_path(namespace, name)}/binding",
        body={
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "annotations": dict(annotations)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        },
    )


async def evict(client: KubeClient, *, namespace: str, name: str, uid: str) -> None:
    """Asks for a pod to be evicted (policy/v1), if it is still that pod.

    Raises:
        KubeUnavailable: also where a disruption budget forbids it now (429).
        KubeConflict: another uid.
        DaasError: KubeNotFound and the others of `daas.kube.errors`.
    """
    await client.request(
        "POST",
        f"{_pod_path(namespace, name)}/eviction",
        body={
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        },
    )


async def patch_pod_nominated(client: KubeClient, *, namespace: str, name: str, uid: str, node: str) -> None:
    """Sets or clears (with an empty name) the node that a pod was promised.

    Raises:
        KubeConflict: another uid.
        DaasError: the others of `daas.kube.errors`.
    """
    await client.request(
        "PATCH",
        f"{_pod_path(namespace, name)}/status",
        content_type=MERGE_PATCH,
        body={"metadata": {"uid": uid}, "status": {"nominatedNodeName": node or None}},
    )


async def patch_claim_node(client: KubeClient, *, namespace: str, name: str, uid: str, node: str) -> None:
    """Says on a claim which node its volume is to be made for.

    Raises:
        KubeConflict: another uid.
        DaasError: the others of `daas.kube.errors`.
    """
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/persistentvolumeclaims/{quote(name, safe='')}"
    body = {"metadata": {"uid": uid, "annotations": {"volume.kubernetes.io/selected-node": node}}}
    await client.request("PATCH", path, content_type=MERGE_PATCH, body=body)


async def set_volume_aside(
    client: KubeClient, *, volume: str, namespace: str, claim: str, claim_uid: str, resource_version: str
) -> None:
    """Gives a volume to a claim, if it still is what the caller saw.

    Raises:
        KubeConflict: the volume has moved on.
        DaasError: the others of `daas.kube.errors`.
    """
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace,
        "name": claim,
        "uid": claim_uid,
    }
    body = {"metadata": {"resourceVersion": resource_version}, "spec": {"claimRef": reference}}
    await client.request(
        "PATCH", f"/api/v1/persistentvolumes/{quote(volume, safe='')}", content_type=MERGE_PATCH, body=body
    )


async def patch_pod_scheduled(
    client: KubeClient,
    *,
    namespace: str,
    name: str,
    uid: str,
    resource_version: str,
    reason: str,
    message: str,
    now: datetime,
) -> None:
    """Sets the condition PodScheduled=False on a pod, if it still is what the caller saw.

    The resource version keeps a late patch from overwriting PodScheduled=True of a pod that was bound meanwhile.

    Raises:
        KubeConflict: the pod has moved on.
        DaasError: the others of `daas.kube.errors`.
    """
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    await client.request(
        "PATCH",
        f"{_pod_path(namespace, name)}/status",
        content_type=STRATEGIC_PATCH,
        body={"metadata": {"uid": uid, "resourceVersion": resource_version}, "status": {"conditions": [condition]}},
    )


async def record_event(
    client: KubeClient,
    *,
    namespace: str,
    name: str,
    uid: str,
    reason: str,
    note: str,
    action: str,
    warning: bool,
    controller: str,
    instance: str,
    now: datetime,
) -> bool:
    """Posts an Event about a pod; its name is derived from what it says, so that the same is said once only.

    A warning that is said again counts up in its series, as kube-scheduler's do, so that `kubectl describe` shows how
    often and when it was last true.

    Returns:
        False where the server has this very event already.

    Raises:
        DaasError: those of `daas.kube.errors`.
    """
    note = note.encode()[:NOTE_BYTES_MAX].decode(errors="ignore")
    digest = hashlib.blake2b(f"{uid}\0{reason}\0{note}".encode(), digest_size=8).hexdigest()
    event_name = f"{name[: NAME_LENGTH_MAX - len(digest) - 1]}.{digest}"
    path = f"/apis/events.k8s.io/v1/namespaces/{quote(namespace, safe='')}/events"
    try:
        await client.request(
            "POST",
            path,
            body={
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": event_name, "namespace": namespace},
                "eventTime": micro_time(now),
                "reportingController": controller,
                "reportingInstance": instance,
                "action": action,
                "reason": reason,
                "type": "Warning" if warning else "Normal",
                "note": note,
                "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid},
            },
        )
    except KubeConflict as error:
        if error.reason != ALREADY_EXISTS:
            raise
        if warning:
            await _say_again(client, f"{path}/{quote(event_name, safe='')}", now)
        return False
    return True


async def _say_again(client: KubeClient, path: str, now: datetime) -> None:
    known = _decode(await client.request("GET", path), _Event)
    count = known.series.count if known.series is not None else 1
    version = known.metadata.resource_version  # somebody who counts at the same time makes this a conflict
    series = {"count": count + 1, "lastObservedTime": micro_time(now)}
    body = {"metadata": {"resourceVersion": version}, "series": series}
    await client.request("PATCH", path, content_type=MERGE_PATCH, body=body)


def _lease_path(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"


async def get_lease(client: KubeClient, namespace: str, name: str) -> Lease:
    """A lease.

    Raises:
        DaasError: KubeNotFound and the others of `daas.kube.errors`.
    """
    return _decode(await client.request("GET", f"{_lease_path(namespace)}/{quote(name, safe='')}"), Lease)


async def put_lease(client: KubeClient, lease: Lease) -> Lease:
    """Creates a lease that has no resource version, replaces one that has; the server's copy comes back.

    Raises:
        KubeConflict: someone else was faster: read it again.
        DaasError: the others of `daas.kube.errors`.
    """
    path = _lease_path(lease.metadata.namespace)
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **msgspec.to_builtins(lease)}
    if lease.metadata.resource_version:
        answer = await client.request("PUT", f"{path}/{quote(lease.metadata.name, safe='')}", body=body)
    else:
        answer = await client.request("POST", path, body=body)
    return _decode(answer, Lease)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise DecodeError(f"{kind.__name__}: {error}", reason="kube-malformed") from None
