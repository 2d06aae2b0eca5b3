"""The enclave as a process on a real bus with a software NSM; the test plays gateway and relay."""

import asyncio
import base64
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from support.enclave_world import CHAIN, CLUSTER, NONCE, REGISTRY, World, a_node, a_pod, world

from daas.attestation import POLICY_REGISTER, AttestationPolicy, Measurement, policy_register, verify
from daas.common import merkle, subjects
from daas.common.decision import INTENT_PLACEMENT, check_decided, header_bcs, intent_message
from daas.common.errors import Unavailable
from daas.common.facts import fact_of
from daas.common.messages import (
    DeadLetter,
    EnclaveAttested,
    EnclaveRevoked,
    PlacementReceived,
)
from daas.common.receipt import signed_message
from daas.common.subjects import Stream
from daas.devstack.process import Process
from daas.placement import Policy
from daas.placement.log import NodeUpserted, PodUpserted

__all__ = ["world"]
pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]


async def test_it_attests_its_key_to_the_nonce_the_registry_and_the_policy(world: World) -> None:
    await world.enclave()
    attested = await world.attested_again()
    policy = AttestationPolicy(
        measurements=[Measurement.from_hex(*(world.nsm.ready["pcrs"][n] for n in "012"))],
        nonce=NONCE,
        user_data=merkle.digest(CHAIN + bytes.fromhex(REGISTRY[2:]) + Policy().digest()),
        pcrs={POLICY_REGISTER: [policy_register(Policy().digest())]},
        public_key_length_bytes=32,
        development_root_sha256=bytes.fromhex(world.nsm.ready["root_sha256"]),
    )
    attestation = verify(base64.b64decode(attested.document), policy, time.time_ns() // 1_000_000)
    assert attestation.simulated
    assert attested.simulated
    assert attestation.public_key is not None
    assert attestation.public_key.hex() == attested.public_key


async def test_each_entry_that_leaves_pods_pending_is_answered_by_one_signed_decision(world: World) -> None:
    await world.enclave()
    await world.log(NodeUpserted(node=a_node("n1")), entry_id="e1")
    last = await world.log(PodUpserted(pod=a_pod("p1")), PodUpserted(pod=a_pod("p2")), entry_id="e2")
    decided, _ = await world.decided(1)
    check_decided(decided)
    assert decided.header.log_sequence == last
    assert [(leaf.name, leaf.node) for leaf in decided.leaves] == [("p1", "n1"), ("p2", "n1")]
    assert decided.simulated
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(decided.public_key)).verify(
        bytes.fromhex(decided.signature),
        intent_message(INTENT_PLACEMENT, decided.timestamp_ms, header_bcs(decided.header)),
    )


async def test_a_restarted_enclave_continues_from_a_snapshot_under_a_new_key_on_the_same_chain(world: World) -> None:
    first = await world.enclave(DAAS_ENCLAVE_SNAPSHOT_EVERY="2")
    await world.log(NodeUpserted(node=a_node("n1")), entry_id="nodes")
    previous = "0" * 64
    for number in range(1, 6):
        await world.log(PodUpserted(pod=a_pod(f"p{number}")), entry_id=f"e{number}")
        decided, at = await world.decided(number)
        assert decided.header.previous == previous
        previous = decided.payload_digest
        await world.anchor(decided, at)
    deadline = time.monotonic() + 100
    while await world.gateway.list_objects(subjects.SNAPSHOT_BUCKET) != [f"{2:020d}", f"{4:020d}"]:
        assert time.monotonic() < deadline, "no snapshots"
        await asyncio.sleep(0.05)
    await first.kill()
    await world.log(PodUpserted(pod=a_pod("p6")), entry_id="e6")

    await world.enclave("second", DAAS_ENCLAVE_TAKEOVER_MS="100")

    sixth, at = await world.decided(6)
    assert sixth.header.previous == previous
    assert [leaf.name for leaf in sixth.leaves] == ["p6"]
    assert '"snapshot": 4' in (world.directory / "second.log").read_text()


async def test_what_nobody_can_fold_is_a_dead_letter_and_the_log_goes_on(world: World) -> None:
    await world.enclave()
    bad = await world.gateway.publish(subjects.LOG_CLUSTER, b"not an entry", message_id="bad")
    await world.log(NodeUpserted(node=a_node("n1")), PodUpserted(pod=a_pod("p1")), entry_id="good")
    await world.decided(1)
    async with contextlib.aclosing(world.gateway.read(Stream.DLQ)) as letters:
        async for message in letters:
            letter = msgspec.json.decode(message.data, type=DeadLetter)
            assert (letter.stream_sequence, letter.service) == (bad, "enclave")
            assert base64.b64decode(letter.body) == b"not an entry"
            break


async def test_a_revoked_enclave_stops_with_the_reason(world: World) -> None:
    process = await world.enclave()
    attested = await world.attested_again()
    await world.relay.publish(
        subjects.ENCLAVE_REVOKED,
        EnclaveRevoked(
            public_key=attested.public_key,
            enclave="0x" + "44" * 32,
            reason="revoked",
            message="by test",
            simulated=True,
        ),
        message_id="revoked",
    )
    assert await process.wait() == 1
    assert "revoked" in process.log_tail()


async def test_an_anchor_that_contradicts_the_log_stops_the_enclave(world: World) -> None:
    process = await world.enclave()
    await world.log(NodeUpserted(node=a_node("n1")), PodUpserted(pod=a_pod("p1")), entry_id="e1")
    decided, at = await world.decided(1)
    await world.anchor(msgspec.structs.replace(decided, payload_digest="55" * 32), at)
    assert await process.wait() == 1
    assert "fork" in process.log_tail()


async def test_a_receipt_names_the_log_as_it_came_in_and_the_last_decision(world: World) -> None:
    await world.enclave(DAAS_ENCLAVE_RECEIPT_ENTRIES="3", DAAS_ENCLAVE_RECEIPT_MS="600000")
    await world.log(NodeUpserted(node=a_node("n1")), PodUpserted(pod=a_pod("p1")), entry_id="e1")
    decided, at = await world.decided(1)
    await world.anchor(decided, at)
    await world.log(entry_id="e2")
    last = await world.log(entry_id="e3")
    await until(lambda: exists(world.relay.last(subjects.PLACEMENT_RECEIVED)))
    stored = await world.relay.last(subjects.PLACEMENT_RECEIVED)
    assert stored is not None
    receipt = fact_of(stored, subjects.PLACEMENT_RECEIVED, PlacementReceived)
    root = bytes(32)
    for sequence in range(1, last + 1):
        root = merkle.digest(root + (await world.gateway.fetch(Stream.LOG, sequence)).data)
    assert (receipt.log_sequence, receipt.log_root) == (last, root.hex())
    assert (receipt.sequence, receipt.head) == (1, decided.payload_digest)
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(decided.public_key)).verify(
        bytes.fromhex(receipt.signature), signed_message(receipt)
    )
    assert abs(receipt.timestamp_ms - time.time_ns() // 1_000_000) < 60_000


async def exists(found: Awaitable[object | None]) -> bool:
    return await found is not None


async def test_a_log_that_does_not_lead_to_what_is_anchored_stops_the_enclave(world: World) -> None:
    await world.log(NodeUpserted(node=a_node("n1")), PodUpserted(pod=a_pod("p1")), entry_id="e1")
    await world.challenge(sequence=2, payload_digest="66" * 32)
    process = Process(
        "enclave",
        ["python", "-m", "daas.enclave"],
        log_path=world.directory / "enclave.log",
        env={
            "DAAS_NATS_URL": world.nats.url,
            "DAAS_CLUSTER": CLUSTER,
            "DAAS_ENCLAVE_NSM": world.nsm.ready["socket"],
        },
    )
    with pytest.raises(Unavailable):
        await process.start()
    assert "log-lost" in process.log_tail()


async def status(process: Process) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(process.ready["http"] + "/status") as answer:
        return dict(await answer.json())


async def readiness(process: Process) -> str:
    async with aiohttp.ClientSession() as session, session.get(process.ready["http"] + "/readyz") as answer:
        return await answer.text()


async def test_an_enclave_whose_clock_is_wrong_signs_nothing_until_it_is_right_again(world: World) -> None:
    process = await world.enclave(DAAS_ENCLAVE_CLOCK_EVERY_MS="100", DAAS_ENCLAVE_CLOCK_BOUND_MS="2000")
    offset = world.directory / "offset"
    offset.write_text("600000")
    await until(lambda: contains(readiness(process), "clock-drift"))
    await world.log(NodeUpserted(node=a_node("n1")), PodUpserted(pod=a_pod("p1")), entry_id="e1")
    await until(lambda: holds(status(process), "unanchored", 1))
    assert await world.relay.last(subjects.PLACEMENT_DECIDED) is None, "decided, but not signed"
    assert (await status(process))["clock_drift_ms"] > 500_000

    offset.write_text("0")
    decided, _ = await world.decided(1)
    assert [leaf.name for leaf in decided.leaves] == ["p1"]


async def test_a_key_is_replaced_before_its_registration_ends_and_the_chain_goes_on(world: World) -> None:
    process = await world.enclave()
    first = await world.attested_again()
    await world.relay.publish(
        subjects.ENCLAVE_REVOKED,
        EnclaveRevoked(public_key=first.public_key, enclave=None, reason="expired", message="test", simulated=True),
        message_id="expired",
    )
    await until(lambda: differs(world.attested_again(), first))
    second = await world.register()
    await until(lambda: holds(status(process), "public_key", second))
    await world.log(NodeUpserted(node=a_node("n1")), PodUpserted(pod=a_pod("p1")), entry_id="e1")
    decided, at = await world.decided(1)
    assert decided.public_key == second != first.public_key
    await world.anchor(decided, at)
    await until(lambda: holds(status(process), "role", "active"))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 100
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def contains(text: Awaitable[str], part: str) -> bool:
    return part in await text


async def holds(facts: Awaitable[dict[str, Any]], name: str, value: object) -> bool:
    return bool((await facts).get(name) == value)


async def differs(attested: Awaitable[EnclaveAttested], first: EnclaveAttested) -> bool:
    return (await attested).public_key != first.public_key
