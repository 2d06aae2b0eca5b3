"""What becomes of messages that a service handles: redelivery, dead letters, lost consumers, restarts."""

import asyncio
import base64
from typing import Any

import pytest
from bus_stage import Stage
from prometheus_client import CollectorRegistry

from daas.common import merkle
from daas.common.bus import Bus, Event
from daas.common.bus.delivery import retry_delay_s
from daas.common.envelope import current_trace, seal
from daas.common.errors import InvalidInput, NotFound, Refused, Unavailable
from daas.common.messages import DeadLetter, EnclaveRevoked, decode
from daas.common.secretscan import require_public
from daas.common.service import ServiceApp
from daas.common.subjects import (
    ENCLAVE_REVOKED,
    MAX_MESSAGE_BYTES,
    Service,
    Stream,
    advisory_durable,
    durable_name,
    stream_name,
)

pytestmark = pytest.mark.connected

REVOKED = EnclaveRevoked(public_key="ab" * 32, enclave=None, reason="test", message="for a test", simulated=True)
STREAM = stream_name("dev", Stream.ENCLAVE)
DURABLE = durable_name(Service.STORAGE, ENCLAVE_REVOKED)
FULL = ENCLAVE_REVOKED.full("dev")


def recorder(app: ServiceApp, **options: Any) -> list[int]:
    """The app handles ENCLAVE_REVOKED and notes the sequences."""
    seen: list[int] = []

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked, **options)
    async def note(event: Event[EnclaveRevoked]) -> None:
        seen.append(event.sequence)

    return seen


async def publish(bus: Bus, count: int, begin: int = 1) -> None:
    for number in range(begin, begin + count):
        await bus.publish(ENCLAVE_REVOKED, REVOKED, message_id=f"revoked-{number}")


async def raw_publish(bus: Bus, data: bytes, headers: dict[str, str]) -> None:
    """What somebody without our library could send."""
    await bus.jetstream.publish(FULL, data, headers=headers)


async def letters(bus: Bus) -> list[DeadLetter]:
    first, last = await bus.stream_bounds(Stream.DLQ)
    return [decode((await bus.fetch(Stream.DLQ, n)).data, DeadLetter) for n in range(max(1, first), last + 1)]


async def settled(bus: Bus) -> bool:
    info = await bus.jetstream.consumer_info(STREAM, DURABLE)
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


def metric(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def test_a_message_is_handled_once_and_acknowledged(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    events: list[Event[EnclaveRevoked]] = []
    traces: list[str] = []

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked)
    async def note(event: Event[EnclaveRevoked]) -> None:
        events.append(event)
        trace = current_trace.get()
        traces.append(trace.trace_id if trace else "")

    async with stage.serving(app):
        traceparent = f"00-{'1' * 32}-{'2' * 16}-01"
        await bus.publish(ENCLAVE_REVOKED, REVOKED, message_id="x", traceparent=traceparent)
        await stage.until(lambda: events)
        await stage.until(lambda: settled(bus))
    assert len(events) == 1
    assert events[0].body == REVOKED
    assert (events[0].sequence, events[0].deliveries, events[0].traceparent) == (1, 1, traceparent)
    assert events[0].raw == (await bus.fetch(Stream.ENCLAVE, 1)).data
    assert traces == ["1" * 32]
    assert metric(app.metrics, "daas_handled_total", subject="enclave.revoked") == 1


async def test_of_a_message_that_holds_a_secret_the_dead_letter_has_a_digest_and_no_byte(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked)
    async def handler(event: Event[EnclaveRevoked]) -> None:
        require_public({"password": "swordfish", "reason": event.body.reason})

    async with stage.serving(app):
        await publish(bus, 1)
        await stage.until(lambda: letters(bus))
    (letter,) = await letters(bus)
    original = (await bus.fetch(Stream.ENCLAVE, 1)).data
    assert (letter.reason, letter.field, letter.body, letter.truncated) == ("secret-password", "$.password", "", True)
    assert letter.digest == merkle.digest(original).hex()
    assert "swordfish" not in str(letter)


async def test_what_cannot_be_taken_goes_to_the_dead_letter_stream_with_reason_and_original(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    seen = recorder(app)
    good = seal(Service.RELAY, ENCLAVE_REVOKED.event_type, "x")
    bad: list[tuple[str, bytes, dict[str, str]]] = [
        ("malformed-message", b'{"schema":1,', {}),
        ("malformed-message", b"\xff\xfe", {}),
        ("malformed-message", b'{"schema":1,"public_key":7}', {}),
        ("unknown-schema", REVOKED_OF_SCHEMA_9, {}),
        ("forged", b"{}", {"ce-source": "gateway"}),
        ("forged", b"{}", {"ce-source": "nobody"}),
        ("wrong-type", b"{}", {"ce-type": "daas.v1.placement.decided"}),
        ("malformed-envelope", b"{}", {"ce-specversion": "2.0"}),
        ("malformed-envelope", b"{}", {"ce-id": ""}),
        ("oversize", bytes(MAX_MESSAGE_BYTES + 1), {}),
    ]
    async with stage.serving(app):
        for number, (_, data, changes) in enumerate(bad):
            await raw_publish(bus, data, {**good, "Nats-Msg-Id": f"bad-{number}", **changes})
        await raw_publish(bus, b"no headers at all", {})
        await publish(bus, 1)
        await stage.until(lambda: seen)
        await stage.until(lambda: settled(bus))
    assert seen == [len(bad) + 2]
    found = {letter.stream_sequence or 0: letter for letter in await letters(bus)}
    assert sorted(found) == list(range(1, len(bad) + 2))
    for number, (reason, data, _) in enumerate(bad, start=1):
        letter = found[number]
        assert letter.reason == reason
        assert letter.subject == FULL
        assert data.startswith(base64.b64decode(letter.body))
        assert letter.truncated == (len(base64.b64decode(letter.body)) < len(data))
    assert found[len(bad) + 1].reason == "malformed-envelope"


REVOKED_OF_SCHEMA_9 = b'{"schema":9,"public_key":"%s","enclave":null,"reason":"r","message":"m","simulated":true}' % (
    b"ab" * 32
)


async def test_a_handler_that_refuses_buries_the_message_at_once(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    calls: list[int] = []

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked)
    async def refuse(event: Event[EnclaveRevoked]) -> None:
        calls.append(event.deliveries)
        if event.sequence == 1:
            raise Refused("the signature is wrong", reason="signature")
        raise InvalidInput("not a placement", reason="not-a-placement", field="$.x")

    async with stage.serving(app):
        await publish(bus, 2)
        await stage.until(lambda: settled(bus))
        await stage.until(lambda: len(calls) == 2)
    assert calls == [1, 1]
    assert sorted(letter.reason for letter in await letters(bus)) == ["not-a-placement", "signature"]


def test_the_pause_between_deliveries_doubles_up_to_ten_seconds() -> None:
    assert [retry_delay_s(n) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert retry_delay_s(10_000) == 10


async def test_a_failing_handler_gets_the_message_again_later_and_it_is_buried_in_the_end(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    deliveries: dict[int, list[int]] = {1: [], 2: [], 3: []}

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked, max_deliver=3)
    async def fail(event: Event[EnclaveRevoked]) -> None:
        deliveries[event.sequence].append(event.deliveries)
        if event.sequence == 1:
            raise Unavailable("etcd is away", reason="etcd-away")
        if event.sequence == 2:
            raise ZeroDivisionError
        if event.deliveries < 2:
            raise NotFound("not there yet", reason="not-yet")

    async with stage.serving(app):
        await publish(bus, 3)
        await stage.until(lambda: deliveries == {1: [1, 2, 3], 2: [1, 2, 3], 3: [1, 2]})
        await stage.until(lambda: settled(bus))
    found = {letter.stream_sequence: letter for letter in await letters(bus)}
    assert set(found) == {1, 2}
    assert (found[1].reason, found[1].deliveries) == ("etcd-away", 3)
    assert found[2].reason == "unexpected-error"
    assert metric(app.metrics, "daas_unexpected_errors_total", where="enclave.revoked") == 3
    assert metric(app.metrics, "daas_redelivered_total", subject="enclave.revoked") == 5
    assert metric(app.metrics, "daas_dead_letters_total", subject="enclave.revoked", reason="etcd-away") == 1


async def test_a_handler_that_takes_longer_than_ack_wait_is_not_called_twice(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    calls: list[int] = []

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked, ack_wait_s=1.0)
    async def slow(event: Event[EnclaveRevoked]) -> None:
        calls.append(event.deliveries)
        await asyncio.sleep(3.0)  # the subject of the test: three times ack_wait

    async with stage.serving(app):
        await publish(bus, 1)
        await stage.until(lambda: calls)
        await stage.until(lambda: settled(bus))
    assert calls == [1]


async def die_over(bus: Bus, times: int) -> None:
    """A process that takes the durable's message and says nothing, as often as that; then it is asked for no more."""
    subscription = await bus.jetstream.pull_subscribe_bind(consumer=DURABLE, stream=STREAM)
    for _ in range(times):
        (message,) = await subscription.fetch(1, timeout=10)
        assert message.metadata.num_delivered <= times
    with pytest.raises(TimeoutError):
        await subscription.fetch(1, timeout=2)
    await subscription.unsubscribe()


async def test_a_message_that_kills_its_service_is_buried_even_if_nobody_listened_to_the_advisory(stage: Stage) -> None:
    bus = await stage.bus(Service.RELAY)
    first, second = stage.app(Service.STORAGE), stage.app(Service.STORAGE)
    recorder(first, max_deliver=2, ack_wait_s=0.5)
    seen = recorder(second, max_deliver=2, ack_wait_s=0.5)
    async with stage.serving(first):
        pass
    await publish(bus, 1)
    await die_over(bus, 2)
    await stage.until(lambda: advisories_kept(bus, 1))
    assert await letters(bus) == []
    async with stage.serving(second):
        await stage.until(lambda: letters(bus))
        await publish(bus, 1, begin=2)
        await stage.until(lambda: seen)
    (letter,) = await letters(bus)
    assert (letter.reason, letter.stream_sequence, letter.deliveries) == ("max-deliveries", 1, 2)
    assert base64.b64decode(letter.body) == (await bus.fetch(Stream.ENCLAVE, 1)).data
    assert seen == [2]


async def advisories_kept(bus: Bus, count: int) -> bool:
    return (await bus.stream_bounds(Stream.ADVISORY))[1] >= count


async def test_a_delivery_terminated_by_hand_is_buried(stage: Stage) -> None:
    bus = await stage.bus(Service.RELAY)
    first, second = stage.app(Service.STORAGE), stage.app(Service.STORAGE)
    recorder(first)
    recorder(second)
    async with stage.serving(first):
        pass
    await publish(bus, 1)
    subscription = await bus.jetstream.pull_subscribe_bind(consumer=DURABLE, stream=STREAM)
    (message,) = await subscription.fetch(1, timeout=10)
    await message.term()
    await stage.until(lambda: advisories_kept(bus, 1))
    async with stage.serving(second):
        await stage.until(lambda: letters(bus))
    assert [(letter.reason, letter.stream_sequence) for letter in await letters(bus)] == [("terminated", 1)]


async def test_a_message_buried_by_its_handler_is_buried_once_though_the_server_reports_it_too(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    recorder(app)
    async with stage.serving(app):
        await raw_publish(bus, b"junk", {})
        await stage.until(lambda: advisories_kept(bus, 1))
        await stage.until(lambda: advisories_handled(bus))
    assert [letter.reason for letter in await letters(bus)] == ["malformed-envelope"]


async def advisories_handled(bus: Bus) -> bool:
    name = stream_name("dev", Stream.ADVISORY)
    info = await bus.jetstream.consumer_info(name, advisory_durable(Service.STORAGE))
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


async def test_a_deleted_consumer_is_made_again_and_goes_on_where_it_was(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    seen = recorder(app)
    async with stage.serving(app):
        await publish(bus, 3)
        await stage.until(lambda: settled(bus))
        await stage.until(lambda: place_noted(app, 3))
        await bus.jetstream.delete_consumer(STREAM, DURABLE)
        await stage.until(
            lambda: metric(app.metrics, "daas_consumer_repairs_total", subject="enclave.revoked"), "the repair"
        )
        await publish(bus, 2, begin=4)
        await stage.until(lambda: len(seen) >= 5)
        await stage.until(lambda: settled(bus))
    assert seen == [1, 2, 3, 4, 5]


def place_noted(app: ServiceApp, sequence: int) -> bool:
    place = app._subscribers[0]._place
    return place is not None and place[1] >= sequence


async def test_a_service_that_may_not_make_its_consumer_is_not_ready_until_it_is_there(stage: Stage) -> None:
    bus = await stage.bus(Service.RELAY)
    await bus.declare(consumers=True)
    app = stage.app(Service.STORAGE, nats_declare=False)
    seen = recorder(app)
    config = (await bus.jetstream.consumer_info(STREAM, DURABLE)).config
    async with stage.serving(app):
        await bus.jetstream.delete_consumer(STREAM, DURABLE)
        check = app._all_checks()["consumer:enclave.revoked"]

        async def not_ready() -> bool:
            try:
                await check()
            except NotFound as error:
                return error.reason == "consumer-missing"
            except Unavailable:
                return False
            return False

        await stage.until(not_ready)
        await bus.jetstream.add_consumer(STREAM, config)

        async def ready() -> bool:
            await check()
            return True

        await stage.until(ready)
        await publish(bus, 1)
        await stage.until(lambda: seen == [1])


async def test_a_stream_that_is_deleted_is_made_again_and_read_from_its_beginning(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    seen = recorder(app)
    async with stage.serving(app):
        await publish(bus, 3)
        await stage.until(lambda: settled(bus))
        await stage.until(lambda: place_noted(app, 3))
        await bus.jetstream.delete_stream(STREAM)
        await stage.until(
            lambda: metric(app.metrics, "daas_consumer_repairs_total", subject="enclave.revoked"), "the repair"
        )
        await publish(bus, 1, begin=4)
        await stage.until(lambda: len(seen) >= 4)
    assert seen == [1, 2, 3, 1]


async def test_a_consumer_deleted_after_its_stream_was_made_again_goes_on_where_it_was(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    seen = recorder(app)

    def repairs() -> float:
        return metric(app.metrics, "daas_consumer_repairs_total", subject="enclave.revoked")

    async with stage.serving(app):
        await publish(bus, 1)
        await stage.until(lambda: settled(bus))
        await bus.jetstream.delete_stream(STREAM)
        await stage.until(lambda: repairs() == 1, "the stream is made again")
        await publish(bus, 2, begin=2)
        await stage.until(lambda: len(seen) >= 3)
        await stage.until(lambda: settled(bus))
        await stage.until(lambda: place_noted(app, 2))
        await bus.jetstream.delete_consumer(STREAM, DURABLE)
        await stage.until(lambda: repairs() == 2, "the consumer is made again")
        await publish(bus, 1, begin=4)
        await stage.until(lambda: len(seen) >= 4)
        await stage.until(lambda: settled(bus))
    assert seen == [1, 1, 2, 3]


async def test_handling_resumes_without_loss_when_the_server_is_killed(stage: Stage) -> None:
    bus, app = await stage.bus(Service.RELAY), stage.app(Service.STORAGE)
    seen = recorder(app)
    async with stage.serving(app):
        await publish(bus, 20)
        await stage.until(lambda: len(set(seen)) >= 10)
        await stage.server.kill()
        await stage.server.restart()
        await publish(bus, 20, begin=21)
        await stage.until(lambda: set(seen) == set(range(1, 41)))
    assert metric(app.metrics, "daas_nats_reconnects_total") >= 1


async def test_a_stop_finishes_running_handlers_and_gives_back_the_rest(stage: Stage) -> None:
    bus = await stage.bus(Service.RELAY)
    first, second = stage.app(Service.STORAGE), stage.app(Service.STORAGE)
    begun: list[int] = []
    finished: list[int] = []
    proceed = asyncio.Event()

    @first.on(ENCLAVE_REVOKED, EnclaveRevoked, in_flight=4)
    async def wait(event: Event[EnclaveRevoked]) -> None:
        begun.append(event.sequence)
        await proceed.wait()
        finished.append(event.sequence)

    deliveries: dict[int, int] = {}

    @second.on(ENCLAVE_REVOKED, EnclaveRevoked)
    async def note(event: Event[EnclaveRevoked]) -> None:
        deliveries[event.sequence] = event.deliveries

    async with stage.serving(first) as serving:
        await publish(bus, 10)
        await stage.until(lambda: len(begun) == 4)
        first.stop()
        await stage.until(lambda: first._stopping)
        assert not serving.done()
        proceed.set()
        assert await serving == 0
    assert sorted(finished) == sorted(begun)
    async with stage.serving(second):
        await stage.until(lambda: set(deliveries) | set(finished) == set(range(1, 11)))
    assert not set(deliveries) & set(finished)


async def test_a_handler_that_does_not_finish_in_time_is_cancelled_and_its_message_comes_again(stage: Stage) -> None:
    bus = await stage.bus(Service.RELAY)
    first, second = stage.app(Service.STORAGE, stop_timeout_s=0.2), stage.app(Service.STORAGE)
    begun = asyncio.Event()

    @first.on(ENCLAVE_REVOKED, EnclaveRevoked, ack_wait_s=2)
    async def hang(_event: Event[EnclaveRevoked]) -> None:
        begun.set()
        await asyncio.Event().wait()

    seen = recorder(second, ack_wait_s=2)
    async with stage.serving(first):
        await publish(bus, 1)
        await begun.wait()
    async with stage.serving(second):
        await stage.until(lambda: seen == [1])
