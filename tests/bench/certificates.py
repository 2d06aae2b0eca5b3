"""Sizes and verification times of certificates: optimality and load balancing over synthetic clusters.

Run: `python tests/bench/certificates.py [--quick] [--integer-ms N]`. Times are of one core.
"""

import argparse
import random
import sys
import time

import msgspec

from daas.placement.allocation import Cluster, Effort, Objective, Running, build_model, plan_model, verify_against
from daas.placement.model import Node, Pod

#: (pods, nodes) as the documentation's table has them.
SIZES = ((200, 50), (2_000, 500), (10_000, 500), (10_000, 2_000))
LOADS = (80, 110)
MIB = 1 << 20


def make_cluster(pods: int, nodes: int, load_percent: int, *, classes: int = 60, seed: int = 1) -> Cluster:
    """Pods of `classes` kinds that ask for `load_percent` of the CPU that nodes of four kinds, half used, have left."""
    rng = random.Random(seed)
    zones = ("a", "b", "c")
    node_list, running, free_cpu = [], [], 0
    for n in range(nodes):
        cores, gib = rng.choice(((4, 16), (8, 32), (16, 32), (16, 64)))
        used = rng.randrange(0, cores * 700, 50)
        free_cpu += cores * 1000 - used
        name = f"node-{n:05d}"
        taints = [{"key": "spot", "effect": "PreferNoSchedule"}] if rng.random() < 0.2 else []
        node_list.append(
            msgspec.convert(
                {
                    "metadata": {
                        "name": name,
                        "uid": f"uid-{name}",
                        "resourceVersion": "1",
                        "labels": {"zone": rng.choice(zones), "disk": rng.choice(("ssd", "hdd"))},
                    },
                    "spec": {"taints": taints},
                    "status": {"allocatable": {"cpu": str(cores), "memory": f"{gib}Gi", "pods": "110"}},
                },
                Node,
            )
        )
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


def make_kind(rng: random.Random, zones: tuple[str, ...]) -> tuple[int, int, dict[str, object]]:
    spec: dict[str, object] = {}
    draw = rng.random()
    if draw < 0.3:
        spec["nodeSelector"] = {"zone": rng.choice(zones)}
    elif draw < 0.6:
        term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
        spec["affinity"] = {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": rng.randrange(1, 101), "preference": term}
                ]
            }
        }
    if rng.random() < 0.3:
        spec["tolerations"] = [{"key": "spot", "operator": "Exists"}]
    return rng.choice((100, 200, 250, 500, 1000, 1500, 2000)), rng.choice((128, 256, 512, 1024, 2048, 4096)), spec


def make_pod(name: str, requests: dict[str, str], spec: dict[str, object]) -> Pod:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "bench", "uid": f"uid-{name}", "resourceVersion": "1"},
            "spec": {"containers": [{"name": "main", "resources": {"requests": requests}}], **spec},
        },
        Pod,
    )


def measure(pods: int, nodes: int, load_percent: int, effort: Effort) -> None:
    cluster = make_cluster(pods, nodes, load_percent)
    begin = time.perf_counter()
    model = build_model(cluster, Objective())
    built = time.perf_counter()
    outcome = plan_model(model, effort)
    planned = time.perf_counter()
    certificate = outcome.certificate
    times = []
    for _ in range(3):
        start = time.perf_counter()
        verdict = verify_against(model, certificate)
        times.append(time.perf_counter() - start)
    prices = msgspec.structs.replace(certificate, places=())
    print(
        f"{pods:6d} x {nodes:4d}  {load_percent / 100:.1f}  {len(model.pods):3d}  {(built - begin) * 1e3:6.0f}  "
        f"{planned - built:7.2f}  {min(times) * 1e3:7.1f}  {len(certificate.to_bcs()):8d}  {len(certificate.pack()):7d}  "
        f"{len(prices.pack()):7d}  {verdict.placed:6d}  {verdict.gap_ppm:7d}  "
        + "  ".join(f"{name} {(verdict.bound - value) * 1_000_000 // verdict.bound}" for name, value in outcome.found),
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the two smaller sizes only")
    parser.add_argument("--integer-ms", type=int, default=0, help="time budget of an integer search")
    options = parser.parse_args()
    print(
        "pods x nodes   load classes model_ms  plan_s  verify_ms   bytes  deflated  prices  placed  gap_ppm  by method"
    )
    for pods, nodes in SIZES[: 2 if options.quick else None]:
        for load in LOADS:
            measure(pods, nodes, load, Effort(integer_ms=options.integer_ms))
    return 0


if __name__ == "__main__":
    sys.exit(main())
