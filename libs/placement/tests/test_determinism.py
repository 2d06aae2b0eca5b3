"""Equal logs and equal states give equal bytes, whatever numpy, whatever order, whatever was seen before."""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_floods import flood, one_by_one
from placement_simulator import Simulator, digest_of_run
from placement_world import GENESIS, World, make_node, make_pod, random_node

from daas.placement import Scheduler
from daas.placement.errors import EventError, QuantityError
from daas.placement.kinds import PodKinds, PodVersion
from daas.placement.log import PodUpserted
from daas.placement.profile import Profile
from daas.placement.runs import Run
from daas.placement.view import View

#: A series of releases before the one that is installed, with wheels for the same interpreters.
OTHER_NUMPY = "2.2.6"


@pytest.fixture(scope="module")
def other_numpy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds another numpy; skips where no registry or cache has it."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        pytest.skip("uv is not there to install another numpy with")
    target = tmp_path_factory.mktemp("numpy")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--python", sys.executable]
    try:
        done = subprocess.run(
            [*command, "--target", str(target), f"numpy=={OTHER_NUMPY}"], capture_output=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"numpy {OTHER_NUMPY} could not be fetched within a minute")
    if done.returncode:
        pytest.skip(f"numpy {OTHER_NUMPY} is neither cached nor to be fetched: {done.stderr.decode()[-200:]}")
    return target


def test_two_versions_of_numpy_reach_the_same_head(other_numpy: Path) -> None:
    assert np.__version__ != OTHER_NUMPY
    program = (
        "import numpy; from placement_simulator import digest_of_run; print(numpy.__version__, digest_of_run(7, 120))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": os.pathsep.join((str(other_numpy), str(Path(__file__).parent / "support")))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [OTHER_NUMPY, digest_of_run(7, 120)]


@pytest.mark.parametrize("seed", [31, 32])
def test_a_snapshot_read_in_any_order_goes_on_to_the_same_bytes(seed: int) -> None:
    simulator = Simulator(seed)
    for _ in range(60):
        simulator.step()
    whole = simulator.world.scheduler
    document = msgspec.msgpack.decode(whole.snapshot())
    rng = random.Random(seed)
    for part in document:
        if isinstance(part, list) and part and isinstance(part[0], list):
            rng.shuffle(part)
    other = Scheduler.restore(GENESIS, msgspec.msgpack.encode(document))
    assert other.head == whole.head
    assert other.snapshot() == whole.snapshot()
    world = simulator.world
    for _ in range(40):
        applied = simulator.step()
        again = other.apply(len(world.entries), world.entries[-1])
        assert again == applied
        assert other.head == world.scheduler.head


@settings(deadline=None, max_examples=40)  # each case runs two schedulers
@given(st.integers(0, 2**32))
def test_pods_placed_in_one_go_go_where_they_would_go_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    other = one_by_one(Scheduler(GENESIS))
    nodes = [
        make_node(
            f"n{index}",
            allocatable={"cpu": str(rng.choice([1, 4, 9])), "memory": f"{rng.choice([2, 8])}Gi", "pods": "9"},
            taints=[{"key": "k", "effect": "NoSchedule"}] if rng.random() < 0.2 else [],
        )
        for index in range(rng.choice([1, 5, 17]))
    ]
    world.nodes(*nodes)
    kinds = [(f"{rng.randrange(1, 1500)}m", f"{rng.randrange(1, 2000)}Mi") for _ in range(rng.choice([1, 2, 5, 20]))]
    for version in range(1, 4):
        pods = []
        for index in range(rng.choice([4, 60])):
            cpu, memory = rng.choice(kinds)
            pods.append(make_pod(f"p{version}-{index}", version, cpu=cpu, memory=memory))
        world.pods(*pods)
        world.tell()
    for sequence, entry in enumerate(world.entries, 1):
        other.apply(sequence, entry)
    assert other.head == world.scheduler.head
    assert other.head.sequence > 0


@settings(deadline=None, max_examples=60)  # each case runs two schedulers
@given(st.integers(0, 2**32))
def test_runs_of_pods_that_keep_apart_go_where_they_would_go_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    world, other = World(), one_by_one(Scheduler(GENESIS))
    world.nodes(*(random_node(rng, f"n{index}", 1) for index in range(rng.choice([3, 12, 40, 150]))))
    made = 0
    for number in range(4):
        templates = flood(rng, number) + flood(rng, number)
        pods = []
        for template in templates:
            made += 1
            meta = msgspec.structs.replace(template.metadata, name=f"p{made}", uid=f"u{made}")
            pods.append(msgspec.structs.replace(template, metadata=meta))
        world.pods(*pods)
        world.tell(after_ms=rng.choice([1, 3_000]))
    for sequence, entry in enumerate(world.entries, 1):
        other.apply(sequence, entry)
    assert other.head == world.scheduler.head
    assert other.head.sequence > 0


SPREAD = {
    "topologySpreadConstraints": [
        {
            "topologyKey": "topology.kubernetes.io/zone",
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }
    ]
}
APART = {
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
            ]
        }
    }
}


@pytest.mark.parametrize("rules", [{}, SPREAD, APART, SPREAD | APART])
def test_a_group_of_pods_is_placed_in_one_run_even_where_its_pods_keep_apart(
    rules: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []

    def place(self: Run, view: View, profile: Profile, count: int) -> list[tuple[int, int]]:
        chosen = _place(self, view, profile, count)
        runs.append(len(chosen))
        return chosen

    _place = Run.place
    monkeypatch.setattr(Run, "place", place)
    world = World()
    world.nodes(*(make_node(f"n{i:02}", labels={"topology.kubernetes.io/zone": f"z{i % 3}"}) for i in range(30)))
    template: dict[str, Any] = {"cpu": "10m", "metadata": {"labels": {"app": "web"}}, **rules}
    placed = world.pods(*(make_pod(f"p{index}", **template) for index in range(24)))
    assert runs == [24]
    if "affinity" in rules:
        assert len(set(placed.values())) == 24
    if "topologySpreadConstraints" in rules:
        assert Counter(int(str(node)[1:]) % 3 for node in placed.values()) == {0: 8, 1: 8, 2: 8}


def _event(name: str, node: str = "", **kwargs: object) -> bytes:
    pod = make_pod(name, 3, cpu="100m", metadata={"labels": {"app": "web"}, **kwargs}, spec={"nodeName": node})
    return msgspec.json.encode(PodUpserted(pod=pod), order="deterministic")


EVENTS = (
    _event("a"),
    _event("b", "n1"),
    _event("c", creationTimestamp="2026-01-01T00:00:00Z"),
    _event("d", "n2", ownerReferences=[{"kind": "ReplicaSet", "name": "r", "controller": True}]),
)


def _outcome(kinds: PodKinds, raw: bytes) -> tuple[object, ...]:
    try:
        seen = kinds.read(raw)
        if not isinstance(seen, PodVersion):
            return (seen,)
        kind = kinds.of(seen)
    except (EventError, QuantityError) as error:
        return error.reason, error.message, error.field
    parts = (seen.name, seen.namespace, seen.uid, seen.version, seen.node, seen.encoded)
    own = kind.encode(seen.name, seen.uid, seen.own, seen.node)
    return (*parts, own, kind.demand, kind.priority, kind.placed, kind.ours, kind.gang, kind.nominated)


@settings(deadline=None, max_examples=400)  # compiles its pattern at the first call
@given(st.sampled_from(EVENTS), st.data())
def test_what_was_read_before_has_no_say_in_how_an_event_is_read(event: bytes, data: st.DataObject) -> None:
    warm = PodKinds("k3s-daas")
    for known in EVENTS:
        _outcome(warm, known)
    raw = bytearray(event)
    for _ in range(data.draw(st.integers(0, 3))):
        position = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(st.sampled_from([b"", b'"', b",", b"{}", b'"spec":{},', b'"nodeName":"n1",', b"\xff", b"x"]))
        raw[position : position + data.draw(st.integers(0, 2))] = piece
    assert _outcome(warm, bytes(raw)) == _outcome(PodKinds("k3s-daas"), bytes(raw))


def test_a_known_kind_gives_back_the_bytes_that_were_read() -> None:
    kinds = PodKinds("k3s-daas")
    for _ in range(2):
        for event in EVENTS:
            seen = kinds.read(event)
            assert isinstance(seen, PodVersion)
            kind = kinds.of(seen)
            assert kind.encode(seen.name, seen.uid, seen.own, seen.node) == seen.encoded
            assert b'"resourceVersion":"0"' in seen.encoded


def test_pieces_that_fit_a_known_kind_but_make_no_json_are_refused() -> None:
    kinds = PodKinds("k3s-daas")
    free, placed = EVENTS[0], EVENTS[1]
    _outcome(kinds, free)
    _outcome(kinds, placed)
    for raw in (
        free.replace(b'"schedulerName":"k3s-daas",', b'"schedulerName":"k3s-daas","nodeName":"n1"'),
        placed.replace(b'"nodeName":"n1"', b""),
    ):
        with pytest.raises(EventError, match="malformed-event"):
            kinds.read(raw)
