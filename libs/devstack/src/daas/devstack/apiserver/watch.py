"""watch: changes from a resource version on, filtered, with bookmarks, until the client or the timeout ends it."""

import asyncio
import base64
import contextlib
import random
from collections import deque
from collections.abc import Callable

import orjson
from aiohttp import web

from daas.devstack.apiserver.errors import ApiError, bad_request
from daas.devstack.apiserver.reads import Filter, parse_version
from daas.devstack.apiserver.request import Call
from daas.devstack.apiserver.resources import BY_KEY, Object, Resource
from daas.devstack.apiserver.responses import encode, encode_partial, encode_table, wanted_form
from daas.devstack.apiserver.storage import ADDED, DELETED, MODIFIED, Event, Record, Storage

#: As kube-apiserver does: one a minute, and one before the end.
BOOKMARK_SECONDS = 60.0
LAST_BOOKMARK_SECONDS = 2.0
#: What a list of the kind would look like, empty: stands at the end of a streamed list.
_BLUEPRINT = "kubernetes.io/initial-events-list-blueprint"
TIMEOUT_SECONDS_MIN = 1800  # without timeoutSeconds, kube-apiserver picks 30 to 60 minutes
PENDING_MAX = 100_000  # a watcher this far behind is cut off and must list again
CHUNK_BYTES = 256 << 10
GATHER_SECONDS = 0.005  # between two writes: a burst goes out in a few, a single change at once


class Watcher:
    """One watch: turns changes into frames as the request wants them."""

    def __init__(self, storage: Storage, call: Call) -> None:
        self._storage = storage
        self._resource = call.target.resource
        self._filter = Filter(call)
        self._form = wanted_form(call.http.headers.get("Accept", ""))
        self._include = call.query.get("includeObject", "Metadata")
        self._columns = True
        self._pending: deque[Event] = deque()
        self._news = asyncio.Event()
        self.version = storage.version
        self.ended = False

    def end(self) -> None:
        """Finish the watch: the server stops, or the client is too far behind."""
        self.ended = True
        self._news.set()

    def subscribe(self) -> Callable[[], None]:
        """Start to collect changes; returns what ends it."""
        return self._storage.subscribe(self._resource, self._on_event)

    def _on_event(self, event: Event) -> None:
        if len(self._pending) >= PENDING_MAX:
            self.end()
        else:
            self._pending.append(event)
            self._news.set()

    async def wait(self, timeout_seconds: float) -> None:
        """Until there is something to take, or the time is over."""
        if self._pending or self.ended:
            return
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._news.wait()

    def take(self) -> list[bytes]:
        """Frames of what was collected, about CHUNK_BYTES at most."""
        frames: list[bytes] = []
        size = 0
        while self._pending and size < CHUNK_BYTES:
            event = self._pending.popleft()
            if (frame := self.frame_of(event)) is not None:
                frames.append(frame)
                size += len(frame)
        return frames

    def frame_of(self, event: Event) -> bytes | None:
        """The frame of a change: objects that enter or leave the selection are ADDED or DELETED."""
        self.version = event.version
        before = event.previous is not None and self._filter.matches(event.previous)
        after = event.type != DELETED and self._filter.matches(event.record)
        if not before and not after:
            return None
        if after:
            return self.frame(MODIFIED if before else ADDED, event.record)
        if event.type == DELETED or event.previous is None:
            return self.frame(DELETED, event.record)
        # Left the selection: the last state that matched, at the version of the change.
        last = event.previous.object()
        last["metadata"]["resourceVersion"] = str(event.version)
        previous = event.previous
        gone = Record(
            *(previous.namespace, previous.name, event.version, orjson.dumps(last)),
            labels=previous.labels,
            fields=previous.fields,
        )
        return self.frame(DELETED, gone)

    def frame(self, kind: str, record: Record) -> bytes:
        """One event of the stream."""
        if self._form == "Table":
            meta = {"resourceVersion": str(record.version)}
            body = encode_table(self._resource, [record], meta, self._include, columns=self._columns)
            self._columns = False
        elif self._form == "PartialObjectMetadata":
            body = encode_partial(record)
        else:
            body = encode(self._resource, record)
        return b'{"type":"' + kind.encode() + b'","object":' + body + b"}\n"

    def initial(self) -> list[bytes]:
        """ADDED for everything there is now."""
        records = self._storage.records(self._resource, self._filter.namespace)
        return [self.frame(ADDED, record) for record in records if self._filter.matches(record)]

    def backlog(self, since: int) -> list[bytes]:
        """What happened after `since`. Raises ApiError 410."""
        events = self._storage.since(BY_KEY[self._resource.key], since)
        return [frame for event in events if (frame := self.frame_of(event)) is not None]

    def bookmark(self, *, initial_end: bool = False) -> bytes:
        """A BOOKMARK at the version seen so far: the store's, if nothing waits to be sent."""
        if not self._pending:
            self.version = self._storage.version
        return _bookmark(self._resource, self.version, initial_end=initial_end)


def _bookmark(resource: Resource, version: int, *, initial_end: bool) -> bytes:
    meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_end:
        empty: Object = {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.group_version,
            "metadata": {},
            "items": None,
        }
        blueprint = base64.b64encode(orjson.dumps(empty) + b"\n").decode()
        meta["annotations"] = {"k8s.io/initial-events-end": "true", _BLUEPRINT: blueprint}
    body = {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": meta}
    return orjson.dumps({"type": "BOOKMARK", "object": body}) + b"\n"


def _timeout_seconds(call: Call) -> float:
    text = call.query.get("timeoutSeconds", "")
    if not text or text == "0":
        return TIMEOUT_SECONDS_MIN * (1 + random.random())  # noqa: S311 - spreads reconnects, nothing secret
    if not text.isdecimal():
        raise bad_request(
            f'timeoutSeconds: Invalid value: "{text}": strconv.ParseInt: parsing "{text}": invalid syntax'
        )
    return float(text)


async def watch(storage: Storage, call: Call, watchers: set[Watcher]) -> web.StreamResponse:
    """Serve one watch until it ends; it is in `watchers` meanwhile. Raises ApiError 400 before anything was sent."""
    since = parse_version(call.query.get("resourceVersion", ""))
    stream_list = call.query.get("sendInitialEvents") == "true"
    match = call.query.get("resourceVersionMatch", "")
    if stream_list and match != "NotOlderThan":
        raise bad_request(
            "sendInitialEvents: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    if match and not stream_list:
        raise bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch "
            "unless sendInitialEvents is provided"
        )
    timeout_seconds = _timeout_seconds(call)
    watcher = Watcher(storage, call)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    unsubscribe: Callable[[], None] | None = None
    watchers.add(watcher)
    try:
        await response.prepare(call.http)
        # Nothing is awaited between this and reading the backlog: no change is seen twice or missed.
        unsubscribe = watcher.subscribe()
        await _stream(response, watcher, call, since, timeout_seconds, stream_list=stream_list)
        await response.write_eof()
    except ConnectionError:
        pass  # the client has gone: the usual end of a watch
    finally:
        watchers.discard(watcher)
        if unsubscribe is not None:
            unsubscribe()
    return response


def _next_bookmark(now: float, end: float) -> float:
    last = end - LAST_BOOKMARK_SECONDS
    return min(now + BOOKMARK_SECONDS, last) if now < last else end


async def _stream(
    response: web.StreamResponse,
    watcher: Watcher,
    call: Call,
    since: int | None,
    timeout_seconds: float,
    *,
    stream_list: bool,
) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_seconds
    bookmarks = call.query.get("allowWatchBookmarks") in ("1", "true")
    try:
        frames = watcher.initial() if stream_list or not since else watcher.backlog(since)
    except ApiError as gone:
        await response.write(orjson.dumps({"type": "ERROR", "object": gone.status()}) + b"\n")
        return
    if stream_list and bookmarks:
        frames.append(watcher.bookmark(initial_end=True))
    for start in range(0, len(frames), 100):
        await response.write(b"".join(frames[start : start + 100]))
    started_at = since or watcher.version
    next_bookmark = _next_bookmark(loop.time(), end)
    written = 0.0
    while not watcher.ended:
        now = loop.time()
        if now >= end:
            break
        await watcher.wait(min(end, next_bookmark) - now)
        if (early := written + GATHER_SECONDS - loop.time()) > 0:
            await asyncio.sleep(early)
        if sent := watcher.take():
            await response.write(b"".join(sent))
            written = loop.time()
        if loop.time() >= next_bookmark:
            frame = watcher.bookmark()
            # Where nothing has changed since the start there is nothing to tell.
            if bookmarks and watcher.version > started_at:
                await response.write(frame)
            next_bookmark = _next_bookmark(loop.time(), end)
