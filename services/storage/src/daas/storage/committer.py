"""Group commit: values of one kind that wait at the same time are written together, in their order, to their backend.

A handler's fact is acknowledged when its value is durable, so an outage shows as facts that wait: those in work here,
the rest on the bus. Nothing is given up; when the backend is back they are written in the order in which they came.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from daas.common.errors import Conflict, DaasError, Unavailable
from daas.common.logs import get_logger
from daas.evidence.layout import PatchRef
from daas.evidence.packing import Backend, Stored, Value
from daas.evidence.writer import EtcdWriter
from daas.storage.outbox import Outbox
from daas.walrus import Content, Holding, WalrusClient

log = get_logger("committer")

#: Values of one group. Far below the files of a quilt, since a large value is several of them.
GROUP_MAX: Final = 128
_PATCHES_MAX: Final = 512
_FIRST_WAIT_S: Final = 0.1
_LAST_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class CommitMetrics:
    """Counters, by kind."""

    stored: Counter
    waiting: Gauge
    retries: Counter
    seconds: Histogram


@dataclass(frozen=True, slots=True)
class Uploads:
    """How Walrus is used.

    Attributes:
        client: publishers and aggregators.
        epochs: for how long blobs are stored.
        linger_s: how long a group waits for more: a quilt costs the same for one file as for hundreds.
        bytes_max: of one quilt.
    """

    client: WalrusClient
    epochs: int
    linger_s: float
    bytes_max: int


class Committer:
    """Stores the values of one kind.

    Args:
        kind: for tags and metrics.
        backend: where the bytes go.
        writer: etcd.
        uploads: Walrus; needed where the backend says so.
        outbox: of this kind.
        metrics: shared by all kinds.
        latest: whether `latest` follows the headers of what is stored.
    """

    def __init__(
        self,
        kind: str,
        backend: Backend,
        writer: EtcdWriter,
        uploads: Uploads | None,
        *,
        outbox: Outbox,
        metrics: CommitMetrics,
        latest: bool = False,
    ) -> None:
        assert uploads is not None or not backend.walrus, "the settings demand it"
        self.kind = kind
        self.backend = backend
        #: Why the last try failed; None where it did not.
        self.problem: DaasError | None = None
        self._writer = writer
        self._uploads = uploads
        self._outbox = outbox
        self._metrics = metrics
        self._latest = latest
        self._waiting: list[tuple[Value, asyncio.Future[Stored]]] = []
        self._more = asyncio.Event()

    def commit(self, value: Value) -> asyncio.Future[Stored]:
        """Gives a value its place in the order of writes; what is returned is done once it is durable.

        Raises (when awaited):
            Refused: `evidence-fork`: something else is stored under its key.
            InvalidInput: etcd would never take it.
        """
        done: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append((value, done))
        self._metrics.waiting.labels(self.kind).set(len(self._waiting))
        self._more.set()
        return done

    async def run(self) -> None:
        """Writes groups for ever, first what a crash has left."""
        left = self._outbox.left()
        if left:
            await self._insist(left, again=left)
            log.info("finished what was left in the outbox", kind=self.kind, count=len(left))
        while True:
            await self._more.wait()
            if self.backend.walrus and self._uploads is not None and len(self._waiting) < GROUP_MAX:
                await asyncio.sleep(self._uploads.linger_s)
            group = self._take()
            results = await self._insist([value for value, _ in group])
            for value, done in group:
                result = results[value.key]
                if done.done():  # its handler was cancelled
                    continue
                if isinstance(result, Stored):
                    done.set_result(result)
                else:
                    done.set_exception(result)

    def _take(self) -> list[tuple[Value, "asyncio.Future[Stored]"]]:
        """The first values that fit into one group; one key only once."""
        size = patches = 0
        keys: set[str] = set()
        group: list[tuple[Value, asyncio.Future[Stored]]] = []
        for value, done in self._waiting[:GROUP_MAX]:
            size += len(value.packed)
            patches += len(value.contents(self.kind)) if self.backend.walrus else 0
            full = self._uploads is not None and size > self._uploads.bytes_max
            if group and (full or patches > _PATCHES_MAX or value.key in keys):
                break
            keys.add(value.key)
            group.append((value, done))
        del self._waiting[: len(group)]
        self._metrics.waiting.labels(self.kind).set(len(self._waiting))
        if not self._waiting:
            self._more.clear()
        return group

    async def _insist(self, group: Sequence[Value], *, again: Sequence[Value] = ()) -> dict[str, Stored | DaasError]:
        """Writes a group until it is written. What was uploaded together once (`again`) is uploaded so each time."""
        wait_s = _FIRST_WAIT_S
        together = list(again)
        while True:
            started = time.monotonic()
            try:
                results = await self._write(group, together)
            except* DaasError as errors:
                error = _first(errors)
            else:
                self.problem = None
                self._metrics.seconds.labels(self.kind).observe(time.monotonic() - started)
                made = sum(isinstance(result, Stored) and result.created for result in results.values())
                self._metrics.stored.labels(self.kind).inc(made)
                return results
            if not isinstance(error, Unavailable | Conflict) and not self.backend.walrus:
                # Only etcd's own limits: sending the same again can't help those whose values it refuses.
                return dict.fromkeys((value.key for value in group), error)
            self.problem = error
            self._metrics.retries.labels(self.kind, error.reason).inc()
            log.warning("not stored yet", kind=self.kind, count=len(group), reason=error.reason, error=error.message)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LAST_WAIT_S)

    async def _write(self, group: Sequence[Value], together: list[Value]) -> dict[str, Stored | DaasError]:
        results = await self._writer.present(group)
        new = [value for value in group if value.key not in results]
        if new:
            together = together or new
            patches, holdings = await self._upload(together) if self.backend.walrus else ({}, [])
            async with asyncio.TaskGroup() as writes:
                if self.backend.etcd:
                    writes.create_task(self._writer.bytes_of(new))
                writes.create_task(self._writer.index_of(new))
            results |= await self._writer.manifests(new, self.backend, patches, holdings)
        self._outbox.clear()
        if self._latest:
            heads = [v.header.sequence for v in group if v.header and isinstance(results[v.key], Stored)]
            if heads:
                await self._writer.advance(max(heads))
        return results

    async def _upload(self, values: Sequence[Value]) -> tuple[dict[str, tuple[PatchRef, ...]], list[Holding]]:
        """Stores values in as few quilts as hold them; the same values make the same quilts."""
        assert self._uploads is not None
        self._outbox.keep(list(values))
        found: dict[str, PatchRef] = {}
        holdings = []
        contents = {value.key: value.contents(self.kind) for value in values}
        users = {file.identifier: key for key, some in contents.items() for file in some}
        for files in _quilts([file for some in contents.values() for file in some], self._uploads.bytes_max):
            quilt = await self._uploads.client.store_quilt(files, epochs=self._uploads.epochs)
            blob = quilt.blob
            for patch in quilt.patches:
                found[patch.identifier] = PatchRef(
                    quilt=blob.blob_id, patch=patch.patch_id, digest=patch.digest, size=patch.size
                )
            holdings.append(
                Holding(
                    blob_id=blob.blob_id,
                    stored_ms=time.time_ns() // 1_000_000,
                    epochs=self._uploads.epochs,
                    end_epoch=blob.end_epoch,
                    size=0,
                    simulated=blob.simulated,
                    users=tuple(dict.fromkeys(users[file.identifier] for file in files)),
                )
            )
        return {key: tuple(found[file.identifier] for file in files) for key, files in contents.items()}, holdings


def _quilts(files: Sequence[Content], bytes_max: int) -> Iterator[list[Content]]:
    """Files in groups that fit into one upload each."""
    group: list[Content] = []
    size = 0
    for file in files:
        if group and (size + len(file.data) > bytes_max or len(group) == _PATCHES_MAX):
            yield group
            group, size = [], 0
        group.append(file)
        size += len(file.data)
    if group:
        yield group


def _first(errors: ExceptionGroup[DaasError]) -> DaasError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, DaasError)
    return found
