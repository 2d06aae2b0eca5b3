"""The profile of kube-scheduler 1.36 scores how a pod changes a node's balance; held to a naive count in fractions."""

import random
from fractions import Fraction

import msgspec
import pytest
from placement_world import GENESIS, World, make_node, make_pod

from daas.placement import Policy
from daas.placement.log import PodUpserted
from daas.placement.policy import PROFILE_BALANCE_CHANGE
from daas.placement.scores_of_one import balance_change

LATER = msgspec.structs.replace(GENESIS, policy=Policy(profile=PROFILE_BALANCE_CHANGE))


def naive_balance(cpu: int, cpu_all: int, memory: int, memory_all: int) -> int:
    """100 less the standard deviation of the two used shares, in percent."""
    first, second = (min(Fraction(used, room), Fraction(1)) for used, room in ((cpu, cpu_all), (memory, memory_all)))
    return int((1 - abs(first - second) / 2) * 100)


@pytest.mark.parametrize(
    ("with_pod", "without", "score"), [(80, 80, 75), (100, 50, 100), (50, 100, 50), (60, 80, 65), (81, 80, 75)]
)
def test_a_change_of_balance_is_scored_around_75(with_pod: int, without: int, score: int) -> None:
    assert balance_change(with_pod, without, asks=True) == score
    assert balance_change(with_pod, without, asks=False) == 0


@pytest.mark.parametrize("seed", range(12))
def test_every_node_is_scored_by_how_the_pod_would_change_it(seed: int) -> None:
    rng = random.Random(seed)
    world = World(LATER)
    sizes = {f"n{i}": (rng.choice([2, 4, 8]), rng.choice([2, 4, 8])) for i in range(6)}
    used = {name: (rng.randrange(0, 900, 100), rng.randrange(0, 900, 100)) for name in sizes}
    world.nodes(*(make_node(n, allocatable={"cpu": str(c), "memory": f"{m}Gi"}) for n, (c, m) in sizes.items()))
    world.tell(
        *(
            PodUpserted(pod=make_pod(f"on-{n}", cpu=f"{c}m", memory=f"{m}Mi", nodeName=n, phase="Running"))
            for n, (c, m) in used.items()
        )
    )
    cpu, memory = rng.choice([100, 500, 1000]), rng.choice([100, 512, 1024])
    world.pods(make_pod("first", cpu=f"{cpu}m", memory=f"{memory}Mi", nodeSelector={"none": "x"}))
    pod = make_pod("p", cpu=f"{cpu}m", memory=f"{memory}Mi")
    decision = world.tell(PodUpserted(pod=pod)).decision
    assert decision is not None
    chosen = decision.leaves[0]
    totals = {}
    for name, (cores, gigas) in sizes.items():
        room = cores * 1000, gigas * 1024
        before = used[name]
        after = before[0] + cpu, before[1] + memory
        least = sum(max(room[i] - after[i], 0) * 100 // room[i] for i in (0, 1)) // 2
        change = naive_balance(after[0], room[0], after[1], room[1]) - naive_balance(
            before[0], room[0], before[1], room[1]
        )
        totals[name] = least + 50 + (50 + change) // 2 + 300
    assert abs(chosen.score - totals[str(chosen.node)]) <= 1, "rounding of shares to ten-thousandths may cost one"
    assert totals[str(chosen.node)] >= max(totals.values()) - 1
