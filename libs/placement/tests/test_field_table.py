"""Every field and behaviour that placement reads, one small case each: where the pod goes, or why it waits."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest
from placement_storage import make_claim, make_class, make_volume, told
from placement_world import World, make_node, make_pod

from daas.placement.log import Event, PodGroupUpserted, PodUpserted
from daas.placement.model import Node, Pod
from daas.placement.reasons import Reason

HOST = "kubernetes.io/hostname"
WEB = {"metadata": {"labels": {"app": "web"}}}
SELECTOR = {"matchLabels": {"app": "web"}}
PORT = [{"containerPort": 80, "hostPort": 80}]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Case(NamedTuple):
    """`expected` is a node, or a reason to wait, or None where there is nothing to decide."""

    row: str
    expected: str | Reason | None
    pod: dict[str, Any]
    first: Mapping[str, Any] = NOTHING
    second: Mapping[str, Any] = NOTHING
    on_first: Sequence[Mapping[str, Any]] = ()
    objects: Sequence[Event] = ()


def affinity(kind: str, **terms: Any) -> dict[str, Any]:
    return {"affinity": {kind: terms}}


def node_term(operator: str, *values: str, key: str = "gen") -> dict[str, Any]:
    expression = {"key": key, "operator": operator, "values": list(values)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return affinity("nodeAffinity", **{REQUIRED: terms})


def pod_terms(kind: str) -> dict[str, Any]:
    return affinity(kind, **{REQUIRED: [{"topologyKey": HOST, "labelSelector": SELECTOR}]})


def preferred_terms(kind: str) -> dict[str, Any]:
    term = {"topologyKey": HOST, "labelSelector": SELECTOR}
    return affinity(kind, **{PREFERRED: [{"weight": 100, "podAffinityTerm": term}]})


def spread(when: str) -> dict[str, Any]:
    rule = {"topologyKey": HOST, "maxSkew": 1, "whenUnsatisfiable": when, "labelSelector": SELECTOR}
    return {"topologySpreadConstraints": [rule], **WEB}


def taint(effect: str) -> dict[str, Any]:
    return {"taints": [{"key": "k", "value": "v", "effect": effect}]}


def mount(name: str) -> dict[str, Any]:
    return {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}


NEW = {"labels": {"gen": "9"}}
OLD = {"labels": {"gen": "1"}}
SMALL = {"allocatable": {"cpu": "1"}}
BIG = {"cpu": "2"}
CONTAINER = {"name": "c", "resources": {"requests": {"cpu": "2"}}}
IMAGE = {"images": [{"names": ["web:1"], "sizeBytes": 800 * 2**20}]}
IN_TREE = ("gcePersistentDisk", "awsElasticBlockStore", "azureDisk", "cinder", "vsphereVolume", "portworxVolume")
CASES = [
    Case("schedulerName", None, {"spec": {"schedulerName": "default-scheduler"}}),
    Case("schedulingGates", None, {"schedulingGates": [{"name": "g"}]}),
    Case("nodeName", None, {"nodeName": "second"}),
    Case("deletionTimestamp", None, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    Case("terminal phase", None, {"phase": "Succeeded"}),
    Case("nodeSelector", "second", {"nodeSelector": {"gen": "9"}}, OLD, NEW),
    Case("node affinity In", "second", node_term("In", "9"), OLD, NEW),
    Case("node affinity NotIn", "second", node_term("NotIn", "1"), OLD, NEW),
    Case("node affinity Exists", "second", node_term("Exists"), {}, NEW),
    Case("node affinity DoesNotExist", "second", node_term("DoesNotExist"), OLD, {}),
    Case("node affinity Gt", "second", node_term("Gt", "5"), OLD, NEW),
    Case("node affinity Lt", "second", node_term("Lt", "5"), NEW, OLD),
    Case(
        "matchFields",
        "second",
        affinity(
            "nodeAffinity",
            **{
                REQUIRED: {
                    "nodeSelectorTerms": [
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["second"]}]}
                    ]
                }
            },
        ),
    ),
    Case(
        "preferred node affinity",
        "second",
        affinity(
            "nodeAffinity",
            **{
                PREFERRED: [
                    {"weight": 1, "preference": {"matchExpressions": [{"key": "gen", "operator": "Exists"}]}}
                ]
            },
        ),
        {},
        NEW,
    ),
    Case("taint NoSchedule", "second", {}, taint("NoSchedule")),
    Case("taint NoExecute", "second", {}, taint("NoExecute")),
    Case("taint PreferNoSchedule", "second", {}, taint("PreferNoSchedule")),
    Case("toleration", "first", {"tolerations": [{"operator": "Exists"}]}, {}, {"allocatable": {"pods": "0"}}),
    Case("toleration operators of later versions", Reason.TOLERATION_OPERATOR_UNSUPPORTED,
         {"tolerations": [{"key": "k", "operator": "Lt", "value": "5"}]}),
    Case("unschedulable", "second", {}, {"unschedulable": True}),
    Case("container requests", "second", BIG, SMALL),
    Case("init containers", "second", {"initContainers": [CONTAINER]}, SMALL),
    Case("sidecars", "second", {"initContainers": [{**CONTAINER, "restartPolicy": "Always"}]}, SMALL),
    Case("overhead", "second", {"overhead": {"cpu": "2"}}, SMALL),
    Case("pod-level resources", "second", {"resources": {"requests": {"cpu": "2"}}}, SMALL),
    Case("pod count", "second", {}, {"allocatable": {"pods": "0"}}),
    Case("hugepages", "second", {"requests": {"hugepages-2Mi": "4Mi"}}, {}, {"allocatable": {"hugepages-2Mi": "8Mi"}}),
    Case("extended resources", "second", {"requests": {"x.io/gpu": "1"}}, {}, {"allocatable": {"x.io/gpu": "1"}}),
    Case("ephemeral storage", "second", {"requests": {"ephemeral-storage": "1Gi"}}, {},
         {"allocatable": {"ephemeral-storage": "2Gi"}}),
    Case("what asks for nothing counts in scores", "second", {}, on_first=[{}, {}]),
    Case("hostPort", "second", {"ports": PORT}, on_first=[{"ports": PORT}]),
    Case("hostNetwork", "second", {"ports": [{"containerPort": 80}], "hostNetwork": True}, on_first=[{"ports": PORT}]),
    Case("hard spread", "second", spread("DoNotSchedule"), on_first=[WEB]),
    Case("soft spread", "second", spread("ScheduleAnyway"), on_first=[{**WEB}]),
    Case("required pod affinity", "first", pod_terms("podAffinity"), on_first=[WEB]),
    Case("required anti-affinity", "second", pod_terms("podAntiAffinity"), on_first=[WEB]),
    Case("anti-affinity of pods that run", "second", WEB, on_first=[pod_terms("podAntiAffinity")]),
    Case("preferred pod affinity", "first", preferred_terms("podAffinity"), on_first=[WEB]),
    Case("preferred anti-affinity", "second", preferred_terms("podAntiAffinity"), on_first=[WEB]),
    Case("image locality", "second", {"image": "web:1"}, {}, IMAGE),
    Case("volume node affinity", "second", mount("c"), objects=[
        told(make_class("local")),
        told(make_volume("v", on="second", claim="c", bound=True)),
        told(make_claim("c", volumeName="v", bound=True)),
    ]),
    Case("WaitForFirstConsumer", "second", {**mount("c"), "nodeSelector": {"gen": "9"}}, OLD, NEW, objects=[
        told(make_class("local")),
        told(make_claim("c")),
    ]),
    Case("ReadWriteOncePod", Reason.CLAIM_IN_USE, mount("c"), on_first=[mount("c")], objects=[
        told(make_class("local")),
        told(make_volume("v", claim="c", bound=True)),
        told(make_claim("c", volumeName="v", bound=True, modes=["ReadWriteOncePod"])),
    ]),
    Case("resource claims", Reason.RESOURCE_CLAIM_UNSUPPORTED, {"resourceClaims": [{"name": "gpu"}]}),
    *[
        Case(f"in-tree disks: {source}", Reason.DISK_VOLUME_UNSUPPORTED, {"volumes": [{"name": "v", source: {}}]})
        for source in (*IN_TREE, "iscsi", "rbd")
    ],
    *[
        Case(f"claims of in-tree disks: {source}", Reason.DISK_VOLUME_UNSUPPORTED, mount("c"), objects=[
            told(make_class("local")),
            told(make_volume("v", claim="c", bound=True, **dict[str, Any]({source: {}}))),
            told(make_claim("c", volumeName="v", bound=True)),
        ])
        for source in IN_TREE
    ],
    Case("schedulingGroup", Reason.GANG_INCOMPLETE, {"schedulingGroup": {"podGroupName": "g"}},
         objects=[PodGroupUpserted(namespace="default", name="g", min_count=2)]),
    Case("PodGroup label", Reason.GANG_INCOMPLETE, {"metadata": {"labels": {"scheduling.x-k8s.io/pod-group": "g"}}}),
    Case("workloadRef", Reason.POD_GROUP_UNSUPPORTED, {"workloadRef": {"name": "w"}}),
    Case("declared features: restart of all", Reason.NODE_FEATURE_UNSUPPORTED,
         {"initContainers": [{"name": "i", "restartPolicyRules": [{"action": "RestartAllContainers"}]}]}),
    Case("declared features: user namespaces on the host's network", Reason.NODE_FEATURE_UNSUPPORTED,
         {"hostNetwork": True, "hostUsers": False}),
    Case("os and runtime class, as labels", "second", {"nodeSelector": {"kubernetes.io/os": "linux"}},
         {"labels": {"kubernetes.io/os": "windows"}}, {"labels": {"kubernetes.io/os": "linux"}}),
]  # fmt: skip


def node(name: str, options: Mapping[str, Any]) -> Node:
    return make_node(name, **{**options, "labels": options.get("labels", {})})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_a_pod_goes_where_this_field_says(case: Case) -> None:
    world = World()
    world.nodes(node("first", case.first), node("second", case.second))
    world.tell(*case.objects)
    there = [make_pod(f"there{i}", nodeName="first", phase="Running", **dict(p)) for i, p in enumerate(case.on_first)]
    world.tell(*(PodUpserted(pod=pod) for pod in there))
    decision = world.tell(PodUpserted(pod=make_pod("p", **msgspec.json.decode(msgspec.json.encode(case.pod))))).decision
    if case.expected is None:
        assert decision is None
        return
    assert decision is not None
    leaf = decision.leaves[0]
    if isinstance(case.expected, Reason):
        assert (leaf.node, Reason(leaf.reasons)) == (None, case.expected)
    else:
        assert leaf.node == case.expected


def test_a_pod_that_is_resized_in_place_counts_by_what_it_has() -> None:
    world = World()
    world.nodes(make_node("only", allocatable={"cpu": "2"}))
    pod = make_pod("there", cpu="100m", nodeName="only", phase="Running")
    status = {"phase": "Running", "containerStatuses": [{"name": "main", "allocatedResources": {"cpu": "2"}}]}
    document: dict[str, Any] = {**msgspec.to_builtins(pod), "status": status}
    world.tell(PodUpserted(pod=msgspec.convert(document, Pod)))
    assert world.pods(make_pod("p", cpu="1")) == {"p": None}
