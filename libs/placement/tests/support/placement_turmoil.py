"""What happens to storage, budgets and evictions in a simulated cluster."""

import random
from typing import Any

import msgspec
from placement_storage import make_claim, make_class, make_limits, make_volume, told

from daas.placement import Decision
from daas.placement.log import (
    BudgetDeleted,
    BudgetUpserted,
    ControllerDeleted,
    ControllerUpserted,
    CSINodeDeleted,
    Event,
    NamespaceDeleted,
    NamespaceUpserted,
    PersistentVolumeClaimDeleted,
    PersistentVolumeDeleted,
    PodDeleted,
    PodGroupDeleted,
    PodGroupUpserted,
    PreemptionFailed,
    ServiceDeleted,
    ServiceUpserted,
    StorageClassDeleted,
    TenantDeleted,
    TenantUpserted,
)
from daas.placement.model import ClaimSource, LabelSelector, Pod, Volume
from daas.placement.state import ClusterState
from daas.placement.storage import PodDisruptionBudget

CLAIMS = [f"c{i}" for i in range(6)]
VOLUMES = [f"v{i}" for i in range(6)]
CLASSES = {"local": "local", "disk": "ebs", "by-hand": "kubernetes.io/no-provisioner"}


def with_volumes(rng: random.Random, pod: Pod) -> Pod:
    """The pod with one or two claims, or an ephemeral volume."""
    chosen = rng.sample(CLAIMS, rng.choice([1, 1, 2]))
    volumes = [Volume(name=name, persistent_volume_claim=ClaimSource(claim_name=name)) for name in chosen]
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, volumes=tuple(volumes)))


def storage_event(rng: random.Random, nodes: list[str]) -> Event:
    """Classes, claims, volumes and limits come, change and go."""
    name, volume = rng.choice(CLAIMS), rng.choice(VOLUMES)
    storage_class = rng.choice(list(CLASSES))
    where: dict[str, Any] = {"on": rng.choice(nodes)} if nodes and rng.random() < 0.7 else {}
    if rng.random() < 0.4:
        where["csi"] = "ebs"
    modes = ["ReadWriteOncePod" if rng.random() < 0.2 else "ReadWriteOnce"]
    state: dict[str, Any] = {"volumeName": volume, "bound": True} if rng.random() < 0.4 else {}
    if not state and nodes and rng.random() < 0.2:
        state["selected"] = rng.choice(nodes)
    namespace = rng.choice(["default", "default", "blue"])
    choices: list[Event] = [
        told(make_class(storage_class, provisioner=CLASSES[storage_class], mode="WaitForFirstConsumer")),
        told(make_class(storage_class, provisioner=CLASSES[storage_class], mode="Immediate")),
        *[told(make_claim(name, storage_class, namespace=namespace, modes=modes, **state))] * 4,
        *[told(make_volume(volume, storage_class, modes=["ReadWriteOnce", "ReadWriteOncePod"], **where))] * 3,
        told(make_limits(rng.choice(nodes or ["n0"]), ebs=rng.randrange(3))),
        CSINodeDeleted(name=rng.choice(nodes or ["n0"])),
        PersistentVolumeClaimDeleted(namespace=namespace, name=name),
        PersistentVolumeDeleted(name=volume),
        StorageClassDeleted(name=storage_class),
    ]
    return rng.choice(choices)


def budget_event(rng: random.Random) -> Event:
    """Disruption budgets come, grow, shrink, select others and go."""
    namespace, name = rng.choice(["default", "default", "blue"]), rng.choice(["b0", "b1"])
    if rng.random() < 0.3:
        return BudgetDeleted(namespace=namespace, name=name)
    selector = rng.choice([{"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}, {}])
    budget = {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector},
        "status": {"disruptionsAllowed": rng.choice([0, 0, 1, 2])},
    }
    return BudgetUpserted(budget=msgspec.convert(budget, PodDisruptionBudget))


def object_event(rng: random.Random) -> Event:
    """Namespaces, services and controllers come, change and go."""
    namespace, name = rng.choice(["default", "blue"]), rng.choice(["s0", "s1"])
    selector = {"app": rng.choice(["web", "db"])}
    choices: list[Event] = [
        NamespaceUpserted(name=namespace, labels={"team": rng.choice(["one", "two"])}),
        NamespaceDeleted(name=namespace),
        ServiceUpserted(namespace=namespace, name=name, selector=selector),
        ServiceDeleted(namespace=namespace, name=name),
        ControllerUpserted(
            kind="ReplicaSet", namespace=namespace, name=name, selector=LabelSelector(match_labels=selector)
        ),
        ControllerDeleted(kind="ReplicaSet", namespace=namespace, name=name),
        TenantUpserted(namespace=namespace, stake=rng.randrange(50)),
        TenantDeleted(namespace=namespace),
        *[PodGroupUpserted(namespace=namespace, name=rng.choice(["g0", "g1"]), min_count=rng.randrange(1, 4))] * 2,
        PodGroupDeleted(namespace=namespace, name=rng.choice(["g0", "g1"])),
    ]
    return rng.choice(choices)


def eviction(rng: random.Random, state: ClusterState, pods: dict[str, Pod]) -> list[Event]:
    """The victims of one plan go, or some of them, or it is said that they won't."""
    plans = sorted(uid for uid, record in state.plans.items() if record.plan is not None)
    if not plans:
        return []
    plan = state.plans[rng.choice(plans)].plan
    assert plan is not None
    if rng.random() < 0.2:
        return [PreemptionFailed(uid=uid, sequence=plan.sequence, reason="simulated") for uid in plans[:1]]
    events: list[Event] = []
    for uid in plan.victims:
        pod = pods.pop(uid, None)
        if pod is not None:
            events.append(PodDeleted(uid=uid, namespace=pod.metadata.namespace, name=pod.metadata.name))
        if rng.random() < 0.2:
            break
    return events


def check_plans(state: ClusterState) -> None:
    """Plans, their victims and who uses which claim say what the pods say."""
    planned = {uid for uid, record in state.pods.items() if record.plan is not None}
    assert planned == set(state.plans)
    plans = [record.plan for record in state.plans.values() if record.plan is not None]
    promised = {victim for plan in plans for victim in plan.victims}
    assert set(state.victims) <= promised
    for node, records in state.nominated.items():
        assert all(record.nominated == node for record in records.values())
    claims = state.claims
    for record in state.pods.values():
        for name, _ in record.claims:
            assert (record.uid in claims.users((record.namespace, name))) == bool(record.node)
        assert not record.volumes or record.node


def check_groups(state: ClusterState, decision: Decision) -> None:
    """Of a group that a decision places or plans for, as many pods have a place or a plan as belong together."""
    placed = {leaf.pod_uid for leaf in decision.leaves if leaf.node is not None}
    planned = {plan.pod_uid for plan in decision.preemptions}
    for (namespace, group), mates in state.gangs.items():
        ready = {mate.uid for mate in mates.values() if mate.node}
        touched = (placed | planned) & set(mates)
        size = state.gang_size((namespace, group))
        assert not touched or (size is not None and len(ready | (planned & set(mates))) >= size), group
