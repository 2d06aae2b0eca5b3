"""Publishing, looking up, reading in order, and objects, against a real nats-server."""

import asyncio
import os
import signal
from contextlib import aclosing, suppress
from typing import Any

import msgspec
import pytest
from bus_stage import Stage

from daas.common.bus import Bus, BusSettings, StoredMessage
from daas.common.errors import DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.common.messages import DeadLetter, decode
from daas.common.subjects import (
    LOG_CLUSTER,
    MAX_MESSAGE_BYTES,
    PLACEMENT_ANCHORED,
    PLACEMENT_BOUND,
    PLACEMENT_DECIDED,
    POLICY_EVALUATE,
    SNAPSHOT_BUCKET,
    Service,
    Stream,
    stream_name,
)

pytestmark = pytest.mark.connected


async def fill(bus: Bus, count: int, *, begin: int = 1) -> None:
    for number in range(begin, begin + count):
        assert await bus.publish(LOG_CLUSTER, b"%d" % number, message_id=f"entry-{number}") == number


async def read_some(bus: Bus, count: int, **options: Any) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    async with aclosing(bus.read(Stream.LOG, **options)) as messages:
        async for message in messages:
            found.append(message)
            if len(found) == count:
                break
    return found


async def test_the_same_message_id_is_stored_once(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    first = await bus.publish(LOG_CLUSTER, b"{}", message_id="same")
    assert await bus.publish(LOG_CLUSTER, b"{}", message_id="same") == first
    assert await bus.stream_bounds(Stream.LOG) == (first, first)


async def test_the_same_message_id_is_stored_once_even_across_a_killed_server(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    first = await bus.publish(LOG_CLUSTER, b"{}", message_id="same")
    await stage.server.kill()
    await stage.server.restart()
    assert await bus.publish(LOG_CLUSTER, b"{}", message_id="same") == first


async def test_a_message_carries_its_cloudevents_envelope(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    sequence = await bus.publish(LOG_CLUSTER, b"{}", message_id="entry-1", time_ms=1_732_260_000_000)
    headers = (await bus.fetch(Stream.LOG, sequence)).headers
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-id"] == headers["Nats-Msg-Id"] == "entry-1"
    assert headers["ce-type"] == "daas.v1.log.cluster"
    assert headers["ce-source"] == "gateway"
    assert headers["ce-time"] == "2024-11-22T07:20:00.000Z"
    assert headers["traceparent"].startswith("00-")


async def test_a_stored_message_is_found_by_sequence_and_as_the_last_of_its_subject(stage: Stage) -> None:
    bus = await stage.bus(Service.RELAY)
    await bus.declare()
    assert await bus.last(PLACEMENT_ANCHORED) is None
    assert await bus.stream_bounds(Stream.PLACEMENT) == (0, 0)
    sequence = await bus.publish(PLACEMENT_ANCHORED, b"body", message_id="one")
    found = await bus.fetch(Stream.PLACEMENT, sequence)
    assert (found.subject, found.sequence, found.data) == ("daas.v1.dev.placement.anchored", sequence, b"body")
    assert await bus.last(PLACEMENT_ANCHORED) == found
    assert await bus.last(PLACEMENT_DECIDED) is None
    with pytest.raises(NotFound, match="no-message"):
        await bus.fetch(Stream.PLACEMENT, sequence + 1)


async def test_what_may_not_be_published_is_refused_before_it_is_sent(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    with pytest.raises(Refused, match="not-a-publisher"):
        await bus.publish(PLACEMENT_DECIDED, b"{}", message_id="x")
    with pytest.raises(InvalidInput, match="no-stream"):
        await bus.publish(POLICY_EVALUATE, b"{}", message_id="x")
    with pytest.raises(InvalidInput, match="oversize"):
        await bus.publish(LOG_CLUSTER, bytes(MAX_MESSAGE_BYTES + 1), message_id="x")
    for unfit in ("", "two words", "line\nbreak", "x" * 257):
        with pytest.raises(InvalidInput, match="message-id"):
            await bus.publish(LOG_CLUSTER, b"{}", message_id=unfit)


async def test_the_largest_message_is_stored_read_and_buried(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    largest = bytes(MAX_MESSAGE_BYTES)
    sequence = await bus.publish(LOG_CLUSTER, largest, message_id="largest")
    assert (await read_some(bus, 1))[0].data == largest
    await bus.dead_letter(await bus.fetch(Stream.LOG, sequence), InvalidInput("too much", reason="test"))
    letter = decode((await bus.fetch(Stream.DLQ, 1)).data, DeadLetter)
    assert letter.truncated
    assert letter.stream_sequence == sequence


async def test_a_publish_waits_out_a_restart_of_the_server(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    await fill(bus, 3)
    await stage.server.kill()
    publishing = asyncio.gather(*(bus.publish(LOG_CLUSTER, b"%d" % n, message_id=f"late-{n}") for n in range(200)))
    await stage.server.restart()
    assert sorted(await publishing) == list(range(4, 204))


async def test_a_publish_gives_up_in_the_end(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY, nats_publish_timeout_s=0.5)
    await bus.declare()
    await stage.server.kill()
    with pytest.raises(Unavailable):
        await bus.publish(LOG_CLUSTER, b"{}", message_id="x")


async def test_connecting_gives_up_in_the_end_and_says_where(stage: Stage) -> None:
    await stage.server.kill()
    settings = BusSettings(nats_url=stage.server.url, nats_start_timeout_s=0.5)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1.*nats-unreachable"):
        await Bus.connect(Service.GATEWAY, settings)


async def test_declaring_twice_changes_nothing(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare(consumers=True)
    await fill(bus, 2)
    await bus.declare(consumers=True)
    assert await bus.stream_bounds(Stream.LOG) == (1, 2)


async def test_a_stream_is_read_in_order_from_any_place_and_followed(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    await fill(bus, 300)
    assert [m.sequence for m in await read_some(bus, 300)] == list(range(1, 301))
    assert [m.data for m in await read_some(bus, 2, start=299)] == [b"299", b"300"]
    following = asyncio.create_task(read_some(bus, 2, start=300))
    await fill(bus, 1, begin=301)
    assert [m.sequence for m in await following] == [300, 301]


async def test_reading_can_be_limited_to_subjects(stage: Stage) -> None:
    relay, gateway = await stage.bus(Service.RELAY), await stage.bus(Service.GATEWAY)
    await relay.declare()
    for number in range(3):
        await relay.publish(PLACEMENT_ANCHORED, b"a", message_id=f"a{number}")
        await gateway.publish(PLACEMENT_BOUND, b"b", message_id=f"b{number}")
    found: list[bytes] = []
    async with aclosing(relay.read(Stream.PLACEMENT, subjects=[PLACEMENT_BOUND])) as messages:
        async for message in messages:
            found.append(message.data)
            if len(found) == 3:
                break
    assert found == [b"b", b"b", b"b"]


async def test_reading_goes_on_without_gap_or_repetition_when_the_server_is_killed(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    await fill(bus, 100)
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(bus.read(Stream.LOG)) as messages:
            async for message in messages:
                seen.append(message.sequence)
                if len(seen) == 200:
                    return

    following = asyncio.create_task(follow())
    await stage.until(lambda: len(seen) >= 100)
    await stage.server.kill()
    await stage.server.restart()
    await fill(bus, 100, begin=101)
    await asyncio.wait_for(following, 100)
    assert seen == list(range(1, 201))


async def test_reading_goes_on_when_its_consumer_is_deleted(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    await fill(bus, 5)
    following = asyncio.create_task(read_some(bus, 10))
    name = stream_name("dev", Stream.LOG)
    await stage.until(lambda: consumers(bus, name))
    for consumer in await consumers(bus, name):
        await bus.jetstream.delete_consumer(name, consumer)
    await fill(bus, 5, begin=6)
    assert [m.sequence for m in await asyncio.wait_for(following, 100)] == list(range(1, 11))


async def consumers(bus: Bus, stream: str) -> list[str]:
    return [info.name for info in await bus.jetstream.consumers_info(stream)]


async def test_a_server_that_answers_too_late_is_heard_from_then_on(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    os.kill(stage.server.process.pid, signal.SIGSTOP)
    try:
        await stage.until(lambda: answers_too_late(bus), "the server is paused")
    finally:
        os.kill(stage.server.process.pid, signal.SIGCONT)
    await stage.until(lambda: answers(bus), "the server answers")
    await fill(bus, 3)
    assert [m.sequence for m in await read_some(bus, 3)] == [1, 2, 3]
    assert bus.metrics.reconnects._value.get() == 0, "the connection is the same"


async def answers_too_late(bus: Bus) -> bool:
    try:
        await bus.check()
    except Unavailable as error:
        return error.reason == "nats-timeout"
    return False


async def answers(bus: Bus) -> bool:
    await bus.check()
    return True


async def test_a_connection_that_nobody_reads_any_more_is_made_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()

    async def unexpected() -> None:
        raise ValueError

    with monkeypatch.context() as patch, suppress(Unavailable):
        patch.setattr(bus.client, "_process_pong", unexpected)
        await bus.check()
    await fill(bus, 3)
    assert [m.sequence for m in await read_some(bus, 3)] == [1, 2, 3]
    assert bus.metrics.reconnects._value.get() == 1


async def test_reading_refuses_a_gap(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    await fill(bus, 5)
    await bus.jetstream.purge_stream(stream_name("dev", Stream.LOG), keep=2)
    with pytest.raises(NotFound, match=r"1\.\.3.*gap"):
        await read_some(bus, 1)
    assert [m.sequence for m in await read_some(bus, 2, start=4)] == [4, 5]


async def test_reading_refuses_a_stream_that_ends_before_the_place_to_go_on(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    await fill(bus, 2)
    with pytest.raises(NotFound, match="gap"):
        await read_some(bus, 1, start=4)


async def test_objects_are_put_replaced_listed_and_deleted(stage: Stage) -> None:
    bus = await stage.bus(Service.ENCLAVE)
    await bus.declare()
    large = bytes(range(256)) * 4096
    await bus.put_object(SNAPSHOT_BUCKET, "7", large)
    await bus.put_object(SNAPSHOT_BUCKET, "8", b"old")
    await bus.put_object(SNAPSHOT_BUCKET, "8", b"new")
    assert await bus.list_objects(SNAPSHOT_BUCKET) == ["7", "8"]
    assert await bus.get_object(SNAPSHOT_BUCKET, "7") == large
    assert await bus.get_object(SNAPSHOT_BUCKET, "8") == b"new"
    await bus.delete_object(SNAPSHOT_BUCKET, "7")
    await bus.delete_object(SNAPSHOT_BUCKET, "7")
    assert await bus.list_objects(SNAPSHOT_BUCKET) == ["8"]
    with pytest.raises(NotFound, match="no-object"):
        await bus.get_object(SNAPSHOT_BUCKET, "7")


async def test_an_empty_bucket_and_an_empty_object_are_no_errors(stage: Stage) -> None:
    bus = await stage.bus(Service.ENCLAVE)
    await bus.declare()
    assert await bus.list_objects(SNAPSHOT_BUCKET) == []
    await bus.put_object(SNAPSHOT_BUCKET, "empty", b"")
    assert await bus.get_object(SNAPSHOT_BUCKET, "empty") == b""


async def test_a_dead_letter_holds_the_original_and_the_reason_once(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY)
    await bus.declare()
    sequence = await bus.publish(LOG_CLUSTER, b"\xff original", message_id="x")
    original = await bus.fetch(Stream.LOG, sequence)
    for _ in range(2):
        await bus.dead_letter(original, InvalidInput("it is bad", reason="bad", field="$.a"), deliveries=3)
    assert await bus.stream_bounds(Stream.DLQ) == (1, 1)
    stored = await bus.fetch(Stream.DLQ, 1)
    assert stored.subject == "daas.v1.dev.dlq.log"
    letter = decode(stored.data, DeadLetter)
    assert msgspec.json.decode(f'"{letter.body}"', type=bytes) == b"\xff original"
    assert (letter.reason, letter.message, letter.field, letter.deliveries) == ("bad", "it is bad", "$.a", 3)
    assert (letter.stream, letter.stream_sequence, letter.service) == ("LOG", sequence, "gateway")
    assert letter.headers["ce-id"] == "x"


async def test_a_bus_that_is_closed_says_so(stage: Stage) -> None:
    bus = await stage.bus(Service.GATEWAY, nats_publish_timeout_s=0.2)
    await bus.check()
    await bus.close()
    with pytest.raises(DaasError, match="nats-disconnected"):
        await bus.check()
    with pytest.raises(DaasError, match="nats-disconnected"):
        await bus.publish(LOG_CLUSTER, b"{}", message_id="x")
