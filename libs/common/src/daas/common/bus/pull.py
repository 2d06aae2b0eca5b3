"""Pulling from one JetStream consumer, so that a lost request or a deleted consumer is noticed at once.

The NATS client's own `fetch` waits in silence when its consumer is gone and can't bound the bytes of a batch. Here one
request at a time asks for a number of messages and at most 16 MiB; the server sends a heartbeat while it has none, and
a request that falls silent is made again. Source of the protocol: NATS ADR-13 (pull subscribe internals), ADR-37.
"""

import asyncio
import contextlib
import json
from collections import deque
from typing import Final, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from daas.common.errors import Unavailable
from daas.common.subjects import MAX_PAYLOAD_BYTES

#: Seconds a request waits at the server. The heartbeat tells us sooner when it is lost.
_EXPIRES_S: Final = 60.0
_HEARTBEAT_S: Final = 5.0
_SILENCE_S: Final = 2.5 * _HEARTBEAT_S
_CLOSE_S: Final = 5.0
#: A batch always has room for the largest message that the server takes.
_MAX_BATCH_BYTES: Final = 2 * MAX_PAYLOAD_BYTES
_NANOSECONDS: Final = 1_000_000_000

_HEARTBEAT: Final = "100"
_CONFLICT: Final = "409"
#: A request that ends thus is simply made again: no messages, expired, batch or bytes used up, server going down.
_ROUTINE: Final = frozenset({"404", "408", _CONFLICT})
_FINAL: Final = frozenset({"Consumer Deleted", "Consumer is push based"})


class ConsumerLost(Unavailable):
    """The consumer does not exist (any more), or JetStream is away: look, and make it again if need be."""


class PullSource:
    """The messages of one pull consumer, in the order of delivery.

    Args:
        client: the connection.
        stream: JetStream name of the stream.
        consumer: name of the consumer.
        acknowledged: whether the consumer expects acknowledgements; what nobody takes is then given back at the end.
    """

    def __init__(self, client: Client, stream: str, consumer: str, *, acknowledged: bool) -> None:
        self._client = client
        self._acknowledged = acknowledged
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._name = f"consumer {consumer} on {stream}"
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._outstanding = 0
        self._request = 0
        self._lost: str | None = None
        self._closing = False

    async def open(self) -> Self:
        """Subscribes the inbox that messages are delivered to."""
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(
            f"{self._inbox}.*", cb=self._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        return self

    def reset(self) -> None:
        """Forgets the running request: after a reconnect the server has forgotten it too."""
        self._outstanding = 0
        self._wake.set()

    async def _on_message(self, message: Msg) -> None:
        # The server's own words come on the inbox; a stored message keeps the subject it was published on, so that
        # nobody can publish something that looks like them.
        if not message.subject.startswith(self._inbox):
            if self._closing:
                await self._give_back(message)
                return
            self._outstanding = max(0, self._outstanding - 1)
            self._arrived.append(message)
        else:
            headers = message.headers or {}
            self._on_status(message.subject, headers.get("Status", ""), headers.get("Description", ""))
        self._wake.set()

    def _on_status(self, subject: str, status: str, text: str) -> None:
        if status == _CONFLICT and text in _FINAL:
            self._lost = f"{self._name}: {text}"
        elif subject == f"{self._inbox}.{self._request}" and status != _HEARTBEAT:
            self._outstanding = 0
            if status not in _ROUTINE:
                self._lost = f"{self._name}: {text or 'nobody answers for it'} ({status})"

    async def take(self, want: int) -> list[Msg]:
        """At least one and at most `want` messages, as soon as there are any.

        Raises:
            ConsumerLost: `consumer-lost`; taking again tries again.
        """
        while True:
            if self._arrived:
                return [self._arrived.popleft() for _ in range(min(want, len(self._arrived)))]
            if self._lost is not None:
                lost, self._lost, self._outstanding = self._lost, None, 0
                raise ConsumerLost(lost, reason="consumer-lost")
            if self._outstanding == 0:
                await self._ask(want)
            self._wake.clear()
            try:
                async with asyncio.timeout(_SILENCE_S):
                    await self._wake.wait()
            except TimeoutError:  # the request is lost: the server would have sent a heartbeat
                self._outstanding = 0

    async def _ask(self, want: int) -> None:
        self._request += 1
        self._outstanding = want
        body = {
            "batch": want,
            "max_bytes": _MAX_BATCH_BYTES,
            "expires": int(_EXPIRES_S * _NANOSECONDS),
            "idle_heartbeat": int(_HEARTBEAT_S * _NANOSECONDS),
        }
        await self._client.publish(
            self._next_subject, json.dumps(body).encode(), reply=f"{self._inbox}.{self._request}"
        )

    async def unsubscribe(self) -> None:
        """Ends delivery; what has arrived and nobody has taken goes back to the server at once.

        Where the connection is broken the server notices by itself and delivers again after `ack_wait`.
        """
        self._closing = True
        subscription, self._subscription = self._subscription, None
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            async with asyncio.timeout(_CLOSE_S):
                if subscription is not None and self._client.is_connected:
                    await subscription.drain()  # type: ignore[no-untyped-call] # the client does not annotate it
                elif subscription is not None and not self._client.is_closed:
                    await subscription.unsubscribe()
                while self._arrived:
                    await self._give_back(self._arrived.popleft())

    async def _give_back(self, message: Msg) -> None:
        if self._acknowledged:
            await message.nak()
