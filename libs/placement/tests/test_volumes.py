"""Pods with claims go where their volumes are, or can be made, as kube-scheduler's volume filters say."""

import random

import msgspec
import pytest
from placement_storage import ZONE, make_claim, make_class, make_limits, make_volume, random_storage, told
from placement_world import GENESIS, World, make_node, make_pod, placed, random_node, random_pod, reference_scores

from daas.placement import Scheduler
from daas.placement.integrity import verify_feasibility
from daas.placement.log import BindFailed, PersistentVolumeClaimDeleted, PodDeleted, PodGroupUpserted, PodUpserted
from daas.placement.model import Pod
from daas.placement.objects import ObjectRecord
from daas.placement.reasons import Reason, sentence


def mounting(*claims: str) -> list[dict[str, object]]:
    return [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]


def world_of(*documents: dict[str, object], nodes: int = 3) -> World:
    world = World()
    world.nodes(*(make_node(f"n{i}", labels={ZONE: "abc"[i % 3]}) for i in range(nodes)))
    world.tell(*map(told, documents))
    return world


def reasons_of(world: World, pod: Pod) -> Reason:
    decision = world.tell(PodUpserted(pod=pod)).decision
    assert decision is not None
    assert decision.leaves[0].node is None
    return Reason(decision.leaves[0].reasons)


@pytest.mark.parametrize("seed", range(80))
def test_every_pod_with_claims_goes_to_a_best_node_that_the_reference_lets_its_volumes_use(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"n{i}" for i in range(rng.randrange(2, 9))]
    nodes = [random_node(rng, name, 1) for name in names]
    storage, documents = random_storage(rng, names)
    world = World()
    world.nodes(*nodes)
    world.tell(*map(told, documents))
    on: dict[str, list[Pod]] = {}
    for batch in range(3):
        pods, claims = [], {}
        for index in range(rng.randrange(1, 7)):
            name = f"p{batch}-{index}"
            claims[name] = sorted(rng.sample([f"c{i}" for i in range(15)], rng.choice([1, 1, 2, 3])))
            pods.append(random_pod(rng, name, 1, names, volumes=mounting(*claims[name])))
        decision = world.tell(*(PodUpserted(pod=pod) for pod in pods)).decision
        assert decision is not None
        for leaf in decision.leaves:
            pod = next(pod for pod in pods if pod.metadata.name == leaf.name)
            allowed = [node for node in nodes if storage.allows(claims[leaf.name], node)]
            totals = reference_scores(pod, allowed, on)
            if not totals:
                assert leaf.node is None
                assert leaf.reasons
                continue
            assert leaf.node in totals, (leaf, totals)
            assert leaf.score == totals[leaf.node] == max(totals.values())
            on.setdefault(leaf.node, []).append(pod)
            storage.settle(claims[leaf.name], next(n for n in nodes if n.metadata.name == leaf.node))
        again = Scheduler.restore(GENESIS, world.scheduler.snapshot())
        assert again.head == world.scheduler.head
        world.scheduler = again


def test_a_bound_claim_keeps_the_pod_where_its_volume_can_be_reached() -> None:
    world = world_of(
        make_class("local"),
        make_volume("v", on="n1", claim="c", bound=True),
        make_claim("c", volumeName="v", bound=True),
    )
    assert world.pods(make_pod("p", volumes=mounting("c"))) == {"p": "n1"}


def test_a_volume_of_another_zone_is_out_of_reach() -> None:
    volume = make_volume("v", labels={ZONE: "c__b"}, claim="c", bound=True)
    world = world_of(make_class("local"), volume, make_claim("c", volumeName="v", bound=True), nodes=1)
    assert reasons_of(world, make_pod("p", volumes=mounting("c"))) == Reason.VOLUME_MISMATCH


def test_an_unbound_claim_of_an_immediate_class_waits_until_it_is_bound() -> None:
    world = world_of(make_class("now", mode="Immediate"), make_claim("c", "now"))
    found = reasons_of(world, make_pod("p", volumes=mounting("c")))
    assert found == Reason.CLAIM_UNBOUND
    assert sentence(found, 3) == "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims"
    world.tell(told(make_volume("v", "now", on="n2", claim="c", bound=True)))
    world.tell(told(make_claim("c", "now", volumeName="v", bound=True)))
    assert placed(world.tell(after_ms=2_000)) == {"p": "n2"}


def test_a_missing_claim_is_waited_for() -> None:
    world = world_of(make_class("local"))
    assert reasons_of(world, make_pod("p", volumes=mounting("c"))) == Reason.CLAIM_NOT_FOUND
    world.tell(told(make_claim("c")))
    assert list(placed(world.tell(after_ms=2_000))) == ["p"]
    assert world.tell(PersistentVolumeClaimDeleted(namespace="default", name="c")).refused == ()


def test_a_claim_that_waits_for_its_first_pod_lets_it_go_where_its_class_allows() -> None:
    zone = [{"matchLabelExpressions": [{"key": ZONE, "values": ["b"]}]}]
    world = world_of(make_class("zoned", allowedTopologies=zone), make_claim("c", "zoned"))
    assert world.pods(make_pod("p", volumes=mounting("c"))) == {"p": "n1"}


def test_a_second_pod_of_a_claim_follows_the_first_before_the_volume_is_made() -> None:
    world = world_of(make_class("local"), make_claim("c"))
    result = world.pods(*(make_pod(f"p{i}", volumes=mounting("c")) for i in range(4)))
    assert None not in result.values()
    assert len(set(result.values())) == 1


def test_a_volume_made_by_hand_is_given_out_once_and_the_smallest_that_will_do() -> None:
    world = world_of(
        make_class("by-hand", provisioner="kubernetes.io/no-provisioner"),
        make_volume("large", "by-hand", size="5Gi", on="n0"),
        make_volume("small", "by-hand", size="1Gi", on="n0"),
        make_claim("a", "by-hand"),
        make_claim("b", "by-hand", size="2Gi"),
        make_claim("c", "by-hand"),
    )
    result = world.pods(*(make_pod(name, volumes=mounting(name)) for name in "abc"))
    assert result == {"a": "n0", "b": "n0", "c": None}
    record = world.scheduler._state.pods["uid-a"]
    assert record.volumes == ((("default", "a"), "small"),)


def test_what_a_failed_bind_was_promised_is_free_again() -> None:
    world = world_of(
        make_class("by-hand", provisioner="kubernetes.io/no-provisioner"),
        make_volume("v", "by-hand", on="n0"),
        make_claim("a", "by-hand"),
        make_claim("b", "by-hand"),
    )
    assert world.pods(make_pod("a", volumes=mounting("a"))) == {"a": "n0"}
    assert world.pods(make_pod("b", volumes=mounting("b"))) == {"b": None}
    applied = world.tell(BindFailed(uid="uid-a", sequence=2, node="n0", reason="volume-not-bound"), after_ms=1)
    assert placed(applied) == {}
    assert placed(world.tell(PodDeleted(uid="uid-a", namespace="default", name="a"), after_ms=5_000)) == {"b": "n0"}


def test_a_read_write_once_pod_claim_has_one_pod_at_a_time() -> None:
    world = world_of(make_class("local"), make_claim("c", modes=["ReadWriteOncePod"]))
    result = world.pods(make_pod("a", volumes=mounting("c")), make_pod("b", volumes=mounting("c")))
    assert [name for name, node in result.items() if node] == ["a"]
    world.tell(PodDeleted(uid="uid-a", namespace="default", name="a"))
    assert list(placed(world.tell(after_ms=5_000)).values()) != [None]


def test_a_node_takes_no_more_volumes_of_a_driver_than_it_says() -> None:
    world = world_of(
        make_class("disk", provisioner="ebs"),
        make_limits("n0", ebs=2),
        *(make_claim(f"c{i}", "disk") for i in range(4)),
        nodes=1,
    )
    result = world.pods(
        make_pod("a", volumes=mounting("c0")),
        make_pod("b", volumes=mounting("c0", "c1")),
        make_pod("c", volumes=mounting("c2")),
    )
    assert result == {"a": "n0", "b": "n0", "c": None}
    assert reasons_of(world, make_pod("d", volumes=mounting("c3"))) == Reason.VOLUME_LIMIT


def test_a_generic_ephemeral_volume_waits_for_the_claim_made_for_its_pod() -> None:
    world = world_of(make_class("local"), make_claim("p-scratch"))
    pod = make_pod("p", volumes=[{"name": "scratch", "ephemeral": {}}])
    assert reasons_of(world, pod) == Reason.CLAIM_NOT_FOUND
    world.tell(told(make_claim("p-scratch", owner="uid-p")))
    assert list(placed(world.tell(after_ms=2_000))) == ["p"]


def test_pods_of_a_group_share_volumes_made_by_hand_without_giving_one_out_twice() -> None:
    world = world_of(
        make_class("by-hand", provisioner="kubernetes.io/no-provisioner"),
        make_volume("v0", "by-hand", on="n0"),
        make_volume("v1", "by-hand", on="n1"),
        *(make_claim(name, "by-hand") for name in "abc"),
    )
    world.tell(PodGroupUpserted(namespace="default", name="g", min_count=2))
    group = {"podGroupName": "g"}
    result = world.pods(*(make_pod(name, volumes=mounting(name), schedulingGroup=group) for name in "abc"))
    assert sorted(map(str, result.values())) == ["None", "n0", "n1"]


def test_a_placement_out_of_reach_of_its_volume_is_found_without_a_replay() -> None:
    documents = [
        make_class("local"),
        make_volume("v", claim="c", bound=True),
        make_claim("c", volumeName="v", bound=True),
    ]
    world = world_of(*documents, nodes=1)
    assert world.pods(make_pod("p", volumes=mounting("c"))) == {"p": "n0"}
    claim, snapshot = world.claims[-1], world.scheduler.snapshot()
    assert verify_feasibility(GENESIS, snapshot, claim.batch, claim.leaves) is None
    state = world.scheduler._state
    away = told(make_volume("v", claim="c", bound=True, on="elsewhere"))
    state.put_object(ObjectRecord(("PersistentVolume", "", "v"), away, state.epoch))
    forged = msgspec.structs.replace(claim.batch, state_root=state.root())
    world.scheduler._digest = forged.digest()
    finding = verify_feasibility(GENESIS, world.scheduler.snapshot(), forged, claim.leaves)
    assert finding is not None
    assert finding.rule == "volumes"
