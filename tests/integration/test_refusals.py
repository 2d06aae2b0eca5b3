"""Malformed, oversized, duplicate and forged messages on every consumed subject: a dead letter, and nothing else."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import nats
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import Facts, bus_of, dead_letters, kube_of, placement_facts, running

from daas.common import envelope, messages, subjects
from daas.common.decision import INTENT_PLACEMENT, header_bcs, intent_message, payload_digest
from daas.common.facts import newest
from daas.common.messages import DeadLetter, Header, PlacementDecided
from daas.common.subjects import Service, Subject
from daas.devstack.stack import Stack
from daas.ledger import Ledger, MoveAbortError, SignedBatch, Signer

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]

T = TypeVar("T")

NAMESPACE = "refusals"
CONSUMED = tuple(
    subject
    for subject in subjects.CATALOGUE
    if subject.stream is not None
    and subject.publishers <= {Service.GATEWAY, Service.ENCLAVE, Service.RELAY}
    and subject.consumers & {Service.GATEWAY, Service.ENCLAVE, Service.RELAY, Service.STORAGE}
    and subject.name.split(".")[0] in {"log", "placement", "enclave"}
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack with ten bound pods."""
    state: Path = tmp_path_factory.mktemp("refusals")
    async with running(state) as started, kube_of(started) as client:
        await create_nodes(client, [node(f"node-{n}") for n in range(3)])
        await create_namespace(client, NAMESPACE)
        await create_pods(client, [pod(f"pod-{n}", NAMESPACE) for n in range(10)])
        await wait_for_pods(client, NAMESPACE, lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)
        await wait_for(lambda: facts_with_bound(started, 10))
        yield started


async def facts_with_bound(stack: Stack, count: int) -> Facts | None:
    facts = await placement_facts(stack)
    return facts if len(facts.bound) >= count else None


async def wait_for(look: Callable[[], Awaitable[T | None]], timeout_s: float = 120.0) -> T:
    deadline = time.monotonic() + timeout_s
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        await asyncio.sleep(0.1)


async def publish(stack: Stack, subject: Subject, data: bytes, *, message_id: str, **headers: str) -> int:
    """Publishes as an attacker does: past our own library. Returns the stream sequence."""
    publisher = min(subject.publishers)
    sealed = envelope.seal(publisher, subject.event_type, message_id) | headers
    connection = await nats.connect(stack.nats.url)
    try:
        ack = await connection.jetstream().publish(subject.full(stack.cluster), data, headers=sealed)
        return ack.seq
    finally:
        await connection.close()


async def letter_for(stack: Stack, subject: Subject, sequence: int) -> DeadLetter:
    async def look() -> DeadLetter | None:
        for letter in await dead_letters(stack):
            if letter.subject == subject.full(stack.cluster) and letter.stream_sequence == sequence:
                return letter
        return None

    return await wait_for(look)


def counts(facts: Facts) -> tuple[int, ...]:
    return len(facts.anchored), len(facts.bound), len(facts.bind_failed)


@pytest.mark.parametrize("subject", CONSUMED, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", ["malformed", "forged", "oversized"])
async def test_a_bad_message_becomes_a_dead_letter_with_reason_and_bytes_and_has_no_effect(
    stack: Stack, subject: Subject, kind: str
) -> None:
    before = counts(await placement_facts(stack))
    data, headers, reasons = {
        "malformed": (b'{"schema": 1, "nonsense": [', {}, {"malformed-message", "malformed-entry", "entry-too-deep"}),
        "forged": (b'{"schema": 1}', {"ce-source": "monitor"}, {"forged"}),
        "oversized": (b" " * (subjects.MAX_MESSAGE_BYTES + 1), {}, {"oversize"}),
    }[kind]

    sequence = await publish(stack, subject, data, message_id=f"{kind}-{subject.name}", **headers)
    letter = await letter_for(stack, subject, sequence)

    assert letter.reason in reasons
    assert letter.message
    body = base64.b64decode(letter.body)
    assert body == (data[: len(body)] if letter.truncated else data)
    assert counts(await placement_facts(stack)) == before


async def newest_decision(stack: Stack) -> PlacementDecided:
    """The decision that the ledger's head is."""
    facts = await placement_facts(stack)
    head = max(facts.anchored, key=lambda anchor: anchor.sequence).payload_digest
    return next(decided for decided in facts.decided if decided.payload_digest == head)


async def test_a_decision_sent_twice_is_anchored_once_and_the_copy_is_a_dead_letter(stack: Stack) -> None:
    decided = await newest_decision(stack)
    before = counts(await placement_facts(stack))
    sequence = await publish(
        stack, subjects.PLACEMENT_DECIDED, messages.encode(decided), message_id="the-same-decision-again"
    )
    letter = await letter_for(stack, subjects.PLACEMENT_DECIDED, sequence)
    assert letter.reason == "duplicate"
    assert counts(await placement_facts(stack)) == before


async def test_a_message_with_a_known_id_is_stored_once(stack: Stack) -> None:
    first = await publish(stack, subjects.LOG_CLUSTER, tick(), message_id="one-tick")
    assert await publish(stack, subjects.LOG_CLUSTER, tick(), message_id="one-tick") == first


def tick() -> bytes:
    now_ms = time.time_ns() // 1_000_000
    return json.dumps({"schema": 1, "timestamp_ms": now_ms, "source": "gateway", "events": []}).encode()


def next_header(decided: PlacementDecided, **changes: object) -> Header:
    """A header that would be anchored next, were its signer registered."""
    fields = {
        "sequence": decided.header.sequence + 1,
        "previous": decided.payload_digest,
        "log_sequence": decided.header.log_sequence + 1,
        "count": 0,
        "decisions": "0" * 64,
    }
    return msgspec.structs.replace(decided.header, **(fields | changes))


def signed(header: Header, key: Ed25519PrivateKey, decided: PlacementDecided) -> PlacementDecided:
    timestamp_ms = time.time_ns() // 1_000_000
    message = intent_message(INTENT_PLACEMENT, timestamp_ms, header_bcs(header))
    return msgspec.structs.replace(
        decided,
        header=header,
        payload_digest=payload_digest(header).hex(),
        timestamp_ms=timestamp_ms,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(message).hex(),
        leaves=(),
    )


async def refused(stack: Stack, decided: PlacementDecided, message_id: str) -> str:
    """Publishes a decision; returns the reason of the refusal, which is a fact and a dead letter alike."""
    sequence = await publish(stack, subjects.PLACEMENT_DECIDED, messages.encode(decided), message_id=message_id)
    letter = await letter_for(stack, subjects.PLACEMENT_DECIDED, sequence)
    facts = [fact for fact in (await placement_facts(stack)).refused if fact.decided_sequence == sequence]
    assert [fact.reason for fact in facts] == [letter.reason]
    assert all(fact.simulated for fact in facts)
    return letter.reason


async def test_a_batch_signed_by_an_unregistered_key_is_refused_and_the_refusal_is_a_fact(stack: Stack) -> None:
    decided = await newest_decision(stack)
    forged = signed(next_header(decided), Ed25519PrivateKey.generate(), decided)
    assert await refused(stack, forged, "unregistered") == "unregistered-key"


async def test_an_altered_batch_is_refused_and_the_refusal_is_a_fact(stack: Stack) -> None:
    decided = await newest_decision(stack)
    header = next_header(decided)
    altered = msgspec.structs.replace(decided, header=header, payload_digest=payload_digest(header).hex(), leaves=())
    assert await refused(stack, altered, "altered") == "bad-signature"


async def test_the_ledger_itself_refuses_what_no_enclave_signed(stack: Stack) -> None:
    """Past the relay: the operator's own key can't anchor a forged, altered or misplaced batch."""
    context = stack.context()
    decided = await newest_decision(stack)
    signer = Signer.from_file(stack.state_dir / "operator.key")
    async with await Ledger.connect(context["ledger_url"], signer, package=context["package"]) as ledger:
        enclave = await registered_enclave(stack)

        async def anchor(header: Header, signature: bytes, timestamp_ms: int) -> str:
            batch = SignedBatch(header=header, timestamp_ms=timestamp_ms, signature=signature, enclave=enclave)
            with pytest.raises(MoveAbortError) as failure:
                await ledger.submit(await ledger.build_anchor(batch))
            return failure.value.name or ""

        now_ms = time.time_ns() // 1_000_000
        header = next_header(decided)
        key = Ed25519PrivateKey.generate()
        foreign = key.sign(intent_message(INTENT_PLACEMENT, now_ms, header_bcs(header)))
        assert await anchor(header, foreign, now_ms) == "EBadSignature"
        assert await anchor(next_header(decided, previous="11" * 32), foreign, now_ms) == "EWrongPredecessor"
        assert await anchor(decided.header, bytes.fromhex(decided.signature), decided.timestamp_ms) == "ESequenceTaken"
        assert await anchor(next_header(decided, sequence=999), foreign, now_ms) == "ESequenceAhead"


async def registered_enclave(stack: Stack) -> str:
    async with bus_of(stack) as bus:
        found = await newest(bus, subjects.ENCLAVE_REGISTERED, messages.EnclaveRegistered)
    assert found is not None
    return found[0].enclave


async def test_after_all_that_pods_are_still_placed(stack: Stack) -> None:
    async with kube_of(stack) as client:
        await create_pods(client, [pod(f"after-{n}", NAMESPACE) for n in range(10)])
        await wait_for_pods(
            client, NAMESPACE, lambda seen: len(seen) == 20 and all(p.spec.node_name for p in seen), timeout_s=120
        )
