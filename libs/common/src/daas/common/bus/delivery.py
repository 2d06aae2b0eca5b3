"""What becomes of a delivered message: handled, delivered again after a pause, or dead.

malformed, forged, oversized, refused       -> dead-letter stream with the reason and the original bytes, at once
unavailable, conflict, not found, anything  -> again after 0.5 s, doubling up to 10 s; after `max_deliver` dead
"""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from faststream.exceptions import NackMessage, RejectMessage
from faststream.nats import NatsMessage

from daas.common import envelope, tracing
from daas.common.bus.declarations import DurableOptions, durable_config
from daas.common.bus.message import Event, M, StoredMessage, delivered, event
from daas.common.bus.subscriber import DurableSubscriber
from daas.common.errors import DaasError, InvalidInput, Refused, Unavailable
from daas.common.logs import get_logger
from daas.common.messages import decode
from daas.common.subjects import Subject

if TYPE_CHECKING:
    from daas.common.bus.connection import Bus

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 10.0

log = get_logger("delivery")


def retry_delay_s(deliveries: int) -> float:
    """The pause after the n-th failed delivery (n from 1), in seconds."""
    return min(_FIRST_DELAY_S * 2.0 ** min(deliveries - 1, 16), _LONGEST_DELAY_S)


def subscribe(
    bus: "Bus",
    subject: Subject,
    body: type[M],
    handler: Callable[[Event[M]], Awaitable[None]],
    options: DurableOptions,
) -> DurableSubscriber:
    """A subscriber of the bus's service to a subject that a stream keeps; `start` starts it."""
    assert subject.stream is not None
    config = durable_config(bus.cluster, bus.service, subject, options)
    subscriber = DurableSubscriber(bus, subject.stream, config, options, subject.name)
    subscriber.call(Delivery(bus, subject, body, handler, options).handle)
    return subscriber


class Delivery:
    """The life of each message on one subject in one service; FastStream calls it.

    Args:
        bus: for dead letters and metrics.
        subject: the row of the catalogue.
        body: how to decode.
        handler: what the service does with it.
        options: how often it may fail.
    """

    def __init__(
        self,
        bus: "Bus",
        subject: Subject,
        body: type[M],
        handler: Callable[[Event[M]], Awaitable[None]],
        options: DurableOptions,
    ) -> None:
        self._bus = bus
        self._subject = subject
        self._max_deliver = options.max_deliver

        async def judge_and_handle(stored: StoredMessage, deliveries: int) -> None:
            envelope.check(subject, stored.headers, len(stored.data))
            await handler(event(stored, decode(stored.data, body), deliveries))

        self._judge_and_handle = judge_and_handle

    async def handle(self, message: NatsMessage) -> None:
        """Handles one delivery; returning acknowledges it.

        Raises:
            RejectMessage: it is dead and kept as such.
            NackMessage: it shall come again, after the delay it carries.
        """
        label, metrics = self._subject.name, self._bus.metrics
        stored = delivered(message.raw_message)
        deliveries = message.raw_message.metadata.num_delivered
        if deliveries > 1:
            metrics.redelivered.labels(label).inc()
        parent = envelope.parse_traceparent(stored.headers.get(envelope.TRACEPARENT))
        token = envelope.current_trace.set(parent.child() if parent is not None else envelope.new_trace())
        started = time.monotonic()
        metrics.in_flight.labels(label).inc()
        try:
            header = stored.headers.get(envelope.TRACEPARENT)
            with tracing.span(f"handle {label}", kind=tracing.Kind.CONSUMER, parent=header, sequence=stored.sequence):
                await self._judge_and_handle(stored, deliveries)
            metrics.handled.labels(label).inc()
        except (InvalidInput, Refused) as error:
            await self._bury(stored, error, deliveries)
        except DaasError as error:
            await self._again(stored, error, deliveries)
        except Exception as error:
            metrics.unexpected.labels(label).inc()
            log.exception("handler failed", subject=label, sequence=stored.sequence)
            await self._again(
                stored, Unavailable(f"{type(error).__name__}: {error}", reason="unexpected-error"), deliveries
            )
        finally:
            metrics.in_flight.labels(label).dec()
            metrics.handle_seconds.labels(label).observe(time.monotonic() - started)
            envelope.current_trace.reset(token)

    async def _bury(self, stored: StoredMessage, error: DaasError, deliveries: int) -> None:
        self._bus.metrics.failed.labels(self._subject.name, error.reason).inc()
        try:
            await self._bus.dead_letter(stored, error, deliveries=deliveries)
        except DaasError as trouble:
            log.warning("dead letter not kept yet", subject=self._subject.name, error=trouble)
            raise NackMessage(delay=_LONGEST_DELAY_S) from None
        raise RejectMessage

    async def _again(self, stored: StoredMessage, error: DaasError, deliveries: int) -> None:
        if deliveries >= self._max_deliver:
            await self._bury(stored, error, deliveries)
        self._bus.metrics.failed.labels(self._subject.name, error.reason).inc()
        log.info("will be delivered again", subject=self._subject.name, sequence=stored.sequence, error=error)
        raise NackMessage(delay=retry_delay_s(deliveries))
