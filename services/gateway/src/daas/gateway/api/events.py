"""Server-sent events: the facts of the PLACEMENT stream as they come, resumed where a client left off."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Final

import msgspec
from aiohttp import web

from daas.common.bus import Bus, StoredMessage
from daas.common.errors import InvalidInput, Unavailable
from daas.common.subjects import CATALOGUE, Stream, Subject

#: A silent connection is cut by proxies after a minute or so.
HEARTBEAT_S: Final = 15.0
CLIENTS_MAX: Final = 64
#: A client that takes nothing for so long is gone, or as good as.
WRITE_S: Final = 30.0
FACTS: Final = {one.name: one for one in CATALOGUE if one.stream is Stream.PLACEMENT}


def wanted(text: str) -> list[Subject]:
    """The subjects of `?facts=a,b`; all where it is empty.

    Raises:
        InvalidInput: `unknown-fact`.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FACTS]
    if unknown:
        raise InvalidInput(f"expected some of {', '.join(FACTS)}, not {unknown[0]}", reason="unknown-fact",
                           field="facts")  # fmt: skip
    return [FACTS[name] for name in names] or list(FACTS.values())


def position(text: str, field: str) -> int | None:
    """A stream sequence from a header or query; None where there is none.

    Raises:
        InvalidInput: `event-id`.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InvalidInput(f"expected a stream sequence, not {text[:40]!r}", reason="event-id", field=field)
    return int(text)


def encode_event(stored: StoredMessage, cluster: str) -> bytes:
    """One event: its id is the stream sequence, its name the fact's."""
    prefix = f"daas.v1.{cluster}."
    name = stored.subject.removeprefix(prefix)
    try:
        data = msgspec.json.format(stored.data, indent=-1)
    except msgspec.MsgspecError:
        data = b"null"
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (stored.sequence, name.encode(), data)


class EventFeed:
    """Serves `/v1/events`.

    Args:
        bus: where the stream is.
    """

    def __init__(self, bus: Callable[[], Bus], *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._bus = bus
        self._heartbeat_s = heartbeat_s
        self.clients = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Streams until the client goes.

        Raises:
            InvalidInput: `unknown-fact`, `event-id`.
            Unavailable: `too-many-clients`, or the bus is away.
        """
        subjects = wanted(request.query.get("facts", ""))
        last = position(request.headers.get("Last-Event-ID", ""), "Last-Event-ID")
        from_ = position(request.query.get("from", ""), "from")
        if self.clients >= CLIENTS_MAX:
            raise Unavailable(f"{CLIENTS_MAX} clients listen already", reason="too-many-clients")
        bus = self._bus()
        first, newest = await bus.stream_bounds(Stream.PLACEMENT)
        start = last + 1 if last is not None else from_ if from_ is not None else newest + 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        self.clients += 1
        try:
            await response.prepare(request)
            if 0 < start < first:
                gap = msgspec.json.encode({"asked": start, "first": first})
                await self._write(response, b"event: gap\ndata: " + gap + b"\n\n")
            begin = max(start, first, 1)
            async with aclosing(bus.read(Stream.PLACEMENT, start=begin, subjects=subjects)) as messages:
                await self._forward(response, messages, bus.cluster)
        except (ConnectionResetError, TimeoutError):
            pass  # the client has gone, or reads no more
        finally:
            self.clients -= 1
        return response

    async def _forward(
        self, response: web.StreamResponse, messages: AsyncIterator[StoredMessage], cluster: str
    ) -> None:
        upcoming: asyncio.Task[StoredMessage] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(_next(messages))
                done, _ = await asyncio.wait({upcoming}, timeout=self._heartbeat_s)
                if done:
                    stored, upcoming = upcoming.result(), None
                    await self._write(response, encode_event(stored, cluster))
                else:
                    await self._write(response, b": still here\n\n")
        finally:
            if upcoming is not None:
                upcoming.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await upcoming

    @staticmethod
    async def _write(response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(WRITE_S):
            await response.write(data)


async def _next(messages: AsyncIterator[StoredMessage]) -> StoredMessage:
    return await anext(messages)
