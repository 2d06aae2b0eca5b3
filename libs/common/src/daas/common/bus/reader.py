"""Reading a stream in order: each message once, none left out, through reconnections and lost consumers.

The reader's consumer lives in the server's memory, acknowledges nothing and belongs to nobody else. When it is lost
another one is made that starts after the last message handed out. Within one consumer the delivery sequence counts up
by one, so a message that got lost on the way shows as a hole, and reading starts over at the hole.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

from nats.js import api

from daas.common.bus.failures import translated
from daas.common.bus.message import StoredMessage, delivered
from daas.common.bus.pull import ConsumerLost, PullSource
from daas.common.errors import NotFound, Unavailable
from daas.common.logs import get_logger
from daas.common.subjects import Stream, Subject, stream_name

if TYPE_CHECKING:
    from daas.common.bus.connection import Bus

#: Messages asked for at once; the bytes are bounded by the pull itself.
_BATCH: Final = 256
_BACKOFF_S: Final = (0.05, 2.0)
#: The server forgets a reader's consumer after this long without a pull.
_INACTIVE_S: Final = 120.0

log = get_logger("reader")


async def read_stream(
    bus: "Bus", stream: Stream, start: int, subjects: Sequence[Subject] | None
) -> AsyncGenerator[StoredMessage, None]:
    """See `Bus.read`."""
    name = stream_name(bus.cluster, stream)
    filters = [subject.full(bus.cluster) for subject in subjects or ()]
    whole = subjects is None or {s.name for s in subjects} >= {s.name for s in _kept(bus, stream)}
    position = max(1, start)
    delay, longest = _BACKOFF_S
    while True:
        source: PullSource | None = None
        forget = None
        try:
            source = await _open(bus, stream, filters, position)
            forget = bus.on_reconnect(source.reset)
            expected = 1
            while True:
                for message in await source.take(_BATCH):
                    stored = delivered(message)
                    if message.metadata.sequence.consumer != expected:
                        raise ConsumerLost(f"reader of {name}: a delivery is missing", reason="delivery-missing")
                    if whole and stored.sequence != position:
                        raise _gap(name, position, stored.sequence)
                    expected += 1
                    delay = _BACKOFF_S[0]
                    position = stored.sequence + 1
                    yield stored
        except Unavailable as error:
            log.info("reading starts over", stream=name, position=position, error=error)
        finally:
            if forget is not None:
                forget()
            if source is not None:
                await source.unsubscribe()
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        delay = min(2 * delay, longest)


def _kept(bus: "Bus", stream: Stream) -> list[Subject]:
    return [subject for subject in bus.catalogue if subject.stream is stream]


def _gap(name: str, wanted: int, first: int) -> NotFound:
    return NotFound(f"stream {name}: messages {wanted}..{first - 1} have been removed", reason="gap")


async def _open(bus: "Bus", stream: Stream, filters: list[str], position: int) -> PullSource:
    name = stream_name(bus.cluster, stream)
    await bus.wait_connected(bus.settings.nats_start_timeout_s)
    with translated(f"reader of {name}"):
        await bus.ensure_stream(stream)
        state = (await bus.jetstream.stream_info(name)).state
        # A stream that lost everything still counts on from its last sequence.
        if position < state.first_seq:
            raise _gap(name, position, state.first_seq)
        if position > state.last_seq + 1:
            raise NotFound(
                f"stream {name} ends at {state.last_seq}, reading was to go on at {position}: it is another stream",
                reason="gap",
            )
        info = await bus.jetstream.add_consumer(
            name,
            api.ConsumerConfig(
                name=f"{bus.service.value}-reader-{bus.unique()}",
                deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=position,
                ack_policy=api.AckPolicy.NONE,
                filter_subject=filters[0] if len(filters) == 1 else None,
                filter_subjects=filters if len(filters) > 1 else None,
                inactive_threshold=_INACTIVE_S,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        return await PullSource(bus.client, name, info.name, acknowledged=False).open()
