"""The relay as a process between a real bus and a real ledger: anchors in order, each once, whatever happens to it."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from support.relay import Enclave, RelayStage

from daas.common.messages import PlacementAnchored, PlacementRefused
from daas.common.subjects import Stream
from daas.ledger import SignedBatch

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

Tip = tuple[int, str]


def sequences(found: Sequence[PlacementAnchored | PlacementRefused]) -> list[int]:
    return [fact.sequence for fact in found]


async def test_a_decision_is_anchored_and_the_fact_says_where_it_stands(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    decided = enclave.decide(*tip)
    message = await stage.publish(decided)
    (fact,) = await stage.wait_anchored(tip[0], first=tip[0])

    effects = await stage.ledger.transaction(fact.tx_digest)
    assert effects is not None
    assert (fact.payload_digest, fact.decided_sequence, fact.simulated) == (decided.payload_digest, message, True)
    assert fact.checkpoint == effects.checkpoint
    assert await stage.head() == (tip[0], decided.payload_digest)


async def test_decisions_that_queue_share_transactions_and_come_out_in_order(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    first = tip[0]
    made = enclave.chain(100, *tip)
    await stage.kill_relay()
    for decided in made:
        await stage.publish(decided)
    await stage.start_relay()
    found = await stage.wait_anchored(first + 99, first=first)

    assert sequences(found) == list(range(first, first + 100))
    assert [f.payload_digest for f in found] == [d.payload_digest for d in made]
    assert len({f.tx_digest for f in found}) <= 10
    assert await stage.metric("daas_relay_anchored_total") == 100


async def test_decisions_that_arrive_in_disorder_are_anchored_in_order(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    first = tip[0]
    made = enclave.chain(40, *tip)
    for decided in random.Random(7).sample(made, len(made)):
        await stage.publish(decided)
    assert sequences(await stage.wait_anchored(first + 39, first=first)) == list(range(first, first + 40))


async def test_of_several_decisions_in_one_transaction_only_the_bad_one_is_refused(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    first = tip[0]
    good = enclave.chain(5, *tip)
    # The package alone can say that this batch does not move the log on.
    bad = enclave.decide(first + 5, good[-1].payload_digest, log_sequence=first + 4)
    after_bad = enclave.decide(first + 6, bad.payload_digest)
    instead = enclave.chain(3, first + 5, good[-1].payload_digest, salt="-again")
    await stage.kill_relay()
    for decided in good:
        await stage.publish(decided)
    message = await stage.publish(bad)
    orphan = await stage.publish(after_bad)
    await stage.start_relay()

    refusal = await stage.wait_refused(message)
    assert refusal.reason == "log-not-ahead"
    assert refusal.code is not None
    assert sequences(await stage.wait_anchored(first + 4, first=first)) == list(range(first, first + 5))
    for decided in instead:
        await stage.publish(decided)
    found = await stage.wait_anchored(first + 7, first=first)
    assert [f.payload_digest for f in found[5:]] == [d.payload_digest for d in instead]
    assert (await stage.wait_refused(orphan)).reason in {"sequence-taken", "wrong-predecessor"}
    refused = [fact for fact in await stage.refused() if fact.sequence >= first]
    assert sorted(sequences(refused)) == [first + 5, first + 6]


async def test_a_second_message_of_the_same_decision_is_a_dead_letter_and_pays_nothing(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    sends = await stage.metric("daas_relay_sends_total")
    decided = enclave.decide(*tip)
    await stage.publish(decided)
    await stage.wait_anchored(tip[0])
    again = await stage.publish(decided, attempt=2)
    assert (await stage.wait_dead(Stream.PLACEMENT, again)).reason == "duplicate"
    assert await stage.metric("daas_relay_sends_total") == sends + 1
    assert len(await stage.wait_anchored(tip[0], first=tip[0])) == 1
    assert tip[0] not in sequences(await stage.refused())


async def test_another_enclaves_copy_is_redundant_and_a_fork_is_refused(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    other = await stage.enclave()
    decided = enclave.decide(*tip)
    await stage.publish(decided)
    await stage.wait_anchored(tip[0])
    copy = other.decide(*tip, timestamp_ms=decided.timestamp_ms)
    assert copy.payload_digest == decided.payload_digest
    copied = await stage.publish(copy)
    fork = await stage.publish(other.decide(*tip, salt="-fork"))
    assert (await stage.wait_refused(fork)).reason == "sequence-taken"
    assert len(await stage.wait_anchored(tip[0], first=tip[0])) == 1
    assert copied not in [d.stream_sequence for d in await stage.dead_letters()]


async def test_a_decision_that_does_not_follow_the_head_is_refused(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    message = await stage.publish(enclave.decide(tip[0], "ab" * 32))
    assert (await stage.wait_refused(message)).reason == "wrong-predecessor"


async def test_a_decision_without_its_predecessor_waits_for_it(stage: RelayStage, enclave: Enclave, tip: Tip) -> None:
    before, after = enclave.chain(2, *tip)
    await stage.publish(after)
    await asyncio.sleep(1.5)  # longer than the relay holds it: it goes back to its stream
    await stage.publish(before)
    assert sequences(await stage.wait_anchored(tip[0] + 1, first=tip[0])) == [tip[0], tip[0] + 1]


async def test_a_relay_killed_again_and_again_anchors_each_decision_once(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    first = tip[0]
    made = enclave.chain(120, *tip)

    async def publish() -> None:
        for decided in made:
            await stage.publish(decided)
            await asyncio.sleep(0.02)

    publishing = asyncio.create_task(publish())
    for _kill in range(4):
        await asyncio.sleep(0.5)
        await stage.kill_relay()
        await stage.start_relay()
    await publishing
    found = await stage.wait_anchored(first + 119, first=first)
    assert sequences(found) == list(range(first, first + 120))


async def test_a_relay_that_lost_its_memory_publishes_what_it_never_did_and_nothing_twice(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    first = tip[0]
    made = enclave.chain(10, *tip)
    for decided in made[:5]:
        await stage.publish(decided)
    await stage.wait_anchored(first + 4)
    registrations = await stage.registrations()
    await stage.stop_relay()
    for path in (stage.folder / "relay").iterdir():
        path.unlink()
    for decided in made[5:]:
        await stage.publish(decided)
    await stage.start_relay()
    found = await stage.wait_anchored(first + 9, first=first)
    assert sequences(found) == list(range(first, first + 10))
    assert await stage.registrations() == registrations


async def test_an_anchor_that_another_relay_made_becomes_a_fact_here(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    registration = next(f for f in await stage.registrations() if f.public_key == enclave.public_key)
    decided = enclave.decide(*tip)
    await stage.stop_relay()
    batch = SignedBatch(
        header=decided.header,
        timestamp_ms=decided.timestamp_ms,
        signature=bytes.fromhex(decided.signature),
        enclave=registration.enclave,
    )
    ledger = await stage.as_operator()
    effects = await ledger.submit(await ledger.build_anchor(batch))
    message = await stage.publish(decided)
    await stage.start_relay()
    (fact,) = await stage.wait_anchored(tip[0], first=tip[0])
    assert (fact.tx_digest, fact.decided_sequence) == (effects.digest, message)
    assert await stage.metric("daas_relay_sends_total") == 0


async def test_the_status_page_says_where_the_relay_stands_and_what_it_can_pay(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    await stage.publish(enclave.decide(*tip))
    await stage.wait_anchored(tip[0])
    status = await stage.status()
    assert status["head"] == tip[0]
    assert status["simulated"] is True
    assert status["account"] == stage.operator.address
    assert status["low_balance"] is False
    assert status["balance_mist"] > 10**9
