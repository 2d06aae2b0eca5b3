"""What each service may do on a server with users, and that the server holds it to that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from daas.common.access import Question, ResourceRequest, Verdict
from daas.common.bus import Bus, BusSettings, Event
from daas.common.errors import ConfigurationError, InvalidInput, Refused
from daas.common.messages import PlacementAnchored
from daas.common.nats_config import authorization, inbox_prefix, permissions
from daas.common.nkeys import keep_nkey
from daas.common.service import ServiceApp, ServiceSettings
from daas.common.subjects import (
    CATALOGUE,
    LOG_CLUSTER,
    PLACEMENT_ANCHORED,
    PLACEMENT_BOUND,
    PLACEMENT_DECIDED,
    POLICY_EVALUATE,
    SNAPSHOT_BUCKET,
    Service,
    Stream,
    stream_name,
)
from daas.devstack.nats import NatsServer

PASSWORDS = {service: f"{service.value}-password-for-a-test" for service in Service}


def test_a_service_may_publish_its_own_facts_and_nobody_elses() -> None:
    for service in set(Service) - {Service.OPERATOR}:
        granted = permissions("dev", service).publish
        for subject in CATALOGUE:
            assert (subject.full("dev") in granted) == (service in subject.publishers)


def test_nobody_but_the_operator_may_make_alter_or_delete_streams() -> None:
    for service in set(Service) - {Service.OPERATOR}:
        for pattern in permissions("dev", service).publish:
            assert not pattern.startswith(("$JS.API.STREAM.CREATE", "$JS.API.STREAM.UPDATE", "$JS.API.STREAM.DELETE"))
            assert pattern not in {">", "$JS.>", "$JS.API.>"}


def test_services_hear_only_their_own_inbox_and_the_requests_they_answer() -> None:
    assert permissions("dev", Service.GATEWAY).subscribe == ("_INBOX_gateway.>",)
    requests = ("allocation.plan", "policy.evaluate", "rebalance.plan")
    answered = tuple(f"daas.v1.dev.{name}" for name in requests)
    assert permissions("dev", Service.ENCLAVE).subscribe == ("_INBOX_enclave.>", *answered)
    assert permissions("dev", Service.ENCLAVE).answers
    assert len({inbox_prefix(service) for service in Service}) == len(Service)


def test_credentials_are_separate_and_long() -> None:
    with pytest.raises(ConfigurationError, match="nats-credentials"):
        authorization("dev", {Service.GATEWAY: "the-same-password", Service.RELAY: "the-same-password"})
    with pytest.raises(ConfigurationError, match="nats-credentials"):
        authorization("dev", {Service.GATEWAY: "short"})
    nkey = "U" + "A" * 55
    assert f'"nkey": "{nkey}"' in authorization("dev", {Service.GATEWAY: nkey})


def settings(server: NatsServer, service: Service) -> ServiceSettings:
    return ServiceSettings(
        nats_url=server.url,
        nats_user=service.value,
        nats_password=SecretStr(PASSWORDS[service]),
        nats_start_timeout_s=10,
    )


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats", config=authorization("dev", PASSWORDS)) as server:
        async with Bus(Service.OPERATOR, settings(server, Service.OPERATOR)) as operator:
            await operator.declare(consumers=True)
            await operator.check()
        yield server


@pytest.mark.connected
async def test_questions_reach_who_answers_and_nobody_else_may_ask_or_listen(guarded: NatsServer) -> None:
    app = ServiceApp(Service.ENCLAVE, settings(guarded, Service.ENCLAVE))

    @app.answer(POLICY_EVALUATE, Question)
    async def answer(event: Event[Question]) -> Verdict:
        return Verdict(request_id=event.body.request_id, denied=False)

    question = Question(
        request_id="r",
        user="sui:0x1",
        groups=(),
        stake_mist=0,
        stake_version=0,
        request=ResourceRequest(verb="get", resource="pods"),
        time_ms=1,
    )
    full = POLICY_EVALUATE.full("dev")
    async with (
        Bus(Service.GATEWAY, settings(guarded, Service.GATEWAY)) as gateway,
        Bus(Service.RELAY, settings(guarded, Service.RELAY)) as relay,
        serving(app),
    ):
        for _ in range(3):
            verdict = await gateway.request(POLICY_EVALUATE, question, Verdict, timeout_s=20)
            assert verdict.request_id == "r"
        assert gateway.denied == app.bus.denied == {}
        await relay.client.publish(full, b"{}")
        await relay.client.subscribe(full)
        await relay.client.flush(10)
        assert full in relay.denied


@pytest.mark.connected
async def test_a_service_does_all_it_should_and_is_refused_nothing(guarded: NatsServer) -> None:
    async with (
        Bus(Service.ENCLAVE, settings(guarded, Service.ENCLAVE)) as enclave,
        Bus(Service.RELAY, settings(guarded, Service.RELAY)) as relay,
        Bus(Service.STORAGE, settings(guarded, Service.STORAGE)) as storage,
    ):
        app = ServiceApp(Service.GATEWAY, settings(guarded, Service.GATEWAY))
        seen = asyncio.Event()

        @app.on(PLACEMENT_ANCHORED, PlacementAnchored)
        async def anchored(event: Event[PlacementAnchored]) -> None:
            if event.body.sequence == 1:
                raise InvalidInput("for a test", reason="test")
            assert await app.bus.fetch(Stream.PLACEMENT, event.body.decided_sequence)
            await app.bus.publish(PLACEMENT_BOUND, b"{}", message_id="bound")
            seen.set()

        async with serving(app):
            await app.bus.publish(LOG_CLUSTER, b"{}", message_id="entry-1")
            async with aclosing(enclave.read(Stream.LOG)) as entries:
                assert (await anext(entries)).data == b"{}"
            decided = await enclave.publish(PLACEMENT_DECIDED, b"{}", message_id="decided-1")
            for number in (1, 2):
                await relay.publish(PLACEMENT_ANCHORED, anchored_as(number, decided), message_id=f"anchored-{number}")
            await asyncio.wait_for(seen.wait(), 100)
            assert await app.bus.last(PLACEMENT_BOUND)
            assert app.bus.denied == {}
        await enclave.put_object(SNAPSHOT_BUCKET, "1", b"state")
        assert await storage.get_object(SNAPSHOT_BUCKET, "1") == b"state"
        assert await storage.list_objects(SNAPSHOT_BUCKET) == ["1"]
        await enclave.put_object(SNAPSHOT_BUCKET, "1", b"newer state")
        await enclave.delete_object(SNAPSHOT_BUCKET, "1")
        for bus in (enclave, relay, storage):
            await bus.check()
            assert bus.denied == {}


def anchored_as(number: int, decided: int) -> PlacementAnchored:
    return PlacementAnchored(
        sequence=number,
        payload_digest="00" * 32,
        public_key="00" * 32,
        decided_sequence=decided,
        tx_digest="tx",
        checkpoint=None,
        timestamp_ms=0,
        simulated=True,
    )


@asynccontextmanager
async def serving(app: ServiceApp) -> AsyncIterator[None]:
    task = asyncio.create_task(app.serve())
    try:
        await asyncio.wait_for(app.ready.wait(), 100)
        yield
    finally:
        app.stop()
        assert await task == 0


async def refusal(bus: Bus, subject: str) -> None:
    """Waits until the server's refusal of the subject has come."""
    async with asyncio.timeout(100):
        while subject.lower() not in bus.denied:
            await bus.client.flush()


@pytest.mark.connected
async def test_a_gateway_cannot_publish_a_decision_and_the_refusal_shows(guarded: NatsServer) -> None:
    async with Bus(Service.GATEWAY, settings(guarded, Service.GATEWAY)) as gateway:
        full = PLACEMENT_DECIDED.full("dev")
        await gateway.client.publish(full, b"forged")
        await refusal(gateway, full)
        with pytest.raises(Refused, match="nats-permissions"):
            await gateway.check()
        assert await gateway.last(PLACEMENT_DECIDED) is None


@pytest.mark.connected
async def test_a_service_cannot_make_streams_write_buckets_or_listen_to_others(guarded: NatsServer) -> None:
    async with Bus(Service.GATEWAY, settings(guarded, Service.GATEWAY)) as gateway:
        name = stream_name("dev", Stream.LOG)
        for subject in (f"$JS.API.STREAM.DELETE.{name}", f"$JS.API.STREAM.PURGE.{name}", "$O.dev-snapshots.M.x"):
            await gateway.client.publish(subject, b"")
            await refusal(gateway, subject)
        for subject in ("_INBOX_relay.>", "daas.v1.dev.>", ">"):
            await gateway.client.subscribe(subject)
            await refusal(gateway, subject)


@pytest.mark.connected
async def test_a_wrong_password_is_refused_at_once(guarded: NatsServer) -> None:
    wrong = BusSettings(
        nats_url=guarded.url, nats_user="gateway", nats_password=SecretStr("wrong"), nats_start_timeout_s=30
    )
    with pytest.raises(Refused, match="nats-authorization") as refused:
        await Bus.connect(Service.GATEWAY, wrong)
    assert "wrong" not in str(refused.value)


@pytest.mark.connected
async def test_an_nkey_seed_that_is_none_is_refused_without_being_quoted(guarded: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("not a seed")
    broken = BusSettings(nats_url=guarded.url, nats_nkey_file=tmp_path / "seed", nats_start_timeout_s=30)
    with pytest.raises((Refused, ConfigurationError)) as refused:
        await Bus.connect(Service.GATEWAY, broken)
    assert "not a seed" not in str(refused.value)


@pytest.mark.connected
async def test_a_service_signs_in_with_its_nkey_again_and_again(tmp_path: Path) -> None:
    public = keep_nkey(tmp_path / "operator.nk")
    config = authorization("dev", {Service.OPERATOR: public})
    settings = BusSettings(nats_url="nats://127.0.0.1:1", nats_nkey_file=tmp_path / "operator.nk")
    async with NatsServer(tmp_path / "nats", config=config) as server:
        settings = settings.model_copy(update={"nats_url": server.url})
        async with await Bus.connect(Service.OPERATOR, settings) as bus:
            await bus.declare()
            await server.kill()
            await server.restart()
            assert (await bus.stream_bounds(Stream.LOG))[1] == 0
        keep_nkey(tmp_path / "stranger.nk")
        stranger = settings.model_copy(update={"nats_nkey_file": tmp_path / "stranger.nk"})
        with pytest.raises(Refused, match="nats-authorization"):
            await Bus.connect(Service.OPERATOR, stranger)
