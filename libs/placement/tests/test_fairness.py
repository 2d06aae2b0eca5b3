"""Whose turn it is: by weighted dominant share across tenants, by priority and first come inside one."""

import random
from typing import Any

import msgspec
import pytest
from placement_world import World, make_node, make_pod, placed

from daas.placement import Applied
from daas.placement.fairness import (
    FairnessCertificate,
    Grant,
    TenantShare,
    Weights,
    dominant_share,
    verify_fairness,
)
from daas.placement.log import PodUpserted, TenantDeleted, TenantUpserted


def flood(world: World, pods: dict[str, int], **kwargs: Any) -> Applied:
    return world.tell(
        *(
            PodUpserted(pod=make_pod(f"{namespace}-{i}", namespace=namespace, cpu="1", **kwargs))
            for namespace, count in pods.items()
            for i in range(count)
        )
    )


def served(applied: Applied) -> dict[str, int]:
    counts: dict[str, int] = {}
    assert applied.decision is not None
    for leaf in applied.decision.leaves:
        counts[leaf.namespace] = counts.get(leaf.namespace, 0) + (leaf.node is not None)
    return counts


def verified(applied: Applied) -> bool:
    assert applied.decision is not None
    assert applied.fairness is not None
    return verify_fairness(applied.fairness, applied.decision.leaves).holds


def test_tenants_without_stakes_share_equally_whoever_came_first() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "12"}))
    applied = flood(world, {"greedy": 100, "modest": 6})
    assert served(applied) == {"greedy": 6, "modest": 6}
    assert verified(applied)


def test_stakes_weigh_the_shares_and_a_floor_protects_the_small() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "40", "memory": "1Ti"}))
    world.tell(TenantUpserted(namespace="whale", stake=3_000_000), TenantUpserted(namespace="small", stake=1))
    assert Weights(world.scheduler._state.stakes()).floor == 150_000
    applied = flood(world, {"whale": 60, "small": 60, "unknown": 60})
    counts = served(applied)
    assert counts["small"] == counts["unknown"] > 0
    assert counts["whale"] > 15 * counts["small"]
    assert verified(applied)
    world.tell(TenantDeleted(namespace="whale"))
    assert world.scheduler._state.stakes() == {"small": 1}


def test_what_a_tenant_holds_already_counts_by_its_dominant_resource() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "10", "memory": "100Gi"}))
    world.pods(make_pod("big", namespace="memory", memory="80Gi"))
    applied = flood(world, {"memory": 10, "cpu": 10})
    assert served(applied)["cpu"] == 8
    assert served(applied)["memory"] == 2
    assert verified(applied)


def test_priority_orders_only_inside_a_tenant() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"pods": "2"}))
    result = world.pods(
        *(make_pod(f"a{i}", namespace="a", priority=1000 + i) for i in range(3)), make_pod("b", namespace="b")
    )
    assert [name for name, node in result.items() if node] in (["a2", "b"], ["b", "a2"])


def test_pods_that_fit_nowhere_do_not_keep_other_tenants_from_their_turn() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "4"}))
    for round_ in range(3):
        world.tell(
            *(PodUpserted(pod=make_pod(f"x{round_}-{i}", namespace="stuck", cpu="9", priority=9)) for i in range(500))
        )
    result = world.pods(make_pod("fine", namespace="other", cpu="1"))
    assert result["fine"] == "n0"


def test_a_resource_that_no_node_offers_counts_for_nothing() -> None:
    assert dominant_share({"cpu": 1, "gpu": 7}, {"cpu": 4}) == 2**64 // 4
    assert dominant_share({"gpu": 7}, {}) == 0


@pytest.fixture(scope="module")
def busy() -> Applied:
    rng = random.Random(5)
    world = World()
    world.nodes(*(make_node(f"n{i}") for i in range(4)))
    world.tell(*(TenantUpserted(namespace=f"t{i}", stake=rng.randrange(1, 90)) for i in range(4)))
    return world.tell(
        *(
            PodUpserted(
                pod=make_pod(
                    f"p{i}",
                    namespace=f"t{rng.randrange(6)}",
                    cpu=f"{rng.randrange(1, 900)}m",
                    memory=f"{rng.randrange(1, 900)}Mi",
                    priority=rng.choice([0, 5]),
                )
            )
            for i in range(120)
        )
    )


def test_the_certificate_of_a_busy_batch_holds(busy: Applied) -> None:
    assert verified(busy)
    assert len(placed(busy)) == 120


def test_leaves_in_another_order_are_found(busy: Applied) -> None:
    assert busy.decision is not None
    assert busy.fairness is not None
    leaves, grants = list(busy.decision.leaves), list(busy.fairness.grants)
    found = set()
    for first in range(119):
        changed, moved = leaves.copy(), grants.copy()
        changed[first], changed[first + 1] = changed[first + 1], changed[first]
        moved[first], moved[first + 1] = moved[first + 1], moved[first]
        certificate = msgspec.structs.replace(busy.fairness, grants=tuple(moved))
        found.add(verify_fairness(certificate, changed).broken)
    assert found == {"order", "first-come"}


@pytest.mark.parametrize("change", ["dropped", "weight", "twice"])
def test_an_altered_certificate_is_found(busy: Applied, change: str) -> None:
    assert busy.decision is not None
    certificate = busy.fairness
    assert certificate is not None
    tenants, grants = certificate.tenants, certificate.grants
    if change == "dropped":
        grants = grants[1:]
    elif change == "weight":
        tenants = (tenants[0]._replace(weight=0), *tenants[1:])
    else:
        tenants = (tenants[0], *tenants)
    altered = msgspec.structs.replace(certificate, tenants=tenants, grants=grants)
    assert not verify_fairness(altered, busy.decision.leaves).holds


def test_serving_one_tenant_above_another_that_waits_breaks_the_order() -> None:
    grant = Grant((("cpu", 5),), 0, 1)
    certificate = FairnessCertificate(
        capacity=(("cpu", 10),),
        tenants=(TenantShare("a", 1, (), 2), TenantShare("b", 1, (), 1)),
        grants=(grant, grant),
    )
    world = World()
    world.nodes(make_node("n0"))
    applied = world.tell(
        PodUpserted(pod=make_pod("x", namespace="a")), PodUpserted(pod=make_pod("y", 2, namespace="a"))
    )
    assert applied.decision is not None
    verdict = verify_fairness(certificate, applied.decision.leaves)
    assert verdict.broken == "order"
    assert "b had the least share" in verdict.message or verdict.at == 0
