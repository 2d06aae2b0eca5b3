"""Sizes and verification times of certificates: optimality, load balancing and policy over synthetic clusters.

Run: `python tests/bench/certificates.py [--quick] [--integer-ms N]`. Times are CPU time of one core.
"""

import argparse
import random
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from daas.placement.allocation import Cluster, Effort, Objective, Running, build_model, plan_model, verify_against
from daas.placement.balance import Book, RebalancePolicy, Situation, plan, verify, verify_moves
from daas.placement.model import Node, Pod
from daas.policy import AccessRequest, Address, Evaluator, PolicySet, ResourceClass

T = TypeVar("T")

#: (pods, nodes), and the CPU they ask for in percent of what is free.
SIZES = ((200, 50), (2_000, 500), (10_000, 500), (10_000, 2_000))
LOADS = (80, 110)


def make_node(
    name: str, resources: Mapping[str, str], labels: Mapping[str, str] | None = None, taints: tuple[Any, ...] = ()
) -> Node:
    return msgspec.convert(
        {
            "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "labels": labels or {}},
            "spec": {"taints": taints},
            "status": {"allocatable": resources},
        },
        Node,
    )


def make_pod(
    name: str, requests: Mapping[str, str], spec: Mapping[str, Any], meta: Mapping[str, Any] | None = None
) -> Pod:
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "bench",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                **(meta or {}),
            },
            "spec": {"containers": [{"name": "main", "resources": {"requests": requests}}], **spec},
        },
        Pod,
    )


def make_cluster(pods: int, nodes: int, load_percent: int, *, classes: int = 60, seed: int = 1) -> Cluster:
    """Pods of `classes` kinds that ask for `load_percent` of the CPU that nodes of four kinds, part used, have left."""
    rng = random.Random(seed)
    zones = ("a", "b", "c")
    node_list, running, free_cpu = [], [], 0
    for n in range(nodes):
        cores, gib = rng.choice(((4, 16), (8, 32), (16, 32), (16, 64)))
        used = rng.randrange(0, cores * 700, 50)
        free_cpu += cores * 1000 - used
        name = f"node-{n:05d}"
        labels = {"zone": rng.choice(zones), "disk": rng.choice(("ssd", "hdd"))}
        taints = ({"key": "spot", "effect": "PreferNoSchedule"},) if rng.random() < 0.2 else ()
        resources = {"cpu": str(cores), "memory": f"{gib}Gi", "pods": "110"}
        node_list.append(make_node(name, resources, labels, taints))
        if used:
            requests = {"cpu": f"{used}m", "memory": f"{rng.randrange(64, gib * 512)}Mi"}
            running.append(Running(node=name, pod=make_pod(f"used-{n:05d}", requests, {})))
    kinds = [make_kind(rng, zones) for _ in range(classes)]
    weights = [rng.random() for _ in kinds]
    picked = rng.choices(range(classes), weights, k=pods)
    asked = sum(kinds[kind][0] for kind in picked)
    pending = []
    for p, kind in enumerate(picked):
        cpu, mib, spec = kinds[kind]
        scaled = max(10, cpu * free_cpu * load_percent // 100 // asked // 10 * 10)
        pending.append(make_pod(f"pod-{p:05d}", {"cpu": f"{scaled}m", "memory": f"{mib}Mi"}, spec))
    return Cluster.of(node_list, running, pending)


def make_kind(rng: random.Random, zones: tuple[str, ...]) -> tuple[int, int, dict[str, Any]]:
    """CPU in milli-cores before scaling, memory in MiB, and what else a kind of pods asks for."""
    spec: dict[str, Any] = {}
    draw = rng.random()
    if draw < 0.3:
        spec["nodeSelector"] = {"zone": rng.choice(zones)}
    elif draw < 0.6:
        term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
        preferred = [{"weight": rng.randrange(1, 101), "preference": term}]
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    if rng.random() < 0.3:
        spec["tolerations"] = [{"key": "spot", "operator": "Exists"}]
    return rng.choice((100, 200, 250, 500, 1000, 1500, 2000)), rng.choice((128, 256, 512, 1024, 2048, 4096)), spec


def measure(pods: int, nodes: int, load_percent: int, effort: Effort) -> None:
    cluster = make_cluster(pods, nodes, load_percent)
    begin = time.process_time()
    model = build_model(cluster, Objective())
    built = time.process_time()
    outcome = plan_model(model, effort)
    planned = time.process_time()
    certificate = outcome.certificate
    verdict, verify_ms = best_ms(lambda: verify_against(model, certificate))
    prices = msgspec.structs.replace(certificate, places=())
    ways = "  ".join(f"{name} {(verdict.bound - value) * 100 / verdict.bound:.3f}" for name, value in outcome.found)
    print(
        f"{pods:6d} x {nodes:4d}  {load_percent / 100:.1f} {len(model.pods):8d} {(built - begin) * 1e3:9.0f} "
        f"{planned - built:7.2f} {verify_ms:10.1f} {len(certificate.to_bcs()):7d} {len(certificate.pack()):9d} "
        f"{len(prices.pack()):7d} {verdict.placed:7d} {verdict.gap * 100 / verdict.bound:8.3f}  {ways}",
        flush=True,
    )


def best_ms(look: Callable[[], T]) -> tuple[T, float]:
    """What `look` returns, and the shortest of three times it took."""
    times = []
    for _ in range(3):
        start = time.process_time()
        seen = look()
        times.append(time.process_time() - start)
    return seen, min(times) * 1e3


def make_lopsided(pods: int, nodes: int) -> Cluster:
    """Equal nodes, and pods of ReplicaSets of five that crowd towards the first of them."""
    rng = random.Random(1)
    resources = {"cpu": "32", "memory": "128Gi", "pods": "250"}
    names = [f"node-{n:05d}" for n in range(nodes)]
    running = []
    for p in range(pods):
        requests = {"cpu": f"{rng.choice((100, 250, 500, 1000))}m", "memory": f"{rng.choice((128, 256, 512, 1024))}Mi"}
        owner = {"kind": "ReplicaSet", "name": f"set-{p // 5}", "controller": True}
        pod = make_pod(f"pod-{p:05d}", requests, {}, {"ownerReferences": [owner]})
        running.append(Running(node=names[int(rng.random() ** 1.5 * nodes)], pod=pod))
    return Cluster.of((make_node(name, resources) for name in names), running)


def measure_rebalance(cluster: Cluster, moves: int) -> None:
    policy = RebalancePolicy(max_moves=moves, max_per_node=100, max_per_owner=5, min_gain_ppb=0)
    situation = Situation(cluster=cluster, policy=policy)
    begin = time.process_time()
    made = plan(situation)
    planned = time.process_time()
    balance, whole_ms = best_ms(lambda: verify(situation, made))
    books = [Book(situation) for _ in range(3)]
    _, moves_ms = best_ms(lambda: verify_moves(books.pop(), made))
    print(
        f"{len(cluster.running):6d} x {len(cluster.nodes):4d} {balance.moves:6d} {planned - begin:7.2f} "
        f"{whole_ms:10.0f} {moves_ms:9.1f} {len(made.to_bcs()):7d} {len(zlib.compress(made.to_bcs(), 9)):9d} "
        f"{balance.closed_ppm / 1e4:9.2f}",
        flush=True,
    )


POLICIES = """
@id("read") permit(principal in K3s::Tier::"member", action in K3s::Action::"read", resource is K3s::Resource)
unless { resource.resource == "secrets" };
@id("write") permit(principal, action in K3s::Action::"write", resource in K3s::Namespace::"shared")
when { principal.stake >= 50 };
@id("node") permit(principal is K3s::Node, action == K3s::Action::"get", resource is K3s::Resource)
when { resource.resource == "secrets" && principal.stake >= 1000 };
@id("metrics") permit(principal, action == K3s::Action::"get", resource == K3s::Path::"/metrics");
@id("sealed") forbid(principal, action, resource is K3s::Resource) when { resource has sealPolicy }
unless { principal in K3s::Tier::"guardian" };
"""


def measure_policy(more: int, questions: int = 2_000) -> None:
    extra = "".join(
        f'@id("p{n}") permit(principal, action, resource in K3s::Namespace::"n{n}") when {{ principal.stake > {n} }};'
        for n in range(more)
    )
    policies = PolicySet.load(1, {"base": POLICIES, "more": extra})
    evaluator = Evaluator(policies)
    address = "0x" + "ab" * 32
    asked = [
        AccessRequest(
            principal=Address(address=address, stake_sui=stake),
            verb="list",
            target=ResourceClass(resource="pods", namespace="shared"),
        )
        for stake in range(questions)
    ]
    rates = []
    for _ in range(2):
        begin = time.process_time()
        for request in asked:
            evaluator.answer(request)
        rates.append(questions / (time.process_time() - begin))
    print(f"{len(policies.ids):8d} {rates[0]:13.0f} {rates[1]:13.0f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smaller sizes only")
    parser.add_argument("--integer-ms", type=int, default=0, help="time budget of an integer search")
    options = parser.parse_args()
    print("Optimality: gaps in percent of the bound, in total and of each way of looking")
    print("pods x nodes   load  classes  model_ms  plan_s  verify_ms   bytes  deflated  prices  placed      gap  ways")
    for pods, nodes in SIZES[: 2 if options.quick else None]:
        for load in LOADS:
            measure(pods, nodes, load, Effort(integer_ms=options.integer_ms))
    print("\nLoad balancing: closed is how much of the distance to the floor the moves close, in percent")
    print("pods x nodes   moves  plan_s  verify_ms  moves_ms   bytes  deflated    closed")
    lopsided = make_lopsided(*((2_000, 100) if options.quick else (20_000, 1_000)))
    for moves in (200, 1_000, 4_000):
        measure_rebalance(lopsided, moves)
    print("\nPolicy\npolicies   evaluated/s  remembered/s")
    for more in (0, 100):
        measure_policy(more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
