"""How fast the placement engine decides and replays, and what it takes, beside the floors it is held to.

    python tests/bench/engine.py            5,000 nodes
    python tests/bench/engine.py --large    15,000 nodes too
    python tests/bench/engine.py --quick    a tenth of the pods

`decide` is the choice alone, every pod seeing the previous placement, with whatever has to be worked out for a class
that comes for the first time.
`apply` is everything: reading the entry, folding, choosing, leaves, state root, Merkle trees, header. Of the classes,
40 % carry hard topology spread or required anti-affinity. Times are of the processor, not of the clock on the wall.
"""

import argparse
import gc
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common import merkle, messages
from daas.enclave.messages import decided as message_of
from daas.placement import Claim, Decision, Genesis, Policy, Scheduler, verify
from daas.placement import scheduler as module
from daas.placement.choosing import Choice
from daas.placement.engine import Engine, Wish
from daas.placement.log import LogEntry, NodeUpserted, PodUpserted, encode_entry
from daas.placement.model import Node, Pod
from daas.placement.resources import demand
from daas.placement.runs import LEAST_PODS

GENESIS = Genesis(chain=bytes(32), registry=bytes(32), policy=Policy())
BATCH = 512
#: Decisions a second: (any mix, groups), by nodes.
FLOORS = {5_000: (9_000, 80_000), 15_000: (4_000, 60_000)}
MEMORY_FLOOR_MB = 400


#: In the order in which an entry goes through them.
PARTS = ("read", "fold", "order", "choose", "settle", "state root", "leaves")


INNER = (("read", "decode_entry"), ("fold", "fold"), ("leaves", "decisions_root"))


@contextmanager
def timed(scheduler: Scheduler) -> Iterator[dict[str, float]]:
    """Times the parts of whatever the scheduler applies meanwhile, in seconds; the rest is in none of them."""
    spent = dict.fromkeys(PARTS, 0.0)
    clock = time.perf_counter

    def wrap(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **options: Any) -> Any:
            started = clock()
            try:
                return function(*arguments, **options)
            finally:
                spent[part] += clock() - started

        return measured

    def choices(choose: Callable[..., Iterator[Choice]]) -> Callable[..., Iterator[Choice]]:
        def measured(*arguments: Any) -> Iterator[Choice]:
            made = choose(*arguments)
            while True:
                started = clock()
                choice = next(made, None)
                spent["choose"] += clock() - started
                if choice is None:
                    return
                yield choice

        return measured

    patched: list[tuple[Any, str, Callable[..., Any]]] = [
        *((module, name, wrap(part, getattr(module, name))) for part, name in INNER),
        (scheduler._state.kinds, "read", wrap("read", scheduler._state.kinds.read)),
        (scheduler._state, "root", wrap("state root", scheduler._state.root)),
        (scheduler, "_order", wrap("order", scheduler._order)),
        (scheduler, "_settle", wrap("settle", scheduler._settle)),
        (scheduler._chooser, "each", choices(scheduler._chooser.each)),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in patched]
    for where, name, function in patched:
        setattr(where, name, function)
    try:
        yield spent
    finally:
        for where, name, function in before:
            setattr(where, name, function)


def node(rng: random.Random, index: int) -> Node:
    document = {
        "metadata": {
            "name": f"node-{index:05}",
            "uid": f"node-{index}",
            "resourceVersion": "1",
            "labels": {
                "kubernetes.io/hostname": f"node-{index:05}",
                "topology.kubernetes.io/zone": f"zone-{index % 6}",
                "disk": rng.choice(["ssd", "hdd"]),
            },
        },
        "status": {
            "allocatable": {
                "cpu": str(rng.choice([16, 32, 64])),
                "memory": f"{rng.choice([64, 128, 256])}Gi",
                "pods": "250",
            }
        },
    }
    return msgspec.convert(document, Node)


def template(rng: random.Random, name: str) -> dict[str, Any]:
    """The spec and labels of one class of pods."""
    spec: dict[str, Any] = {
        "schedulerName": "k3s-daas",
        "containers": [
            {
                "name": "main",
                "resources": {
                    "requests": {"cpu": f"{rng.randrange(10, 500)}m", "memory": f"{rng.randrange(16, 900)}Mi"}
                },
            }
        ],
    }
    if rng.random() < 0.3:
        spec["nodeSelector"] = {"disk": rng.choice(["ssd", "hdd"])}
    kind = rng.random()
    selector = {"matchLabels": {"app": name}}
    if kind < 0.2:
        spec["topologySpreadConstraints"] = [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": selector,
            }
        ]
    elif kind < 0.4:
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    return {"labels": {"app": name}, "spec": spec}


def claim_of(decision: Decision) -> Claim:
    return Claim(
        batch=decision.batch,
        leaves=decision.leaves,
        timestamp_ms=decision.timestamp_ms,
        preemptions=decision.preemptions,
    )


class Cluster:
    """A scheduler with nodes, and pods made to order."""

    def __init__(self, nodes: int, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.scheduler = Scheduler(GENESIS)
        self.entries: list[bytes] = []
        self.claims: list[Claim] = []
        self.made = 0
        self.now_ms = 1_000_000
        made = [node(self.rng, index) for index in range(nodes)]
        for start in range(0, nodes, BATCH):
            self.tell([NodeUpserted(node=one) for one in made[start : start + BATCH]])

    def tell(self, events: list[Any]) -> int:
        self.now_ms += 1
        entry = encode_entry(LogEntry(timestamp_ms=self.now_ms, source="bench", events=tuple(events)))
        return self.fold(entry)

    def fold(self, entry: bytes) -> int:
        self.entries.append(entry)
        decision = self.scheduler.apply(len(self.entries), entry).decision
        if decision is None:
            return 0
        self.claims.append(claim_of(decision))
        return len(decision.leaves)

    def pod(self, made: dict[str, Any], node_name: str = "") -> PodUpserted:
        self.made += 1
        document = {
            "metadata": {
                "name": f"pod-{self.made}",
                "namespace": "default",
                "uid": f"00000000-0000-0000-0000-{self.made:012}",
                "resourceVersion": str(self.made),
                "labels": made["labels"],
            },
            "spec": {**made["spec"], "nodeName": node_name},
            "status": {"phase": "Running" if node_name else "Pending"},
        }
        return PodUpserted(pod=msgspec.convert(document, Pod))


def pending(cluster: Cluster, order: list[dict[str, Any]]) -> list[bytes]:
    """Entries of full batches that bring these pods."""
    entries = []
    for start in range(0, len(order), BATCH):
        cluster.now_ms += 1
        events = tuple(cluster.pod(made) for made in order[start : start + BATCH])
        entries.append(encode_entry(LogEntry(timestamp_ms=cluster.now_ms, source="bench", events=events)))
    return entries


def apply_rate(cluster: Cluster, order: list[dict[str, Any]], warm: int = 0) -> float:
    """The whole of `apply`; the first `warm` pods are not timed."""
    for entry in pending(cluster, order[:warm]):
        cluster.fold(entry)
    entries = pending(cluster, order[warm:])
    started = time.process_time()
    decided = sum(cluster.fold(entry) for entry in entries)
    return decided / (time.process_time() - started)


def decide_rate(cluster: Cluster, order: list[dict[str, Any]], warm: int) -> float:
    """Choices alone, on a copy of the cluster; the first `warm` pods are not timed."""
    state = Scheduler.restore(GENESIS, cluster.scheduler.snapshot())._state
    engine = Engine(GENESIS.policy, state.neighbours)
    engine.sync(state)
    wishes: dict[int, Wish] = {}
    for made in order:
        if id(made) not in wishes:
            pod = cluster.pod(made).pod
            profile = state.kinds.profiles.of(pod)
            coupling = state.neighbours.coupling(profile, state.objects, 1)
            wishes[id(made)] = Wish(state.kinds.classes.of(pod, demand(pod)), profile, coupling)
    queue = [wishes[id(made)] for made in order]
    engine.begin(7)
    for wish in queue[:warm]:
        engine.choose(wish)
    started = time.process_time()
    for start in range(warm, len(queue), BATCH):
        engine.begin(start)
        for _, alike in groupby(queue[start : start + BATCH], key=id):
            run = list(alike)
            wish = run[0]
            if len(run) >= LEAST_PODS and engine.can_run(wish):
                engine.choose_many(run)
            else:
                for one in run:
                    engine.choose(one)
    return (len(queue) - warm) / (time.process_time() - started)


def orders(rng: random.Random, count: int) -> dict[str, tuple[list[dict[str, Any]], bool]]:
    """Workloads by name: the pods in order, and whether they come in groups."""

    def classes(number: int) -> list[dict[str, Any]]:
        return [template(rng, f"app-{rng.randrange(10**9)}") for _ in range(number)]

    few, many = classes(200), classes(500)
    grouped = [made for made in classes(max(count // 128, 1)) for _ in range(128)]
    single = template(random.Random(3), "single")
    single["spec"].pop("affinity", None)
    single["spec"].pop("topologySpreadConstraints", None)
    return {
        "200 classes, mixed": ([rng.choice(few) for _ in range(count)], False),
        "500 classes, mixed": ([rng.choice(many) for _ in range(count)], False),
        "groups of 128": (grouped[:count], True),
        "one class": ([single] * count, True),
    }


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def line(name: str, rate: float, floor: float) -> None:
    print(f"{name:44} {rate:12,.0f} /s   floor {floor:9,.0f}   x{rate / floor:.2f}")


def breakdown(cluster: Cluster, name: str, order: list[dict[str, Any]]) -> None:
    """Prints what each part of `apply` takes of a pod's time, in microseconds of this processor."""
    entries = pending(cluster, order)
    started, clock = time.process_time(), time.perf_counter()
    with timed(cluster.scheduler) as spent:
        decided = sum(cluster.fold(entry) for entry in entries)
    used, clock = time.process_time() - started, time.perf_counter() - clock
    parts = {part: spent[part] / clock * used / decided * 1e6 for part in PARTS}
    parts["rest"] = used / decided * 1e6 - sum(parts.values())
    print(f"   {name}, µs/pod: " + ", ".join(f"{part} {value:.1f}" for part, value in parts.items()))


def decide_and_replay(entries: list[bytes], claims: list[Claim]) -> tuple[float, float]:
    """Processor seconds for deciding a log and for verifying what was decided, each in new schedulers, by turns.

    Both keep the claims in memory; of each the best of three is taken.
    """
    log = list(enumerate(entries, 1))
    deciding, replaying = [], []
    for _ in range(3):
        gc.collect()
        started = time.process_time()
        scheduler = Scheduler(GENESIS)
        made = [scheduler.apply(sequence, entry).decision for sequence, entry in log]
        again = [claim_of(decision) for decision in made if decision is not None]
        deciding.append(time.process_time() - started)
        assert again == claims
        del scheduler, made, again
        gc.collect()
        started = time.process_time()
        verdict = verify(GENESIS, None, log, claims)
        replaying.append(time.process_time() - started)
        assert verdict.equal, verdict.difference
    return min(deciding), min(replaying)


def measure(nodes: int, count: int, results: dict[str, float]) -> None:
    mixed_floor, grouped_floor = FLOORS[nodes]
    cluster = Cluster(nodes)
    for name, (order, grouped) in orders(cluster.rng, count).items():
        floor = grouped_floor if grouped else mixed_floor
        rate = decide_rate(cluster, order, len(order) // 4)
        results[f"{nodes} decide {name}"] = rate
        line(f"{nodes} nodes, decide: {name}", rate, floor)
        warm = 0 if grouped else len(order) // 4
        rate = apply_rate(cluster, order, warm)
        results[f"{nodes} apply {name}"] = rate
        line(f"{nodes} nodes, apply:  {name}", rate, floor)
    deciding, replaying = decide_and_replay(cluster.entries, cluster.claims)
    leaves = sum(len(claim.leaves) for claim in cluster.claims)
    results[f"{nodes} replay"], results[f"{nodes} replay beside"] = leaves / replaying, leaves / deciding
    line(f"{nodes} nodes, replay of all of it, beside deciding it", leaves / replaying, leaves / deciding)
    for name, (order, _) in orders(cluster.rng, count // 2).items():
        breakdown(cluster, name, order)


class Key:
    """What `daas.enclave.messages` signs with, without a security module."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def encode_share(results: dict[str, float]) -> None:
    """The share of hashing and encoding leaves and header, signing and writing the message, in a full batch's time."""
    cluster, key, rounds = Cluster(5_000), Key(), 8
    made = [template(cluster.rng, f"share-{index % 40}") for index in range(40)]
    batches = [[cluster.pod(made[index % 40]) for index in range(BATCH)] for _ in range(rounds + 1)]
    cluster.tell(batches.pop())
    started = time.process_time()
    for events in batches:
        cluster.tell(events)
    whole = time.process_time() - started
    decisions = [
        Decision(batch=claim.batch, leaves=claim.leaves, timestamp_ms=claim.timestamp_ms)
        for claim in cluster.claims[-rounds:]
    ]
    started = time.process_time()
    for decision in decisions:
        merkle.root([leaf.to_bcs() for leaf in decision.leaves])
        decision.batch.digest()
    hashed = time.process_time() - started
    started = time.process_time()
    for decision in decisions:
        messages.encode(message_of(decision, None, key, simulated=True))  # type: ignore[arg-type] # signs like an identity
    signed = time.process_time() - started
    results["encode share"] = (hashed + signed) / (whole + signed)
    what = f"hash {hashed / rounds * 1e3:.1f} ms, sign and encode {signed / rounds * 1e3:.1f} ms of a full batch"
    print(f"{what:44} {results['encode share']:12.1%}   limit  5.0%")


def memory(nodes: int, bound: int, results: dict[str, float]) -> None:
    cluster = Cluster(nodes)
    made = [template(cluster.rng, f"bound-{index}") for index in range(300)]
    for start in range(0, bound, BATCH):
        cluster.tell(
            [
                cluster.pod(made[index % 300], f"node-{index % nodes:05}")
                for index in range(start, min(start + BATCH, bound))
            ]
        )
        cluster.entries[-1] = b""
    few = made[:100]
    apply_rate(cluster, [cluster.rng.choice(few) for _ in range(1024)])
    rate = apply_rate(cluster, [cluster.rng.choice(few) for _ in range(2048)])
    results[f"{nodes} apply beside {bound} bound"] = rate
    line(f"{nodes} nodes, apply beside {bound:,} bound pods", rate, FLOORS[nodes][0])
    results[f"{nodes} memory MB"] = peak_mb()
    print(f"{'peak memory of this process':44} {peak_mb():12,.0f} MB   limit {MEMORY_FLOOR_MB:9,.0f}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="15,000 nodes too")
    parser.add_argument("--memory", action="store_true", help="only memory, at 15,000 nodes and 150,000 bound pods")
    parser.add_argument("--quick", action="store_true", help="a tenth of the pods")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object on the last line")
    options = parser.parse_args(arguments)
    results: dict[str, float] = {}
    steps: list[Callable[[], None]] = []
    count = 1_024 if options.quick else 6_144
    if options.memory:
        steps.append(partial(memory, 15_000, 15_000 if options.quick else 150_000, results))
    else:
        sizes = (5_000, 15_000) if options.large else (5_000,)
        steps += [partial(measure, size, count, results) for size in sizes]
        steps.append(partial(encode_share, results))
    for step in steps:
        step()
    if options.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
