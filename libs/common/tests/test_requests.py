"""Questions and answers between services: who may ask, what a refusal carries, and that nobody waits for ever."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from bus_stage import Stage

from daas.common.access import Question, ResourceRequest, Verdict
from daas.common.bus import Event
from daas.common.errors import (
    ConfigurationError,
    Conflict,
    DaasError,
    InvalidInput,
    NotFound,
    Refused,
    Unavailable,
)
from daas.common.subjects import PLACEMENT_DECIDED, POLICY_EVALUATE, Service

QUESTION = Question(
    request_id="r1",
    user="sui:0x1",
    groups=(),
    stake_mist=0,
    stake_version=0,
    request=ResourceRequest(verb="get", resource="pods"),
    time_ms=1,
)


async def yes(event: Event[Question]) -> Verdict:
    return Verdict(request_id=event.body.request_id, denied=False)


async def ask(
    stage: Stage, handler: Callable[[Event[Question]], Awaitable[Verdict]], timeout_s: float = 100
) -> Verdict:
    app = stage.app(Service.ENCLAVE)
    app.answer(POLICY_EVALUATE, Question)(handler)
    gateway = await stage.bus(Service.GATEWAY)
    async with stage.serving(app):
        return await gateway.request(POLICY_EVALUATE, QUESTION, Verdict, timeout_s=timeout_s)


@pytest.mark.connected
async def test_a_question_is_answered(stage: Stage) -> None:
    assert await ask(stage, yes) == Verdict(request_id="r1", denied=False)


@pytest.mark.connected
@pytest.mark.parametrize("kind", [InvalidInput, Refused, Conflict, NotFound, Unavailable])
async def test_a_refusal_arrives_as_what_it_was(stage: Stage, kind: type[DaasError]) -> None:
    async def refuse(_: Event[Question]) -> Verdict:
        raise kind("because", reason="test", field="user")

    with pytest.raises(kind) as refused:
        await ask(stage, refuse)
    assert (refused.value.message, refused.value.reason, refused.value.field) == ("because", "test", "user")


@pytest.mark.connected
async def test_a_service_that_fails_says_so_without_telling_how(stage: Stage) -> None:
    async def fail(_: Event[Question]) -> Verdict:
        raise ValueError("an inner secret")

    with pytest.raises(Unavailable, match="unexpected-error") as failed:
        await ask(stage, fail)
    assert "secret" not in str(failed.value)


@pytest.mark.connected
async def test_work_stops_when_nobody_waits_for_its_answer_any_more(stage: Stage) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def ponder(_: Event[Question]) -> Verdict:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    app = stage.app(Service.ENCLAVE)
    app.answer(POLICY_EVALUATE, Question)(ponder)
    gateway = await stage.bus(Service.GATEWAY)
    async with stage.serving(app):
        while not entered.is_set():  # a busy machine may take longer than the asker waits
            with pytest.raises(Unavailable, match="request-timeout"):
                await gateway.request(POLICY_EVALUATE, QUESTION, Verdict, timeout_s=0.2)
        await asyncio.wait_for(cancelled.wait(), 100)


@pytest.mark.connected
async def test_where_nobody_answers_the_asker_is_told_at_once(stage: Stage) -> None:
    gateway = await stage.bus(Service.GATEWAY)
    with pytest.raises(Unavailable, match="no-responders"):
        await gateway.request(POLICY_EVALUATE, QUESTION, Verdict, timeout_s=100)


@pytest.mark.connected
async def test_more_questions_than_can_be_worked_on_are_refused_and_not_kept_waiting(stage: Stage) -> None:
    open_, entered = asyncio.Event(), asyncio.Event()

    async def wait(event: Event[Question]) -> Verdict:
        entered.set()
        await open_.wait()
        return await yes(event)

    app = stage.app(Service.ENCLAVE)
    app.answer(POLICY_EVALUATE, Question, in_flight=1)(wait)
    gateway = await stage.bus(Service.GATEWAY)
    async with stage.serving(app):
        first = asyncio.create_task(gateway.request(POLICY_EVALUATE, QUESTION, Verdict, timeout_s=100))
        await asyncio.wait_for(entered.wait(), 100)
        with pytest.raises(Unavailable, match="busy"):
            await gateway.request(POLICY_EVALUATE, QUESTION, Verdict, timeout_s=100)
        open_.set()
        assert not (await first).denied


@pytest.mark.connected
async def test_only_those_whom_the_catalogue_names_may_ask_and_answer(stage: Stage) -> None:
    storage = await stage.bus(Service.STORAGE)
    with pytest.raises(Refused, match="not-a-publisher"):
        await storage.request(POLICY_EVALUATE, QUESTION, Verdict, timeout_s=1)
    gateway = await stage.bus(Service.GATEWAY)
    large = msgspec.structs.replace(QUESTION, user="x" * 5_000_000)
    with pytest.raises(InvalidInput, match="oversize"):
        await gateway.request(POLICY_EVALUATE, large, Verdict, timeout_s=1)
    app = stage.app(Service.ENCLAVE)
    with pytest.raises(InvalidInput, match="not-a-consumer"):
        stage.app(Service.RELAY).answer(POLICY_EVALUATE, Question)
    with pytest.raises(ConfigurationError, match="not-a-request"):
        stage.app(Service.RELAY).answer(PLACEMENT_DECIDED, Question)
    app.answer(POLICY_EVALUATE, Question)(yes)
    with pytest.raises(ConfigurationError, match="second-handler"):
        app.answer(POLICY_EVALUATE, Question)


@pytest.mark.connected
async def test_a_question_in_a_forged_envelope_is_refused(stage: Stage) -> None:
    app = stage.app(Service.ENCLAVE)
    app.answer(POLICY_EVALUATE, Question)(yes)
    relay = await stage.bus(Service.RELAY)
    async with stage.serving(app):
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-type": POLICY_EVALUATE.event_type,
            "ce-source": "relay",
            "daas-timeout-ms": "1000",
        }
        reply = await relay.client.request(POLICY_EVALUATE.full("dev"), b"{}", timeout=5, headers=headers)
        assert ((reply.headers or {})["daas-status"], b'"forged"' in reply.data) == ("Refused", True)
        bare = await relay.client.request(POLICY_EVALUATE.full("dev"), b"{}", timeout=5)
        assert b'"malformed-envelope"' in bare.data
