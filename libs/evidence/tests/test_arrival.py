"""Arrivals under the enclave's receipt: decided, decided and kept back, or not what the file says."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
from evidence_world import CLUSTER, World, a_pod, small_world

from daas.common.errors import NotFound
from daas.common.messages import PlacementReceived, encode
from daas.common.receipt import signed_message
from daas.evidence import LedgerTransaction, RawEntry, Report, Snapshot
from daas.evidence.arrival import ArrivalCase, check_receipt, decode_arrival, encode_arrival, verify_arrival
from daas.evidence.checks import PodName
from daas.placement.log import PodDeleted

POD = PodName("default", "web-3-1")
BOUND_MS = 60_000
replace = msgspec.structs.replace


@dataclass
class Chain:
    """The recorded ledger, and how many decisions it has."""

    world: World
    anchored: int

    async def chain(self) -> str:
        return await self.world.ledger.chain()

    async def transaction(self, digest: str) -> LedgerTransaction:
        return await self.world.ledger.transaction(digest)

    async def head(self, registry: str) -> int:
        if registry != self.world.registry_id:
            raise NotFound("no registry", reason="no-registry")
        return self.anchored


def receipt_of(world: World) -> PlacementReceived:
    sequence, digest, log_sequence, log_root = world.scheduler.position
    receipt = PlacementReceived(
        chain=world.trust.chain.hex(),
        registry=world.registry_id,
        log_sequence=log_sequence,
        log_root=log_root.hex(),
        sequence=sequence,
        head=digest.hex(),
        timestamp_ms=world.now_ms + 500,
        public_key=world.public_key.hex(),
        signature="00" * 64,
        simulated=True,
    )
    return replace(receipt, signature=world.key.sign(signed_message(receipt)).hex())


def case_of(world: World, *, start: int = 0) -> ArrivalCase:
    header = world.headers[start] if start else None
    first = header.log_sequence + 1 if header else 1
    return ArrivalCase(
        cluster=CLUSTER,
        receipt=encode(receipt_of(world)),
        document=world.document,
        registered=world.registered,
        start=header,
        snapshot=Snapshot(sequence=start, data=world.snapshots[start]) if start else None,
        log=tuple(RawEntry(sequence=n, data=world.log[n - 1]) for n in range(first, len(world.log) + 1)),
    )


WORLD = small_world()
CASE = case_of(WORLD)


async def verified(
    case: ArrivalCase, pod: PodName = POD, *, anchored: int = 3, later_ms: int = 0, ledger: bool = True
) -> Report:
    now_ms = WORLD.now_ms + 500 + later_ms
    source = Chain(WORLD, anchored) if ledger else None
    return await verify_arrival(
        encode_arrival(case), pod, WORLD.trust, bound_ms=BOUND_MS, source=source, now_ms=now_ms, offline=not ledger
    )


@pytest.mark.parametrize("start", [0, 1, 2])
async def test_an_arrival_that_was_decided_and_anchored_passes_from_any_state_before_it(start: int) -> None:
    report = await verified(case_of(WORLD, start=start))
    assert report.ok, report
    assert report.sequence == 3
    assert [check.name for check in report.checks][-3:] == ["log", "arrival", "in time"]
    assert report.simulated


async def test_a_decision_that_the_ledger_does_not_have_after_the_bound_is_withheld() -> None:
    in_time = await verified(CASE, anchored=2, later_ms=BOUND_MS)
    assert in_time.ok, in_time
    late = await verified(CASE, anchored=2, later_ms=BOUND_MS + 1)
    assert late.failed == ("in time",)
    assert late.checks[-1].compared.startswith("WITHHELD: decision 3 places it to node node-")


async def test_a_pod_for_which_there_is_no_node_was_decided_too() -> None:
    report = await verified(CASE, PodName("default", "huge-2"), later_ms=BOUND_MS + 1)
    assert report.ok
    assert "to no node" in report.checks[-1].compared


async def test_a_pod_that_the_log_does_not_have_is_no_arrival() -> None:
    report = await verified(CASE, PodName("default", "web-9"))
    assert report.failed == ("arrival", "in time")


async def test_without_a_ledger_only_what_needs_it_is_left_out() -> None:
    report = await verified(CASE, ledger=False)
    assert report.ok
    assert [c.name for c in report.checks if c.outcome == "unchecked"] == ["registration", "in time"]


def changed(**changes: object) -> ArrivalCase:
    return replace(CASE, **changes)


def changed_receipt(*, resign: bool = False, **changes: object) -> ArrivalCase:
    receipt = replace(msgspec.json.decode(CASE.receipt, type=PlacementReceived), **changes)
    if resign:
        receipt = replace(receipt, signature=WORLD.key.sign(signed_message(receipt)).hex())
    return changed(receipt=encode(receipt))


@pytest.mark.parametrize(
    ("make", "failing"),
    [
        (lambda: changed_receipt(log_root="11" * 32), "receipt"),
        (lambda: changed_receipt(timestamp_ms=1), "receipt"),
        (lambda: changed_receipt(resign=True, registry="0x" + "11" * 32), "receipt"),
        (lambda: changed_receipt(resign=True, simulated=False), "receipt"),
        (lambda: changed(cluster="other"), "receipt"),
        (lambda: changed_receipt(resign=True, head="11" * 32), "log"),
        (lambda: changed_receipt(resign=True, sequence=2), "log"),
        (lambda: changed(log=CASE.log[:-1]), "log"),
        (lambda: changed(log=(*CASE.log[:-1], replace(CASE.log[-1], data=CASE.log[-1].data + b" "))), "log"),
        (lambda: changed(log=CASE.log[1:]), "log"),
        (lambda: changed(start=WORLD.headers[1]), "log"),
        (lambda: replace(case_of(WORLD, start=1), start=replace(WORLD.headers[1], state_root="11" * 32)), "log"),
        (lambda: changed(document=CASE.document[:-1] + b"\x00"), "attestation"),
        (lambda: changed(registered=replace(CASE.registered, public_key="11" * 32)), "registration"),
        (lambda: changed(registered=replace(CASE.registered, expires_ms=WORLD.now_ms)), "registration"),
    ],
)
async def test_whatever_is_altered_fails_the_check_that_looks_at_it(
    make: Callable[[], ArrivalCase], failing: str
) -> None:
    report = await verified(make())
    assert not report.ok
    assert failing in report.failed


async def test_bytes_that_are_no_such_file_are_refused() -> None:
    for data in (b"", b"{}", encode_arrival(CASE)[:-1]):
        report = await verify_arrival(data, POD, WORLD.trust, bound_ms=1, source=None, now_ms=0, offline=True)
        assert report.failed == ("receipt",)


def test_a_file_is_read_as_it_was_written() -> None:
    assert decode_arrival(encode_arrival(CASE)) == CASE
    check_receipt(msgspec.json.decode(CASE.receipt, type=PlacementReceived))


async def test_a_later_pod_of_the_same_name_is_told_apart_by_its_uid() -> None:
    world = small_world(1)
    world.entry(PodDeleted(uid="uid-web-1-0", namespace="default", name="web-1-0"), a_pod("web-1-0", uid="second"))
    data, source = encode_arrival(case_of(world)), Chain(world, 1)

    async def judged(uid: str) -> Report:
        pod, late_ms = PodName("default", "web-1-0", uid), world.now_ms + 10_000
        return await verify_arrival(data, pod, world.trust, bound_ms=1, source=source, now_ms=late_ms)

    first, second = await judged("uid-web-1-0"), await judged("second")
    assert (first.ok, first.sequence) == (True, 1)
    assert (second.failed, second.sequence) == (("in time",), 2)
