"""A pod's way through the state: pending, assumed, bound; and all the ways it goes wrong."""

from typing import Any

import msgspec
import pytest
from placement_world import World, make_node, make_pod, placed

from daas.placement.log import (
    BindFailed,
    NodeDeleted,
    NodeUpserted,
    PodDeleted,
    PodUpserted,
    ResyncFinished,
    ResyncStarted,
)
from daas.placement.reasons import Reason
from daas.placement.records import PodState


def tight_world() -> World:
    """One node with room for one pod."""
    world = World()
    world.nodes(make_node("n0", allocatable={"pods": "1"}))
    return world


def gone(name: str) -> PodDeleted:
    return PodDeleted(uid=f"uid-{name}", namespace="default", name=name)


def test_a_placed_pod_is_assumed_until_the_log_shows_it_bound() -> None:
    world = World()
    world.nodes(make_node("n0"))
    assert world.pods(make_pod("p", 5)) == {"p": "n0"}
    assert world.state_of("uid-p") is PodState.ASSUMED
    assert world.pods(make_pod("p", 6, nodeName="n0")) == {}
    assert world.state_of("uid-p") is PodState.BOUND
    assert world.tell(after_ms=1_000_000).decision is None


def test_a_pod_bound_elsewhere_counts_where_it_really_is() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"pods": "1"}))
    world.pods(make_pod("p", 5))
    world.nodes(make_node("n1", allocatable={"pods": "1"}))
    world.pods(make_pod("p", 6, nodeName="n1"))
    assert world.pods(make_pod("q", 7)) == {"q": "n0"}


def test_a_failed_bind_frees_the_capacity_and_the_pod_is_decided_again_after_its_delay() -> None:
    world = tight_world()
    world.pods(make_pod("p"))
    sequence = world.claims[-1].batch.sequence
    failed = BindFailed(uid="uid-p", sequence=sequence, node="n0", reason="conflict")
    assert world.tell(failed).decision is None
    assert world.state_of("uid-p") is PodState.BACKOFF
    assert world.tell(after_ms=999).decision is None
    assert placed(world.tell(after_ms=1)) == {"p": "n0"}


def test_delays_double_to_ten_seconds_and_a_bound_pod_starts_afresh() -> None:
    world = tight_world()
    world.pods(make_pod("p"))
    for delay_ms in (1_000, 2_000, 4_000, 8_000, 10_000, 10_000):
        sequence = world.claims[-1].batch.sequence
        assert world.tell(BindFailed(uid="uid-p", sequence=sequence, node="n0", reason="x")).decision is None
        assert world.tell(after_ms=delay_ms - 1).decision is None
        assert placed(world.tell(after_ms=1)) == {"p": "n0"}


@pytest.mark.parametrize("change", [{"sequence": 99}, {"node": "n9"}, {"uid": "uid-other"}])
def test_a_failed_bind_of_another_decision_is_ignored(change: dict[str, Any]) -> None:
    world = tight_world()
    world.pods(make_pod("p"))
    stale = {"uid": "uid-p", "sequence": 1, "node": "n0", "reason": "x", **change}
    world.tell(BindFailed(**stale))
    assert world.state_of("uid-p") is PodState.ASSUMED


def test_an_assumed_pod_lapses_after_expiry_and_grace() -> None:
    world = tight_world()
    world.pods(make_pod("p"))
    policy = world.genesis.policy
    world.tell(after_ms=policy.expires_ms + policy.grace_ms)
    assert world.state_of("uid-p") is PodState.ASSUMED
    world.tell(after_ms=1)
    assert world.state_of("uid-p") is PodState.BACKOFF
    assert placed(world.tell(after_ms=1_000)) == {"p": "n0"}


def test_a_pod_that_fits_nowhere_is_not_decided_again_by_ticks_or_by_what_cannot_help() -> None:
    world = tight_world()
    world.pods(make_pod("p", nodeSelector={"zone": "a"}))
    for _ in range(20):
        assert world.tell(after_ms=5_000).decision is None
    assert world.nodes(make_node("n1")).decision is None
    assert world.state_of("uid-p") is PodState.UNSCHEDULABLE
    assert placed(world.nodes(make_node("n2", labels={"zone": "a"}))) == {"p": "n2"}


@pytest.mark.parametrize(
    "help_", [gone("first"), PodUpserted(pod=make_pod("first", 9, phase="Succeeded", nodeName="n0"))]
)
def test_a_pod_that_fits_nowhere_comes_back_when_room_is_made(help_: Any) -> None:
    world = tight_world()
    world.pods(make_pod("first"))
    assert world.pods(make_pod("second", 2)) == {"second": None}
    assert placed(world.tell(help_, after_ms=5_000)) == {"second": "n0"}


def test_a_changed_pod_is_looked_at_again_but_a_new_version_of_the_same_is_not() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "1"}))
    assert world.pods(make_pod("p", 1, cpu="2")) == {"p": None}
    assert world.pods(make_pod("p", 2, cpu="2")) == {}
    assert world.pods(make_pod("p", 3, cpu="1")) == {"p": "n0"}


@pytest.mark.parametrize(
    "pod",
    [
        make_pod("p", schedulingGates=[{"name": "wait"}]),
        make_pod("p", schedulerName="default-scheduler"),
        make_pod("p", phase="Failed"),
        make_pod("p", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
)
def test_gated_ended_deleted_and_foreign_pods_are_not_decided(pod: Any) -> None:
    world = tight_world()
    assert world.pods(pod) == {}
    assert world.state_of("uid-p") is PodState.IDLE
    assert world.scheduler.pending == 0


def test_a_gated_pod_is_decided_once_its_gates_are_gone() -> None:
    world = tight_world()
    world.pods(make_pod("p", 1, schedulingGates=[{"name": "wait"}]))
    assert world.pods(make_pod("p", 2)) == {"p": "n0"}


def test_pods_of_other_schedulers_take_capacity_and_ended_ones_do_not() -> None:
    world = tight_world()
    world.pods(make_pod("foreign", 1, schedulerName="default-scheduler", nodeName="n0"))
    assert world.pods(make_pod("p", 2)) == {"p": None}
    other = tight_world()
    other.pods(make_pod("foreign", 1, schedulerName="default-scheduler", nodeName="n0", phase="Succeeded"))
    assert other.pods(make_pod("p", 2)) == {"p": "n0"}


@pytest.mark.parametrize("stage", ["active", "unschedulable", "assumed", "bound", "backoff"])
def test_a_pod_deleted_in_any_state_frees_what_it_holds_and_never_comes_back(stage: str) -> None:
    world = tight_world()
    if stage == "unschedulable":
        world.pods(make_pod("p", cpu="99"))
    elif stage == "active":
        world.tell(ResyncStarted(id="r"))
        world.pods(make_pod("p"))
    else:
        world.pods(make_pod("p"))
    if stage == "bound":
        world.pods(make_pod("p", 2, nodeName="n0"))
    if stage == "backoff":
        world.tell(BindFailed(uid="uid-p", sequence=1, node="n0", reason="x"))
    assert world.state_of("uid-p").name.lower() == stage
    world.tell(gone("p"))
    assert world.pods(make_pod("p", 9)) == {}
    assert world.scheduler.pods == 0
    if stage == "active":
        world.tell(NodeUpserted(node=make_node("n0", allocatable={"pods": "1"})), ResyncFinished(id="r"))
    assert world.pods(make_pod("next", 10)) == {"next": "n0"}


def test_equal_and_older_versions_change_nothing() -> None:
    world = World()
    world.nodes(make_node("n0", 7))
    world.pods(make_pod("p", 5))
    before = world.scheduler._state.root()
    world.nodes(make_node("n0", 7, allocatable={"cpu": "1"}), make_node("n0", 6, unschedulable=True))
    world.pods(make_pod("p", 5, cpu="1"), make_pod("p", 4, nodeName="elsewhere"))
    world.scheduler._state.last_ms -= 2
    assert world.scheduler._state.root() == before


def test_a_name_given_out_again_replaces_the_pod_and_the_node_that_had_it() -> None:
    world = tight_world()
    world.pods(make_pod("p", 5))
    assert world.pods(make_pod("p", 6, uid="uid-p2")) == {"p": "n0"}
    assert world.scheduler.pods == 1
    assert world.pods(make_pod("p", 4, uid="uid-p0")) == {}
    world.nodes(make_node("n0", 9, uid="uid-n0b", allocatable={"pods": "2"}))
    world.tell(NodeDeleted(name="n0", uid="uid-n0"))
    assert world.pods(make_pod("q", 10)) == {"q": "n0"}


def test_a_uid_that_is_taken_by_another_name_is_refused() -> None:
    world = tight_world()
    world.pods(make_pod("p", 5))
    applied = world.tell(PodUpserted(pod=make_pod("other", 6, uid="uid-p")))
    assert [refused.reason for refused in applied.refused] == ["uid-taken"]
    assert world.state_of("uid-p") is PodState.ASSUMED


def test_a_node_that_shrinks_below_its_use_takes_no_more_and_recovers() -> None:
    world = World()
    world.nodes(make_node("n0"))
    world.pods(*(make_pod(f"p{i}", cpu="1") for i in range(4)))
    world.nodes(make_node("n0", 2, allocatable={"cpu": "1", "pods": "2"}))
    assert world.pods(make_pod("q", cpu="100m")) == {"q": None}
    world.tell(*(gone(f"p{i}") for i in range(4)))
    assert placed(world.tell(after_ms=2_000)) == {"q": "n0"}


def test_pods_on_a_node_that_is_not_known_count_when_it_comes() -> None:
    world = World()
    world.pods(make_pod("early", 1, nodeName="n0", cpu="4"))
    world.nodes(make_node("n0"))
    assert world.pods(make_pod("p", 2, cpu="1")) == {"p": None}
    world.tell(NodeDeleted(name="n0", uid="uid-n0"))
    world.tell(gone("early"))
    assert world.nodes(make_node("n0", 3)).decision is None
    assert world.nodes(make_node("n0", 3, uid="uid-back")).decision is None
    assert placed(world.tell(after_ms=2_000)) == {"p": "n0"}


def test_after_a_full_list_what_it_did_not_name_is_gone() -> None:
    world = World()
    world.nodes(make_node("stays"), make_node("goes"))
    world.pods(make_pod("a", 1, nodeName="stays"), make_pod("b", 2, nodeName="stays"), make_pod("c", 3, cpu="99"))
    world.tell(ResyncStarted(id="r1"), PodUpserted(pod=make_pod("a", 1, nodeName="stays")))
    world.tell(NodeUpserted(node=make_node("stays")))
    assert (world.scheduler.nodes, world.scheduler.pods) == (2, 3)
    applied = world.tell(ResyncFinished(id="other"), ResyncFinished(id="r1"))
    assert [refused.reason for refused in applied.refused] == ["resync-unknown"]
    assert (world.scheduler.nodes, world.scheduler.pods, world.scheduler.pending) == (1, 1, 0)
    world.pods(make_pod("b", 4, nodeName="stays"))
    assert world.state_of("uid-b") is PodState.BOUND


def test_nothing_is_decided_on_half_a_list() -> None:
    world = World()
    world.tell(ResyncStarted(id="r"))
    world.nodes(make_node("n0", allocatable={"pods": "1"}))
    assert world.pods(make_pod("mine", 2)) == {}
    world.pods(make_pod("bound", 1, nodeName="n0"))
    assert placed(world.tell(ResyncFinished(id="r"))) == {"mine": None}


def test_a_batch_is_cut_at_512_and_the_rest_follows_with_the_next_entry() -> None:
    world = World()
    world.nodes(*(make_node(f"n{i}") for i in range(12)))
    world.tell(ResyncStarted(id="r"))
    world.tell(*(PodUpserted(pod=make_pod(f"p{i}")) for i in range(500)))
    world.tell(*(PodUpserted(pod=make_pod(f"q{i}")) for i in range(200)))
    nodes = [NodeUpserted(node=make_node(f"n{i}")) for i in range(12)]
    assert len(placed(world.tell(*nodes, ResyncFinished(id="r")))) == 512
    assert len(placed(world.tell())) == 188


def test_an_entry_from_the_future_keeps_no_pod_waiting_once_time_is_right_again() -> None:
    world = tight_world()
    world.pods(make_pod("p"), make_pod("q", cpu="99"))
    world.tell(BindFailed(uid="uid-p", sequence=1, node="n0", reason="x"), after_ms=10**12)
    world.now_ms -= 10**12
    world.tell()
    assert placed(world.tell(after_ms=world.genesis.policy.backoff_max_ms)) == {"p": "n0"}


def test_requests_resized_in_place_change_what_is_taken() -> None:
    world = World()
    world.nodes(make_node("n0"))
    world.pods(make_pod("a", 1, cpu="1", nodeName="n0"))
    world.pods(make_pod("a", 2, cpu="3", nodeName="n0"))
    assert world.pods(make_pod("p", 3, cpu="2")) == {"p": None}
    world.pods(make_pod("a", 4, cpu="2", nodeName="n0"))
    assert placed(world.tell(after_ms=2_000)) == {"p": "n0"}


def anti_affinity(**term: Any) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone", **term}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


@pytest.mark.parametrize(
    ("term", "pod", "node"),
    [
        ({}, {}, "b"),
        ({}, {"metadata": {"labels": {"app": "db"}}}, "a"),
        ({}, {"namespace": "other"}, "a"),
        ({"namespaces": ["other"]}, {"namespace": "other"}, "b"),
        ({"namespaceSelector": {}}, {"namespace": "other"}, "b"),
        ({"topologyKey": "absent"}, {}, "a"),
        ({"labelSelector": None}, {}, "a"),
        ({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}}, {}, "b"),
    ],
)
def test_running_pods_keep_the_distance_they_asked_for(term: dict[str, Any], pod: dict[str, Any], node: str) -> None:
    world = World()
    world.nodes(
        make_node("a", labels={"zone": "a"}, allocatable={"cpu": "64", "memory": "64Gi"}),
        make_node("b", labels={"zone": "b"}),
    )
    world.pods(make_pod("there", 1, nodeName="a", affinity=anti_affinity(**term)))
    wanted = {"metadata": {"labels": {"app": "web"}}, "cpu": "1", "memory": "1Gi", **pod}
    assert world.pods(make_pod("p", 2, **wanted)) == {"p": node}


def test_a_pod_kept_away_everywhere_says_why_and_comes_when_the_other_has_gone() -> None:
    world = World()
    world.nodes(make_node("a", labels={"zone": "a"}))
    world.pods(make_pod("there", 1, nodeName="a", affinity=anti_affinity()))
    applied = world.tell(PodUpserted(pod=make_pod("p", 2, metadata={"labels": {"app": "web"}})))
    assert applied.decision is not None
    assert applied.decision.leaves[0].reasons == Reason.EXISTING_ANTI_AFFINITY
    assert placed(world.tell(gone("there"), after_ms=2_000)) == {"p": "a"}


ZONE = "topology.kubernetes.io/zone"


def apart_or_together(side: str, key: str) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}
    return {"affinity": {side: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def foreign(name: str, node: str) -> PodUpserted:
    labels = {"labels": {"app": "web"}}
    return PodUpserted(pod=make_pod(name, nodeName=node, schedulerName="other", phase="Running", metadata=labels))


def test_a_pod_that_waits_for_company_comes_when_another_scheduler_brings_it() -> None:
    world = World()
    world.nodes(make_node("n0"), make_node("n1"))
    assert world.pods(make_pod("p", **apart_or_together("podAffinity", "kubernetes.io/hostname"))) == {"p": None}
    assert placed(world.tell(foreign("w", "n1"), after_ms=11_000)) == {"p": "n1"}


def test_a_pod_that_waits_for_the_emptiest_domain_to_fill_comes_when_another_scheduler_fills_it() -> None:
    world = World()
    world.nodes(make_node("n0", labels={ZONE: "a"}), make_node("n1", labels={ZONE: "b"}, unschedulable=True))
    world.tell(foreign("w", "n0"))
    spread = {"topologyKey": ZONE, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    rule = {**spread, "labelSelector": {"matchLabels": {"app": "web"}}}
    pod = make_pod("p", metadata={"labels": {"app": "web"}}, topologySpreadConstraints=[rule])
    assert world.pods(pod) == {"p": None}
    assert placed(world.tell(foreign("x", "n1"), after_ms=11_000)) == {"p": "n0"}


def test_a_node_that_goes_takes_along_what_kept_pods_away() -> None:
    world = World()
    world.nodes(make_node("n0", labels={ZONE: "a"}), make_node("n1", labels={ZONE: "a"}))
    world.tell(foreign("w", "n0"))
    assert world.pods(make_pod("p", **apart_or_together("podAntiAffinity", ZONE))) == {"p": None}
    assert placed(world.tell(NodeDeleted(name="n0", uid="uid-n0"), after_ms=11_000)) == {"p": "n1"}


def test_a_promise_that_its_pod_needs_no_more_keeps_nobody_away() -> None:
    world = World()
    world.nodes(*(make_node(name, allocatable={"cpu": "1"}) for name in ("n0", "n1")))

    def promised(version: int, host: str) -> PodUpserted:
        pod = make_pod("p", version, cpu="1", priority=10, nodeSelector={"kubernetes.io/hostname": host})
        status = msgspec.structs.replace(pod.status, nominated_node_name="n0")
        return PodUpserted(pod=msgspec.structs.replace(pod, status=status))

    assert placed(world.tell(promised(1, "nowhere"))) == {"p": None}
    assert world.pods(make_pod("q", cpu="1", nodeSelector={"kubernetes.io/hostname": "n0"})) == {"q": None}
    assert placed(world.tell(promised(2, "n1"), after_ms=11_000)) == {"p": "n1"}
    assert placed(world.tell(after_ms=11_000)) == {"q": "n0"}
