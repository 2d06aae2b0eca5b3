"""Burying what the server gave up on.

When a service dies over a message as often as `max_deliver` says, or somebody terminates a delivery by hand, nothing of
ours runs: the server drops the message from the durable and only publishes an advisory. The advisories of all streams
are kept in a stream of their own, and each service reads those about its own durables, also those from when it was
down, and puts the original into the dead-letter stream.
"""

from typing import TYPE_CHECKING, Any

import msgspec
from faststream.exceptions import NackMessage
from faststream.nats import NatsMessage
from nats.js import api

from daas.common.bus.declarations import DurableOptions, consumer_config
from daas.common.bus.delivery import retry_delay_s
from daas.common.bus.message import StoredMessage
from daas.common.bus.subscriber import DurableSubscriber
from daas.common.errors import DaasError, NotFound, Refused
from daas.common.logs import get_logger
from daas.common.subjects import (
    ADVISORIES,
    CATALOGUE,
    Service,
    Stream,
    Subject,
    advisory_durable,
    durable_name,
    stream_name,
)

if TYPE_CHECKING:
    from daas.common.bus.connection import Bus

log = get_logger("advisories")

#: Never given up: losing an advisory would lose a message silently. The stream's age limit is the bound.
_OPTIONS = DurableOptions(in_flight=8, max_deliver=-1)


class Advisory(msgspec.Struct, frozen=True):
    """The fields we read of io.nats.jetstream.advisory.v1.max_deliver and .terminated."""

    type: str
    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0
    reason: str = ""


def advisory_config(cluster: str, service: Service) -> api.ConsumerConfig:
    """The durable under which a service reads the advisories about all durables that the catalogue gives it."""
    filters = sorted(
        f"{advisory}.{stream_name(cluster, subject.stream)}.{durable_name(service, subject)}"
        for advisory in ADVISORIES
        for subject in CATALOGUE
        if service in subject.consumers and subject.stream is not None
    )
    return consumer_config(advisory_durable(service), filters, _OPTIONS)


def watch_advisories(bus: "Bus", subjects: list[Subject]) -> DurableSubscriber:
    """A subscriber to the advisories about this service's durables on `subjects`, which all are kept in streams."""
    durables = {
        (stream_name(bus.cluster, subject.stream), durable_name(bus.service, subject)): subject
        for subject in subjects
        if subject.stream is not None
    }
    config = advisory_config(bus.cluster, bus.service)
    subscriber = DurableSubscriber(bus, Stream.ADVISORY, config, _OPTIONS, "advisories")

    async def handle(message: NatsMessage) -> None:
        deliveries = message.raw_message.metadata.num_delivered
        try:
            advisory = msgspec.json.decode(message.raw_message.data, type=Advisory)
        except msgspec.MsgspecError as error:
            log.warning("an advisory that can't be read", subject=message.raw_message.subject, error=error)
            return
        subject = durables.get((advisory.stream, advisory.consumer))
        if subject is None or subject.stream is None:
            return
        try:
            await _bury(bus, subject, subject.stream, advisory)
        except DaasError as error:
            log.warning("an advisory is not dealt with yet", subject=subject.name, error=error)
            raise NackMessage(delay=retry_delay_s(deliveries)) from None

    subscriber.call(handle)
    return subscriber


async def _bury(bus: "Bus", subject: Subject, stream: Stream, advisory: Advisory) -> None:
    terminated = advisory.type.endswith("terminated")
    reason = "terminated" if terminated else "max-deliveries"
    text = advisory.reason or ("delivery was terminated" if terminated else "no delivery was ever acknowledged")
    try:
        original = await bus.fetch(stream, advisory.stream_seq)
    except NotFound:
        original = StoredMessage(subject.full(bus.cluster), advisory.stream_seq, b"", dict[str, Any](), 0)
        text = f"{text}; the original has been removed by its stream's limits"
    error = Refused(f"{advisory.consumer}: {text}", reason=reason)
    await bus.dead_letter(original, error, deliveries=max(1, advisory.deliveries))
