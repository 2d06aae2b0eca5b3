"""A replay finds every altered byte, and snapshots are taken only for what they are."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_simulator import Simulator
from placement_world import GENESIS, World, make_node, make_pod

from daas.common.errors import DecodeError
from daas.placement import Claim, Genesis, Leaf, PlacementBatch, Policy, Scheduler, intent_message, verify
from daas.placement.errors import GenesisError, SnapshotError
from daas.placement.log import BindFailed


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.nodes(*(make_node(f"n{i}", labels={"zone": "ab"[i % 2]}) for i in range(5)))
    for i in range(6):
        world.pods(*(make_pod(f"p{i}-{j}", 10 * i + j + 1, cpu="300m", memory="100Mi") for j in range(4)))
        world.tell()
    world.tell(BindFailed(uid="uid-p0-0", sequence=1, node=str(world.claims[0].leaves[0].node), reason="x"))
    world.tell(after_ms=1_000)
    return world


def numbered(entries: list[bytes]) -> list[tuple[int, bytes]]:
    return list(enumerate(entries, 1))


def test_a_replay_from_the_start_equals_what_was_decided(world: World) -> None:
    verdict = verify(GENESIS, None, numbered(world.entries), world.claims)
    assert verdict.equal
    assert verdict.checked == len(world.claims) == 7


def test_a_replay_can_begin_at_an_anchored_snapshot(world: World) -> None:
    scheduler = Scheduler(GENESIS)
    taken = {}
    for log_sequence, entry in numbered(world.entries):
        decision = scheduler.apply(log_sequence, entry).decision
        if decision is not None:
            taken[decision.batch.sequence] = (scheduler.snapshot(), decision.batch)
    for sequence, (snapshot, batch) in taken.items():
        rest = [pair for pair in numbered(world.entries) if pair[0] > batch.log_sequence]
        verdict = verify(GENESIS, snapshot, rest, world.claims[sequence:], anchored=batch)
        assert verdict.equal
        later = world.claims[-1:]
        assert verify(GENESIS, snapshot, rest, later if sequence < 7 else [], anchored=batch).equal
        other = taken[sequence % 7 + 1][1]
        with pytest.raises(SnapshotError, match="snapshot-not-anchored"):
            verify(GENESIS, snapshot, rest, [], anchored=other)


@settings(deadline=None)  # each call replays a log
@given(st.data())
def test_any_altered_byte_of_the_log_is_found(world: World, data: st.DataObject) -> None:
    entries = list(world.entries)
    index = data.draw(st.integers(0, len(entries) - 1))
    entry = bytearray(entries[index])
    entry[data.draw(st.integers(0, len(entry) - 1))] ^= data.draw(st.integers(1, 255))
    entries[index] = bytes(entry)
    assert not verify(GENESIS, None, numbered(entries), world.claims).equal


@pytest.mark.parametrize("field", [f.name for f in msgspec.structs.fields(PlacementBatch)])
def test_any_altered_field_of_a_header_is_found_and_named(world: World, field: str) -> None:
    claims = list(world.claims)
    value = getattr(claims[3].batch, field)
    altered = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    claims[3] = msgspec.structs.replace(claims[3], batch=msgspec.structs.replace(claims[3].batch, **{field: altered}))
    difference = verify(GENESIS, None, numbered(world.entries), claims).difference
    assert difference is not None
    assert difference.field in (f"batch.{field}", "decision")
    assert (difference.sequence == 4) or field == "sequence"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pod_uid", "x"),
        ("namespace", "x"),
        ("name", "x"),
        ("resource_version", "0"),
        ("node", None),
        ("node", "n9"),
        ("score", 1),
        ("reasons", 1),
    ],
)
def test_any_altered_field_of_a_leaf_is_found_and_named(world: World, field: str, value: object) -> None:
    claims = list(world.claims)
    leaves = list(claims[2].leaves)
    leaves[1] = msgspec.structs.replace(leaves[1], **{field: value})
    claims[2] = msgspec.structs.replace(claims[2], leaves=tuple(leaves))
    difference = verify(GENESIS, None, numbered(world.entries), claims).difference
    assert difference is not None
    assert difference.field == f"leaves[1].{field}"
    assert f"leaves[1].{field} is claimed as" in str(difference)


def test_a_missing_leaf_a_moved_time_a_gap_and_an_invented_decision_are_found(world: World) -> None:
    entries, claims = numbered(world.entries), world.claims

    def field_of(altered: list[Claim], log: list[tuple[int, bytes]] = entries) -> str:
        difference = verify(GENESIS, None, log, altered).difference
        assert difference is not None
        return difference.field

    first = claims[0]
    assert field_of([msgspec.structs.replace(first, leaves=first.leaves[:-1])]) == "leaves"
    assert field_of([msgspec.structs.replace(first, timestamp_ms=1)]) == "timestamp_ms"
    assert field_of(claims, entries[:3] + entries[4:]) == "log"
    assert field_of(claims, entries[:-1]) == "decision"
    assert field_of([*claims, first]) == "decision"
    assert field_of([claims[0], claims[2]]) != "decision"


def test_another_policy_or_cluster_does_not_verify(world: World) -> None:
    for genesis in (
        Genesis(chain=b"\x09" * 32, registry=GENESIS.registry, policy=GENESIS.policy),
        Genesis(chain=GENESIS.chain, registry=b"\x09" * 32, policy=GENESIS.policy),
        Genesis(chain=GENESIS.chain, registry=GENESIS.registry, policy=Policy(weight_node_affinity=3)),
    ):
        assert not verify(genesis, None, numbered(world.entries), world.claims).equal


@pytest.mark.parametrize(
    "values", [{"batch_max": 0}, {"batch_max": 513}, {"weight_node_affinity": -1}, {"profile": "x"}, {"expires_ms": 0}]
)
def test_a_policy_out_of_range_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(GenesisError):
        Policy(**values)


def test_a_genesis_with_short_ids_is_refused() -> None:
    with pytest.raises(GenesisError):
        Genesis(chain=b"", registry=bytes(32), policy=Policy())


@settings(deadline=None)  # the first call simulates a cluster
@given(st.data())
def test_an_altered_snapshot_is_refused_or_has_another_root(data: st.DataObject) -> None:
    simulator = _simulated()
    scheduler = simulator.world.scheduler
    batch = simulator.world.claims[-1].batch
    snapshot = bytearray(_snapshot())
    position = data.draw(st.integers(0, len(snapshot) - 1))
    snapshot[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SnapshotError):
        Scheduler.restore(scheduler.genesis, bytes(snapshot), batch)


_CACHE: dict[str, object] = {}


def _simulated() -> Simulator:
    if "simulator" not in _CACHE:
        simulator = Simulator(5)
        for _ in range(40):
            simulator.step()
        while simulator.step().decision is None:
            pass
        _CACHE["simulator"], _CACHE["snapshot"] = simulator, simulator.world.scheduler.snapshot()
    cached = _CACHE["simulator"]
    assert isinstance(cached, Simulator)
    return cached


def _snapshot() -> bytes:
    snapshot = _CACHE["snapshot"]
    assert isinstance(snapshot, bytes)
    return snapshot


def test_the_unaltered_snapshot_is_accepted_and_others_are_refused_with_a_reason() -> None:
    simulator = _simulated()
    batch = simulator.world.claims[-1].batch
    assert Scheduler.restore(GENESIS, _snapshot(), batch).head == simulator.world.scheduler.head
    other = Genesis(chain=b"\x09" * 32, registry=GENESIS.registry, policy=GENESIS.policy)
    with pytest.raises(SnapshotError, match="other-genesis"):
        Scheduler.restore(other, _snapshot())
    for data in (b"", b"\x00", _snapshot()[:-1], _snapshot() + b"\x00"):
        with pytest.raises(SnapshotError, match="malformed-snapshot"):
            Scheduler.restore(GENESIS, data)


@settings(deadline=None)  # each call makes an engine
@given(st.binary(max_size=300))
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        Scheduler.restore(GENESIS, data)


u64 = st.integers(0, 2**64 - 1)
digests = st.binary(min_size=32, max_size=32)


@given(st.builds(Leaf, pod_uid=st.text(), namespace=st.text(), name=st.text(), resource_version=st.text(),
                 node=st.none() | st.text(), score=u64, reasons=u64))  # fmt: skip
def test_leaves_survive_bcs(leaf: Leaf) -> None:
    assert Leaf.from_bcs(leaf.to_bcs()) == leaf
    with pytest.raises(DecodeError):
        Leaf.from_bcs(leaf.to_bcs() + b"\x00")


@given(st.builds(PlacementBatch, chain=digests, registry=digests, sequence=u64, previous=digests, log_sequence=u64,
                 log_root=digests, policy=digests, state_root=digests, decisions=digests,
                 count=st.integers(0, 2**32 - 1), expires_ms=u64))  # fmt: skip
def test_batches_survive_bcs_and_have_one_encoding(batch: PlacementBatch) -> None:
    data = batch.to_bcs()
    assert PlacementBatch.from_bcs(data) == batch
    assert len(data) == 6 * 33 + 32 + 3 * 8 + 4
    for wrong in (data[:-1], data + b"\x00", b"\x1f" + data[1:]):
        with pytest.raises(DecodeError):
            PlacementBatch.from_bcs(wrong)


def test_the_signed_bytes_are_intent_time_and_payload_without_a_length() -> None:
    assert intent_message(1, 258, b"payload") == b"\x01\x02\x01" + bytes(6) + b"payload"
