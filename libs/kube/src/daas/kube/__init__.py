"""Kubernetes: a raw-bytes client, typed errors, and a reflector generic over the Struct that objects decode into."""

from daas.kube.client import KubeClient
from daas.kube.config import load_configuration
from daas.kube.election import LeaderElector, LeaseTimes, NotLeading
from daas.kube.errors import Gone, KubeConflict, KubeInvalid, KubeNotFound, KubeRefused, KubeUnavailable
from daas.kube.objects import (
    BoundPod,
    Lease,
    LeaseMeta,
    LeaseSpec,
    bind,
    evict,
    get_lease,
    get_pod,
    patch_claim_node,
    patch_pod_nominated,
    patch_pod_scheduled,
    put_lease,
    record_event,
    set_volume_aside,
)
from daas.kube.reflector import Backoff, Change, Deleted, ListFinished, ListStarted, Reflector, Upserted

__all__ = [
    "Backoff",
    "BoundPod",
    "Change",
    "Deleted",
    "Gone",
    "KubeClient",
    "KubeConflict",
    "KubeInvalid",
    "KubeNotFound",
    "KubeRefused",
    "KubeUnavailable",
    "LeaderElector",
    "Lease",
    "LeaseMeta",
    "LeaseSpec",
    "LeaseTimes",
    "ListFinished",
    "ListStarted",
    "NotLeading",
    "Reflector",
    "Upserted",
    "bind",
    "evict",
    "get_lease",
    "get_pod",
    "load_configuration",
    "patch_claim_node",
    "patch_pod_nominated",
    "patch_pod_scheduled",
    "put_lease",
    "record_event",
    "set_volume_aside",
]
