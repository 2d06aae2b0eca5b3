"""A verdict counts where a registered enclave's key signed it about the very question; all else is no answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from support.access_signer import REGISTRY, AccessSigner

from daas.common.access import Question, ResourceRequest, Verdict
from daas.common.bus import Bus, BusSettings, Event
from daas.common.bus.requests import Answering
from daas.common.errors import Refused, Unavailable
from daas.common.messages import ChainStakeChanged, EnclaveRevoked
from daas.common.subjects import CHAIN_STAKE_CHANGED, ENCLAVE_REVOKED, POLICY_EVALUATE, Service
from daas.devstack.nats import NatsServer
from daas.gateway.webhooks.authorization import AccessReviewer
from daas.gateway.webhooks.enclaves import EnclaveKeys
from daas.gateway.webhooks.policy import BusPolicyEngine
from daas.gateway.webhooks.stake import StakeBook

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

SUI = 10**9
NOW_MS = 1_760_000_000_000
ALICE = "0x" + "ab" * 32
ENCLAVE = "0x" + "22" * 32
QUESTION = Question(
    request_id="r1",
    user=f"sui:{ALICE}",
    groups=(),
    stake_mist=5 * SUI,
    stake_version=1,
    request=ResourceRequest(verb="get", resource="pods", namespace="n"),
    time_ms=NOW_MS,
)
REVIEW = {
    "apiVersion": "authorization.k8s.io/v1",
    "kind": "SubjectAccessReview",
    "spec": {"user": f"sui:{ALICE}", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "n"}},
}
replace = msgspec.structs.replace


class Desk:
    """A gateway's questions, and an answerer on the bus who says what the test wants."""

    def __init__(self, relay: Bus, gateway: Bus) -> None:
        self.relay = relay
        self.metrics = CollectorRegistry()
        self.now_ms = NOW_MS
        self.enclave = AccessSigner(b"\x01" * 32)
        self.says: Callable[[Question], Verdict] = self.enclave.answer
        self.keys = EnclaveKeys(self.metrics, clock_ms=lambda: self.now_ms, clock_s=time.monotonic)
        self.engine = BusPolicyEngine(lambda: gateway, self.keys, self.metrics, timeout_s=100)

    async def answer(self, event: Event[Question]) -> Verdict:
        return self.says(event.body)

    def counted(self, outcome: str) -> float:
        return self.metrics.get_sample_value("daas_gateway_verdicts_total", {"outcome": outcome}) or 0.0

    async def refused(self, reason: str, question: Question = QUESTION) -> None:
        before = self.counted(reason)
        with pytest.raises(Unavailable) as refused:
            await self.engine.evaluate(question)
        assert refused.value.reason == reason
        assert self.counted(reason) == before + 1

    async def until_known(self, signer: AccessSigner, *, known: bool = True) -> None:
        """Waits until the keys' follower has read what was published about a key."""
        deadline = time.monotonic() + 100
        found: bool | None
        while True:
            try:
                await self.keys.check(signer.identity.public_key, REGISTRY)
                found = True
            except (Refused, Unavailable) as error:
                found = None if isinstance(error, Unavailable) else False
            if found is known:
                return
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with NatsServer(tmp_path / "nats") as nats:
        settings = BusSettings(nats_url=nats.url, cluster="test")
        async with (
            Bus(Service.RELAY, settings) as relay,
            Bus(Service.ENCLAVE, settings) as enclave,
            Bus(Service.GATEWAY, settings) as gateway,
        ):
            await relay.declare()
            made = Desk(relay, gateway)
            await made.enclave.register(relay, ENCLAVE)
            await Answering(enclave, POLICY_EVALUATE, Question, made.answer, 8).start()
            follower = asyncio.create_task(made.keys.run(lambda: gateway))
            await made.until_known(made.enclave)
            yield made
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)


async def test_what_the_registered_key_signed_about_this_question_counts(desk: Desk) -> None:
    assert not (await desk.engine.evaluate(QUESTION)).denied
    assert (await desk.engine.evaluate(replace(QUESTION, stake_mist=0))).denied
    assert desk.counted("signed") == 2


async def test_an_answerer_without_an_enclaves_key_is_no_engine_and_nobody_gets_through(desk: Desk) -> None:
    forger = AccessSigner(b"\x02" * 32)
    desk.says = forger.answer
    await desk.refused("enclave-key")
    desk.says = lambda question: Verdict(request_id=question.request_id, denied=False)
    await desk.refused("access-signature")

    # The webhook denies, and after five such answers asks nobody for a while.
    book = StakeBook(None, CollectorRegistry())
    book_follower = asyncio.create_task(book.run(lambda: desk.relay))
    fact = ChainStakeChanged(
        registry=REGISTRY,
        tx_digest="t",
        event_index=0,
        checkpoint=1,
        timestamp_ms=1,
        simulated=True,
        account=ALICE,
        change="deposited",
        amount_mist=0,
        bonded_mist=5 * SUI,
        unbonding_mist=0,
    )
    await desk.relay.publish(CHAIN_STAKE_CHANGED, fact, message_id="s")
    deadline = time.monotonic() + 100
    while not (book.complete and book.held(ALICE).version):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    reviewer = AccessReviewer(
        desk.engine, book, clock_ms=lambda: NOW_MS, clock_s=lambda: 1000.0, registry=CollectorRegistry()
    )
    for _ in range(5):
        status = (await reviewer.review(REVIEW))["status"]
        assert status["denied"]
        assert "stake can't be checked: the answer is not the policy engine's" in status["reason"]
    assert reviewer.breaker.open
    desk.says = desk.enclave.answer
    assert (await reviewer.review(REVIEW))["status"]["denied"]
    book_follower.cancel()
    await asyncio.gather(book_follower, return_exceptions=True)


async def test_a_signed_answer_that_is_turned_replayed_or_edited_is_refused(desk: Desk) -> None:
    def edited(**change: object) -> Callable[[Question], Verdict]:
        def say(question: Question) -> Verdict:
            verdict = desk.enclave.answer(question)
            assert verdict.proof is not None
            (record,) = verdict.proof.decisions
            return replace(verdict, proof=replace(verdict.proof, decisions=(replace(record, **change),)))

        return say

    poor = replace(QUESTION, stake_mist=0)
    desk.says = lambda question: replace(desk.enclave.answer(question), denied=False)
    await desk.refused("access-answer", poor)
    desk.says = edited(allowed=True, outcome="permitted", policies=("members-work",))
    await desk.refused("access-signature", poor)
    desk.says = lambda question: desk.enclave.answer(replace(question, time_ms=question.time_ms - 3_600_000))
    await desk.refused("access-question")
    desk.says = lambda question: desk.enclave.answer(replace(question, stake_mist=2000 * SUI))
    await desk.refused("access-question", poor)
    desk.says = lambda question: replace(desk.enclave.answer(question), request_id="r2")
    await desk.refused("access-question")
    forger = AccessSigner(b"\x02" * 32)

    def borrowed(question: Question) -> Verdict:
        verdict = forger.answer(question)
        assert verdict.proof is not None
        return replace(verdict, proof=replace(verdict.proof, public_key=desk.enclave.identity.public_key))

    desk.says = borrowed
    await desk.refused("access-signature")


async def test_a_key_that_is_revoked_expired_or_of_another_registry_signs_no_more(desk: Desk) -> None:
    other = AccessSigner(b"\x03" * 32, registry="0x" + "33" * 32)
    await other.register(desk.relay, "0x" + "44" * 32)
    desk.says = other.answer
    await desk.refused("enclave-key")

    desk.says = desk.enclave.answer
    desk.now_ms = 2**52
    await desk.refused("enclave-key")
    desk.now_ms = NOW_MS

    def revocation(enclave: str | None, reason: str) -> EnclaveRevoked:
        key = desk.enclave.identity.public_key
        return EnclaveRevoked(public_key=key, enclave=enclave, reason=reason, message="m", simulated=True)

    await desk.relay.publish(ENCLAVE_REVOKED, revocation(None, "stale"), message_id="1")
    assert not (await desk.engine.evaluate(QUESTION)).denied
    await desk.relay.publish(ENCLAVE_REVOKED, revocation(ENCLAVE, "revoked"), message_id="2")
    await desk.until_known(desk.enclave, known=False)
    await desk.refused("enclave-key")
