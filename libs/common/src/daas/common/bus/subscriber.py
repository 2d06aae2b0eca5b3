"""A durable pull subscriber: FastStream's, with a pull loop that notices a lost consumer and repairs it.

FastStream parses each message and carries its acknowledgement; what is acknowledged, delayed or given up is decided in
`daas.common.bus.delivery`. At a stop nothing more is pulled, what has arrived but not begun goes back to the server at
once, and running handlers finish.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import nats.errors
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator  # the base under NatsRegistrator, which builds its own
from faststream._internal.endpoint.subscriber.call_item import CallsCollection  # what create_subscriber passes in
from faststream.message import StreamMessage
from faststream.nats import JStream, NatsMessage, PullSub
from faststream.nats.configs import NatsBrokerConfig
from faststream.nats.subscriber.config import NatsSubscriberConfig, NatsSubscriberSpecificationConfig
from faststream.nats.subscriber.specification import NatsSubscriberSpecification
from faststream.nats.subscriber.usecases import PullStreamSubscriber
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, ConsumerInfo

from daas.common.bus.declarations import DurableOptions, ensure_consumer
from daas.common.bus.failures import translated
from daas.common.bus.pull import ConsumerLost, PullSource
from daas.common.errors import DaasError, NotFound, Unavailable
from daas.common.logs import get_logger
from daas.common.subjects import Stream, stream_name

if TYPE_CHECKING:
    from daas.common.bus.connection import Bus

_REPAIR_S: Final = (0.1, 5.0)
#: How often the place of the durable is noted, so that one made again goes on from there.
_WATCH_S: Final = 5.0
_CHECK_S: Final = 3.0
_POLL_S: Final = 0.1

log = get_logger("subscriber")


class DurableSubscriber(PullStreamSubscriber):
    """One durable of a service.

    Args:
        bus: a connected bus.
        stream: the stream that the durable reads.
        config: the durable as it is to be.
        options: deliveries at once, and their acknowledgement.
        label: what it is called in metrics and readiness.
    """

    def __init__(self, bus: "Bus", stream: Stream, config: ConsumerConfig, options: DurableOptions, label: str) -> None:
        assert config.name is not None
        name = stream_name(bus.cluster, stream)
        subject = config.filter_subject or ">"
        broker_config = cast("NatsBrokerConfig", bus.broker.config)  # a composition that stands for one
        calls: CallsCollection[Any] = CallsCollection()
        specification = NatsSubscriberSpecification(
            _outer_config=broker_config,
            calls=calls,
            specification_config=NatsSubscriberSpecificationConfig(
                subject=subject,
                queue=None,
                title_=label,
                description_=None,
                include_in_schema=True,
            ),
        )
        super().__init__(
            NatsSubscriberConfig(
                subject=subject,
                sub_config=config,
                extra_options={},
                no_reply=True,
                _outer_config=broker_config,
                _ack_policy=AckPolicy.NACK_ON_ERROR,
            ),
            specification,
            calls,
            queue="",
            stream=JStream(name, declare=False),
            pull_sub=PullSub(batch_size=options.in_flight),
        )
        self.label = label
        self._durable = config.name
        self._bus = bus
        self._kept_in = stream
        self._stream_name = name
        self._options = options
        self._source: PullSource | None = None
        self._handlers: dict[asyncio.Task[Any], Msg] = {}
        self._room = asyncio.Event()
        self._keeping_alive: asyncio.Task[None] | None = None
        self._forget: Callable[[], None] | None = None
        self._problem: DaasError | None = Unavailable(f"{label}: not started", reason="consumer-starting")
        self._place: tuple[datetime, int] | None = None
        Registrator.subscriber(bus.broker, self)

    def call(self, handler: Callable[[NatsMessage], Awaitable[None]]) -> None:
        """Sets what is called for each message. It acknowledges by raising FastStream's AckMessage and its kin."""
        self.add_call(parser_=None, decoder_=_undecoded, dependencies_=())(handler)

    async def _create_subscription(self) -> None:
        if self._source is not None:
            return
        await self._ensure()
        self._source = await PullSource(self._bus.client, self._stream_name, self._durable, acknowledged=True).open()
        self._forget = self._bus.on_reconnect(self._source.reset)
        self.add_task(self._pull)
        self.add_task(self._watch)
        self._keeping_alive = asyncio.create_task(self._keep_alive())

    async def _ensure(self) -> None:
        """Makes the stream and the durable where they are missing; a durable made again goes on where it was."""
        await self._bus.ensure_stream(self._kept_in)
        with translated(f"stream {self._stream_name}"):
            created = (await self._bus.jetstream.stream_info(self._stream_name)).created
        # A durable made again starts after what the last one had acknowledged, in this same stream.
        start = self._place[1] + 1 if self._place is not None and self._place[0] == created else None
        declare = self._bus.settings.nats_declare
        info = await ensure_consumer(self._bus.jetstream, self._stream_name, self.config, declare=declare, start=start)
        self._place = None if created is None else (created, 0)
        self._note(info)
        self._problem = None

    def _note(self, info: ConsumerInfo) -> None:
        """Notes how far everything is acknowledged."""
        if self._place is not None and info.ack_floor is not None:
            self._place = (self._place[0], info.ack_floor.stream_seq)

    async def _pull(self) -> None:
        assert self._source is not None
        while self.running:
            self._room.clear()
            free = self._options.in_flight - len(self._handlers)
            if free <= 0:
                await self._room.wait()
                continue
            try:
                messages = await self._source.take(free)
            except ConsumerLost as error:
                await self._repair(error)
                continue
            except (nats.errors.Error, OSError) as error:  # the connection is being made again
                log.debug("pull failed", subject=self.label, error=error)
                await asyncio.sleep(_POLL_S)
                continue
            for message in messages:
                self._begin(message)

    def _begin(self, message: Msg) -> None:
        task = asyncio.create_task(self.consume(message))
        self._handlers[task] = message
        task.add_done_callback(self._end)

    async def consume(self, msg: Msg) -> Any:
        """FastStream's, save that a message which comes as we stop is given back instead of being forgotten."""
        if not self.running:
            return await msg.nak()
        return await super().consume(msg)

    def _end(self, task: asyncio.Task[Any]) -> None:
        del self._handlers[task]
        self._room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._bus.metrics.unexpected.labels("subscriber").inc()
            log.error("delivery failed outside its handler", subject=self.label, error=error)

    async def _repair(self, lost: ConsumerLost) -> None:
        """After a loss: waits for JetStream, and makes what was deleted again."""
        delay, longest = _REPAIR_S
        # Found missing once is missing: an attempt may make it and fail all the same, as its answer comes too late.
        existed = True
        self._problem = lost
        log.warning("consumer lost", subject=self.label, error=lost)
        while self.running:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay = min(2 * delay, longest)
            try:
                await self._bus.wait_connected(longest)
                existed = existed and await self._exists()
                await self._ensure()
            except DaasError as error:
                self._problem = error
                continue
            if not existed:
                self._bus.metrics.repairs.labels(self.label).inc()
                log.warning("consumer made again", subject=self.label)
            return

    async def _info(self) -> ConsumerInfo:
        with translated(f"consumer {self._durable} on {self._stream_name}"):
            async with asyncio.timeout(_CHECK_S):
                info: ConsumerInfo = await self._bus.jetstream.consumer_info(self._stream_name, self._durable)
                return info

    async def _exists(self) -> bool:
        try:
            await self._info()
        except NotFound:
            return False
        return True

    async def _watch(self) -> None:
        while self.running:
            with suppress(DaasError):
                self._note(await self._info())
            await asyncio.sleep(_WATCH_S)

    async def _keep_alive(self) -> None:
        """Tells the server that running handlers are still at work, three times in each `ack_wait`."""
        while True:
            await asyncio.sleep(self._options.ack_wait_s / 3)
            for message in list(self._handlers.values()):
                with suppress(nats.errors.Error, OSError):
                    await message.in_progress()

    async def check(self) -> None:
        """Whether the durable exists and messages can come.

        Raises:
            DaasError: `consumer-lost`, `not-found`, `consumer-missing`, ...: why not.
        """
        if self._problem is not None:
            raise self._problem
        await self._info()

    async def facts(self) -> dict[str, int]:
        """Numbers for /status; empty while the server is away."""
        try:
            info = await self._info()
        except DaasError:
            return {}
        return {
            "pending": info.num_pending or 0,
            "unacknowledged": info.num_ack_pending or 0,
            "redelivered": info.num_redelivered or 0,
            "in_flight": len(self._handlers),
        }

    async def stop(self) -> None:
        """Pulls no more, gives back what has not begun, and waits for running handlers (bounded by the settings)."""
        self.running = False
        self._room.set()
        if self._forget is not None:
            self._forget()
        for task in self.tasks:
            task.cancel()
        if self._source is not None:
            await self._source.unsubscribe()
            self._source = None
        if self._handlers:
            _, late = await asyncio.wait(list(self._handlers), timeout=self._bus.stop_timeout_s)
            for task in late:
                log.error("handler did not finish in time; its message will come again", subject=self.label)
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._keeping_alive is not None:  # not before: the handlers that finish need it
            self._keeping_alive.cancel()
            await asyncio.wait({self._keeping_alive})
        await super().stop()


async def _undecoded(message: StreamMessage[Msg]) -> StreamMessage[Msg]:
    """The handler wants the message, not FastStream's idea of its body."""
    return message
