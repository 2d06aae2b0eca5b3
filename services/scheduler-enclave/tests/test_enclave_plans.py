"""Plans by a real enclave process: from the committed state, certified, signed, refused when anything is changed."""

import asyncio
import base64
import contextlib

import msgspec
import pytest
from support.enclave_world import CHAIN, REGISTRY, World, a_node, a_pod, world

from daas.attestation import Measurement
from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.errors import InvalidInput, Refused, Unavailable
from daas.common.facts import fact_of
from daas.common.plans import AllocationPlan, Planned, RebalancePlan
from daas.common.subjects import Service, Stream
from daas.evidence import plans
from daas.evidence.trust import Trust
from daas.placement import Genesis, Policy, Scheduler
from daas.placement.allocation import Moment, moment_of_snapshot
from daas.placement.balance import RebalancePlan as Moves
from daas.placement.log import NodeUpserted, PodUpserted, ResyncStarted
from daas.placement.model import Pod

__all__ = ["world"]
pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

GENESIS = Genesis(chain=CHAIN, registry=bytes.fromhex(REGISTRY[2:]), policy=Policy())
TRUST = Trust(
    cluster="test",
    chain=CHAIN,
    registry=bytes.fromhex(REGISTRY[2:]),
    attestation_root=bytes(32),
    measurements=(Measurement(b"0" * 48, b"1" * 48, b"2" * 48),),
)


def owned(name: str, owner: str, node: str) -> Pod:
    """A pod of a ReplicaSet that runs on a node."""
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}
    container = {"name": "c", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "n",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "ownerReferences": [reference],
            },
            "spec": {"schedulerName": "other", "nodeName": node, "containers": [container]},
        },
        type=Pod,
    )


#: Place in the log of the last entry that `filled` writes.
FILLED = 4


async def filled(world: World) -> None:
    """Two nodes, all load on one of them, and three pods that wait."""
    await world.enclave()
    await world.log(
        *(NodeUpserted(node=a_node(name)) for name in ("n1", "n2")), PodUpserted(pod=a_pod("p1")), entry_id="e1"
    )
    decided, _ = await world.decided(1)
    assert decided.header.sequence == 1
    await world.log(*(PodUpserted(pod=owned(f"w{n}", f"set{n}", "n1")) for n in range(12)), entry_id="e2")
    await world.log(ResyncStarted(id="r"), entry_id="e3")
    await world.log(*(PodUpserted(pod=a_pod(f"late{n}")) for n in range(3)), entry_id="e4")


async def moment(world: World, planned: Planned) -> Moment:
    """The state by the log, up to what the plan names."""
    scheduler = Scheduler(GENESIS)
    async with contextlib.aclosing(world.gateway.read(Stream.LOG)) as entries:
        async for entry in entries:
            scheduler.apply(entry.sequence, entry.data)
            if entry.sequence == planned.basis.log_sequence:
                return moment_of_snapshot(GENESIS, scheduler.snapshot())
    raise AssertionError("unreachable")


async def asked(bus: Bus, request: AllocationPlan | RebalancePlan) -> Planned:
    """The plan on all that `filled` has told: the enclave may be asked before it has read that."""
    subject = subjects.ALLOCATION_PLAN if isinstance(request, AllocationPlan) else subjects.REBALANCE_PLAN
    async with asyncio.timeout(120):
        while True:
            planned = await bus.request(subject, request, Planned, timeout_s=60)
            if planned.basis.log_sequence == FILLED:
                return planned
            request = msgspec.structs.replace(request, request_id=f"{request.request_id}-again")


async def cli(world: World) -> Bus:
    return await Bus.connect(Service.CLI, BusSettings(nats_url=world.nats.url, cluster="test"))


async def test_an_allocation_is_certified_on_the_state_that_the_log_leads_to(world: World) -> None:
    await filled(world)
    async with await cli(world) as bus:
        request = AllocationPlan(request_id="a", objective={})
        planned = await asked(bus, request)
        wrong = AllocationPlan(request_id="b", objective={"per_pod": -1})
        with pytest.raises(InvalidInput, match="objective-range"):
            await bus.request(subjects.ALLOCATION_PLAN, wrong, Planned, timeout_s=60)
    now = await moment(world, planned)
    assert plans.signature(planned, (await world.attested_again()).public_key).passed
    assert plans.basis(planned, now, TRUST).passed
    check = plans.certificate(planned, now)
    assert check.passed
    assert "3 of 3 pods placed" in check.compared
    # It stands on the stream too, as it was answered.
    stored = await world.relay.fetch(Stream.PLAN, (await world.relay.stream_bounds(Stream.PLAN))[1])
    assert fact_of(stored, subjects.ALLOCATION_PLANNED, Planned) == planned


async def test_moves_are_certified_and_a_changed_plan_is_refused_by_the_check_that_looks_at_it(world: World) -> None:
    await filled(world)
    async with await cli(world) as bus:
        request = RebalancePlan(request_id="r", policy={"max_moves": 4, "max_per_node": 4})
        planned = await asked(bus, request)
    now, key = await moment(world, planned), (await world.attested_again()).public_key
    check = plans.certificate(planned, now)
    assert check.passed
    assert check.figures["moves"] == 4
    moves = Moves.from_bcs(base64.b64decode(planned.certificate))
    assert {(move.source, move.target) for move in moves.moves} == {("n1", "n2")}

    replace = msgspec.structs.replace
    greedy = replace(moves, moves=(replace(moves.moves[0], gain=moves.moves[0].gain + 1), *moves.moves[1:]))
    forged = replace(
        planned,
        certificate=base64.b64encode(greedy.to_bcs()).decode(),
        certificate_digest=greedy.digest().hex(),
    )
    assert not plans.signature(forged, key).passed
    with pytest.raises(Refused, match="certificate-gain"):
        plans.certificate(forged, now)
    with pytest.raises(Refused, match="certificate-digest"):
        plans.certificate(replace(planned, certificate=forged.certificate), now)
    with pytest.raises(Refused, match="certificate-situation"):
        plans.certificate(replace(planned, asked={**planned.asked, "policy": {"max_moves": 9}}), now)
    elsewhere = replace(planned, basis=replace(planned.basis, state_root="11" * 32))
    assert "state root" in plans.basis(elsewhere, now, TRUST).compared
    assert not plans.signature(elsewhere, key).passed
    assert not plans.signature(planned, "22" * 32).passed


async def test_without_a_decision_there_is_nothing_to_plan_from_and_a_plan_that_takes_too_long_is_given_up(
    world: World,
) -> None:
    await world.enclave(DAAS_ENCLAVE_PLAN_MS="100")
    async with await cli(world) as bus:
        request = AllocationPlan(request_id="a", objective={})
        with pytest.raises(Unavailable, match="nothing-decided"):
            await bus.request(subjects.ALLOCATION_PLAN, request, Planned, timeout_s=60)
        await world.log(NodeUpserted(node=a_node("n1")), PodUpserted(pod=a_pod("p1")), entry_id="e1")
        await world.decided(1)
        with pytest.raises(Unavailable, match="plan-timeout"):
            await bus.request(subjects.ALLOCATION_PLAN, request, Planned, timeout_s=60)
        # Decisions go on.
        await world.log(PodUpserted(pod=a_pod("p2")), entry_id="e2")
        assert (await world.decided(2))[0].leaves[0].node == "n1"
