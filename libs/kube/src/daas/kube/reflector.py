"""A reflector: one resource type, listed and watched for ever, as a stream of changes that loses nothing.

It keeps no objects: a list begins with `ListStarted` and ends with `ListFinished`, and whoever holds a copy drops
then what the list did not name. Behaviour follows client-go's reflector (tools/cache/reflector.go): list in pages,
watch from the list's resource version with bookmarks, resume from the last version seen when a watch ends or is cut
(servers cut watchers that are too slow), list again when that version is gone, back off with jitter when the server
fails.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, Generic, TypeVar

import msgspec

from daas.common.errors import DaasError, DecodeError
from daas.kube.client import KubeClient, Query
from daas.kube.errors import Gone, KubeUnavailable, Status, error_of

T = TypeVar("T", bound=msgspec.Struct)

#: client-go's page size: a page of the largest real pods stays below 10 MB.
PAGE_LIMIT: Final = 500
#: A list of more pages than this is a server that repeats its continue token.
PAGES_MAX: Final = 10_000
#: Servers end a watch after this many seconds (up to twice as many, so that watches don't end together).
WATCH_TIMEOUT_S: Final = 120
#: How much longer than the watch's own time-out silence may last: a dead connection is found by then.
READ_MARGIN_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class ListStarted:
    """A full list begins. Another one without a `ListFinished` before it means that the last was broken off."""


@dataclass(frozen=True, slots=True)
class ListFinished:
    """Everything that exists at `resource_version` has been named since `ListStarted`."""

    resource_version: str


@dataclass(frozen=True, slots=True)
class Upserted(Generic[T]):
    """An object that exists: new, changed, or merely listed again."""

    object: T


@dataclass(frozen=True, slots=True)
class Deleted(Generic[T]):
    """An object that is gone, as it last was."""

    object: T


Change = ListStarted | ListFinished | Upserted[T] | Deleted[T]


class _ListMeta(msgspec.Struct, frozen=True):
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, frozen=True):
    """A list whose items stay bytes: one item that can't be decoded must not cost the others."""

    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _WatchEvent(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct, frozen=True):
    metadata: _ListMeta


_PAGE = msgspec.json.Decoder(_Page)
_EVENT = msgspec.json.Decoder(_WatchEvent)
_BOOKMARK = msgspec.json.Decoder(_Bookmark)
_STATUS = msgspec.json.Decoder(Status)
_MALFORMED = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError)


@dataclass(slots=True)
class Backoff:
    """Exponential delays with full jitter, in seconds.

    Attributes:
        first_s: bound of the first delay.
        max_s: bound of all delays (client-go: 30 s).
        chance: source of the jitter.
    """

    first_s: float = 0.2
    max_s: float = 30.0
    chance: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """The next delay; never shorter than what the server asked for."""
        bound = min(self.max_s, self.first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return max(bound / 2 + self.chance.random() * bound / 2, at_least_s or 0.0)

    def reset(self) -> None:
        """After a success."""
        self.failures = 0


@dataclass(slots=True)
class Counters:
    """What a reflector has done since it was made."""

    lists: int = 0
    watches: int = 0
    changes: int = 0
    bookmarks: int = 0
    failures: int = 0
    gone: int = 0
    refused: int = 0


class Reflector(Generic[T]):
    """Lists and watches one resource type.

    Args:
        client: the API server.
        path: of the collection, for instance `/api/v1/pods`.
        kind: Struct that objects are decoded into; fields it does not have cost nothing.
        query: selectors, added to every list and watch.
        version_of: the resource version of a decoded object.
        watch_timeout_s: after how many seconds (up to twice) the server is asked to end a watch.
        backoff: delays between failures.
        on_refused: told about every object that could not be decoded; such an object is left out.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        kind: type[T],
        *,
        query: Query | None = None,
        version_of: Callable[[T], str] = attrgetter("metadata.resource_version"),
        page_limit: int = PAGE_LIMIT,
        watch_timeout_s: int = WATCH_TIMEOUT_S,
        backoff: Backoff | None = None,
        on_refused: Callable[[DecodeError], None] | None = None,
    ) -> None:
        self._client = client
        self.path = path
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._query = dict(query or {})
        self._version_of = version_of
        self._page_limit = page_limit
        self._watch_timeout_s = watch_timeout_s
        self._backoff = backoff or Backoff()
        self._on_refused = on_refused
        self._resource_version = ""
        self._synced = False
        self._problem: DaasError | None = None
        self.counters = Counters()

    @property
    def resource_version(self) -> str:
        """The version up to which changes have been delivered; empty before the first list."""
        return self._resource_version

    @property
    def synced(self) -> bool:
        """Whether a full list was delivered and no other is due."""
        return self._synced

    @property
    def problem(self) -> DaasError | None:
        """Why the last list or watch failed; None while all is well."""
        return self._problem

    async def changes(self) -> AsyncGenerator[Change[T], None]:
        """Every change, for ever. Use it under `contextlib.aclosing`; a slow reader slows the watch, loses nothing."""
        while True:
            try:
                async with aclosing(self._list()) as listed:
                    async for change in listed:
                        yield change
                self._succeeded()
                while True:
                    async with aclosing(self._watch_once()) as watched:
                        async for change in watched:
                            yield change
            except Gone as error:
                self.counters.gone += 1
                await self._failed(error)
            except DaasError as error:
                await self._failed(error)
            finally:
                self._synced = False

    async def _list(self) -> AsyncGenerator[Change[T], None]:
        self.counters.lists += 1
        yield ListStarted()
        query: dict[str, str | int] = {**self._query, "limit": self._page_limit}
        for _ in range(PAGES_MAX):
            page = self._page(await self._client.request("GET", self.path, query=query))
            for raw in page.items or ():
                found = self._object(raw)
                if found is not None:
                    yield Upserted(found)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        else:
            raise KubeUnavailable(f"GET {self.path}: no end after {PAGES_MAX} pages", reason="kube-list-endless")
        self._resource_version = page.metadata.resource_version
        self._synced = True
        yield ListFinished(self._resource_version)

    async def _watch_once(self) -> AsyncGenerator[Change[T], None]:
        """One watch, to its end; failures that allow to resume end in a delay instead of an error.

        Raises:
            Gone: the version is too old: list again.
        """
        seconds = self._watch_timeout_s + self._backoff.chance.randrange(self._watch_timeout_s)
        query: dict[str, str | int] = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._resource_version,
            "timeoutSeconds": seconds,
        }
        self.counters.watches += 1
        heard = False
        try:
            stream = self._client.stream(self.path, query=query, read_timeout_s=seconds + READ_MARGIN_S)
            async with aclosing(stream) as groups:
                async for lines in groups:
                    if not heard:
                        heard = True
                        self._succeeded()
                    for line in lines:
                        change = self._change(line)
                        if change is not None:
                            yield change
        except Gone:
            raise
        except DaasError as error:
            await self._failed(error)
        else:
            if not heard:
                # A server that accepts a watch and ends it at once would otherwise be asked again without pause.
                await asyncio.sleep(self._backoff.next_s())

    def _change(self, line: bytes) -> Change[T] | None:
        try:
            event = _EVENT.decode(line)
            if event.type == "BOOKMARK":
                self._resource_version = _BOOKMARK.decode(event.object).metadata.resource_version
                self.counters.bookmarks += 1
                return None
            if event.type == "ERROR":
                status = _STATUS.decode(event.object)
                raise error_of(status.code or 500, status, f"WATCH {self.path}")
        except _MALFORMED as error:
            raise KubeUnavailable(f"WATCH {self.path}: {error}", reason="kube-malformed") from None
        found = self._object(event.object)
        if found is None:
            # The next event or bookmark moves the version past the object that was refused.
            return None
        self._resource_version = self._version_of(found)
        self.counters.changes += 1
        if event.type in {"ADDED", "MODIFIED"}:
            return Upserted(found)
        if event.type == "DELETED":
            return Deleted(found)
        raise KubeUnavailable(f"WATCH {self.path}: unknown event type {event.type!r}", reason="kube-malformed")

    def _page(self, body: bytes) -> _Page:
        try:
            return _PAGE.decode(body)
        except _MALFORMED as error:
            raise KubeUnavailable(f"GET {self.path}: {error}", reason="kube-malformed") from None

    def _object(self, raw: msgspec.Raw) -> T | None:
        try:
            return self._decoder.decode(raw)
        except _MALFORMED as error:
            self.counters.refused += 1
            if self._on_refused:
                self._on_refused(DecodeError(f"{self.path}: {error}", reason="kube-object-malformed"))
            return None

    def _succeeded(self) -> None:
        self._problem = None
        self._backoff.reset()

    async def _failed(self, error: DaasError) -> None:
        self._problem = error
        self.counters.failures += 1
        await asyncio.sleep(self._backoff.next_s(getattr(error, "retry_after_s", None)))
