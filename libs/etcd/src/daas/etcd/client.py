"""The client: get, put, range, delete, transactions, leases and watches that outlive the server's restarts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
import grpc.aio

from daas.common.errors import DaasError, InvalidInput, NotFound, Unavailable
from daas.etcd import rpc_pb2 as rpc
from daas.etcd.channels import REQUIRE_LEADER, RETRY_FIRST_S, RETRY_LAST_S, Channels, Credentials, Tls
from daas.etcd.errors import TRANSIENT, Compacted, from_status
from daas.etcd.model import (
    MAX_TXN_OPERATIONS,
    Change,
    Compare,
    KeyValue,
    Operation,
    Page,
    Snapshot,
    TxnResult,
    WatchEvent,
    compare_to_wire,
    from_wire,
    key_bytes,
    operation_to_wire,
    prefix_end,
)

Q = TypeVar("Q")
A = TypeVar("A")

_KV: Final = "/etcdserverpb.KV/"
_LEASE: Final = "/etcdserverpb.Lease/"
#: Why etcd cancels a watch whose token it does not take.
_TOKEN_ENDED: Final = ("invalid auth token", "auth store is old")
#: Keys of a page where the caller does not say: small values, so far below the receive limit.
PAGE_KEYS: Final = 500


@dataclass(frozen=True, slots=True)
class Status:
    """Who answers: ids of cluster, member and leader (0: none), version, newest revision, bytes of the database."""

    cluster_id: int
    member_id: int
    leader_id: int
    version: str
    revision: int
    database_bytes: int


class EtcdClient:
    """One connection to an etcd cluster, safe to share by the tasks of one loop.

    Args:
        endpoints: `http://HOST:PORT` or `https://HOST:PORT`; the first that answers is used until it fails.
        tls: trust and, for mutual TLS, identity; required with https.
        timeout_ms: deadline of each call, including reconnects and failover.
        user: for servers with authentication: name and password.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: Tls | None = None,
        timeout_ms: int = 5_000,
        user: Credentials | None = None,
    ) -> None:
        self._channels = Channels(endpoints, tls=tls, timeout_ms=timeout_ms, user=user)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; watches end."""
        await self._channels.close()

    async def status(self) -> Status:
        """Who answers at the endpoint in use."""
        answer = await self._channels.call(
            "/etcdserverpb.Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse.FromString, repeatable=True
        )
        header = answer.header
        return Status(
            header.cluster_id, header.member_id, answer.leader, answer.version, header.revision, answer.dbSize
        )

    async def get(self, key: str) -> KeyValue | None:
        """The newest value of a key (linearizable), or None."""
        request = rpc.RangeRequest(key=key_bytes(key))
        answer = await self._channels.call(_KV + "Range", request, rpc.RangeResponse.FromString, repeatable=True)
        return from_wire(answer.kvs[0]) if answer.kvs else None

    async def range(
        self,
        prefix: str,
        *,
        start: str | None = None,
        limit: int = PAGE_KEYS,
        revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        """One page of the keys with a prefix, in their order.

        Args:
            prefix: what the keys start with.
            start: `next_key` of the page before.
            limit: at most so many keys.
            revision: read as of this revision (0: newest); give the first page's to the rest.
            keys_only: leave values empty.

        Raises:
            Compacted: the revision is gone.
        """
        low = key_bytes(prefix)
        request = rpc.RangeRequest(
            key=start.encode() if start else low,
            range_end=prefix_end(low),
            limit=limit,
            revision=revision,
            keys_only=keys_only,
        )
        answer = await self._channels.call(_KV + "Range", request, rpc.RangeResponse.FromString, repeatable=True)
        items = tuple(from_wire(kv) for kv in answer.kvs)
        more = items[-1].key + "\x00" if answer.more and items else None
        return Page(items, revision or answer.header.revision, more, answer.count)

    async def prefix(
        self, prefix: str, *, page_keys: int = PAGE_KEYS, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[KeyValue]:
        """All keys with a prefix in order, page by page, as of one revision."""
        start: str | None = None
        while True:
            page = await self.range(prefix, start=start, limit=page_keys, revision=revision, keys_only=keys_only)
            for item in page.items:
                yield item
            if page.next_key is None:
                return
            start, revision = page.next_key, page.revision

    async def put(self, key: str, value: bytes, *, lease: int = 0, repeatable: bool = False) -> int:
        """Write a key; returns the revision.

        Args:
            key: the key.
            value: at most about 1.5 MiB, etcd's limit on a request.
            lease: id of the lease the key lives by.
            repeatable: whether writing it twice does no harm (nobody else writes it): then lost answers are retried.
        """
        request = rpc.PutRequest(key=key_bytes(key), value=value, lease=lease)
        answer = await self._channels.call(_KV + "Put", request, rpc.PutResponse.FromString, repeatable=repeatable)
        return answer.header.revision

    async def delete(self, key: str, *, prefix: bool = False) -> int:
        """Remove a key, or all keys with a prefix; returns how many there were."""
        low = key_bytes(key)
        request = rpc.DeleteRangeRequest(key=low, range_end=prefix_end(low) if prefix else b"")
        answer = await self._channels.call(
            _KV + "DeleteRange", request, rpc.DeleteRangeResponse.FromString, repeatable=False
        )
        return answer.deleted

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        repeatable: bool = False,
    ) -> TxnResult:
        """If all of `compare` hold do `success`, else `failure`, atomically.

        Args:
            compare: the guards.
            success: at most 128 operations, each key written once.
            failure: likewise.
            repeatable: whether a lost answer may be retried. True for create-if-absent: the second try then finds the
                key and reports `succeeded=False`, which the caller resolves by reading it.
        """
        if max(len(compare), len(success), len(failure)) > MAX_TXN_OPERATIONS:
            raise InvalidInput(f"a transaction has at most {MAX_TXN_OPERATIONS} operations", reason="etcd-txn-size")
        request = rpc.TxnRequest(
            compare=[compare_to_wire(c) for c in compare],
            success=[operation_to_wire(o) for o in success],
            failure=[operation_to_wire(o) for o in failure],
        )
        answer = await self._channels.call(_KV + "Txn", request, rpc.TxnResponse.FromString, repeatable=repeatable)
        reads = tuple(
            from_wire(r.response_range.kvs[0]) if r.response_range.kvs else None
            for r in answer.responses
            if r.WhichOneof("response") == "response_range"
        )
        return TxnResult(answer.succeeded, answer.header.revision, reads)

    async def compact(self, revision: int) -> None:
        """Drop the history before a revision; the newest values stay."""
        request = rpc.CompactionRequest(revision=revision, physical=True)
        await self._channels.call(_KV + "Compact", request, rpc.CompactionResponse.FromString, repeatable=True)

    async def grant(self, ttl_s: int) -> int:
        """A lease of at least `ttl_s` seconds; returns its id."""
        request = rpc.LeaseGrantRequest(TTL=ttl_s)
        answer = await self._channels.call(
            _LEASE + "LeaseGrant", request, rpc.LeaseGrantResponse.FromString, repeatable=True
        )
        return answer.ID

    async def revoke(self, lease: int) -> None:
        """End a lease and remove its keys."""
        request = rpc.LeaseRevokeRequest(ID=lease)
        await self._channels.call(_LEASE + "LeaseRevoke", request, rpc.LeaseRevokeResponse.FromString, repeatable=False)

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease once, at whichever endpoint answers; returns the seconds it has now.

        Raises:
            NotFound: the lease has ended.
            Unavailable: no endpoint has answered in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._channels.timeout_s
        wait_s = RETRY_FIRST_S
        while True:
            channel = await self._channels.connected(deadline)
            failure: DaasError = Unavailable("etcd LeaseKeepAlive: the stream ended", reason="etcd-unavailable")
            try:
                answer = await self._renewed(channel, lease, deadline)
            except grpc.aio.AioRpcError as error:
                code, details = error.code(), error.details() or ""
                failure = from_status(code, details, "LeaseKeepAlive")
                if code not in TRANSIENT and not self._channels.stale(code, details):
                    raise failure from None
            else:
                if isinstance(answer, rpc.LeaseKeepAliveResponse):
                    if answer.TTL <= 0:
                        raise NotFound(f"etcd lease {lease:x} has ended", reason="etcd-lease-ended", field="lease")
                    return answer.TTL
            self._channels.rotate(channel)
            if loop.time() + wait_s >= deadline:
                raise failure
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LAST_S)

    async def _renewed(self, channel: grpc.aio.Channel, lease: int, deadline: float) -> object:
        """The answer to one renewal, or the end of the stream."""
        stub = channel.stream_stream(
            _LEASE + "LeaseKeepAlive",
            request_serializer=rpc.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=rpc.LeaseKeepAliveResponse.FromString,
        )
        metadata = await self._channels.metadata(channel, deadline)
        attempt_s = self._channels.attempt_s(deadline - asyncio.get_running_loop().time())
        call = stub(None, timeout=attempt_s, metadata=metadata + REQUIRE_LEADER)
        try:
            await _send(call, rpc.LeaseKeepAliveRequest(ID=lease))
            return await call.read()
        finally:
            call.cancel()

    async def watch(self, key: str, *, prefix: bool = True, start_revision: int = 0) -> AsyncIterator[WatchEvent]:
        """Changes in order from a revision (0: from now), for ever, each once: after a lost connection it goes on at
        the revision after the last complete one, at whichever endpoint answers.

        Raises:
            Compacted: the history between the last event and now is gone.
        """
        async for batch in self._watch_batches(key, prefix=prefix, start_revision=start_revision):
            for event in batch:
                yield event

    async def follow(self, prefix: str) -> AsyncIterator[Snapshot | WatchEvent]:
        """The keys of a prefix as of now, then every change; after a compaction it starts over with a new snapshot."""
        while True:
            items: list[KeyValue] = []
            page = await self.range(prefix)
            revision = page.revision
            items.extend(page.items)
            try:
                while page.next_key is not None:
                    page = await self.range(prefix, start=page.next_key, revision=revision)
                    items.extend(page.items)
                yield Snapshot(tuple(items), revision)
                async for event in self.watch(prefix, start_revision=revision + 1):
                    yield event
            except Compacted:
                continue

    async def _watch_batches(
        self, key: str, *, prefix: bool, start_revision: int
    ) -> AsyncIterator[tuple[WatchEvent, ...]]:
        low = key_bytes(key)
        end = prefix_end(low) if prefix else b""
        next_revision = start_revision
        wait_s = RETRY_FIRST_S
        while True:
            loop = asyncio.get_running_loop()
            try:
                channel = await self._channels.connected(loop.time() + self._channels.timeout_s)
            except Unavailable:
                # A watch outlives the outage: whoever needs a bound on it cancels the watch.
                continue
            stub = channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=rpc.WatchRequest.SerializeToString,
                response_deserializer=rpc.WatchResponse.FromString,
            )
            create = rpc.WatchCreateRequest(key=low, range_end=end, start_revision=next_revision, progress_notify=True)
            call = None
            try:
                metadata = await self._channels.metadata(channel, loop.time() + self._channels.timeout_s)
                call = stub(None, metadata=metadata + REQUIRE_LEADER)
                await _send(call, rpc.WatchRequest(create_request=create))
                async for answer in call:
                    if answer.canceled:
                        self._refuse_cancelled(answer)
                        break
                    wait_s = RETRY_FIRST_S
                    if answer.events:
                        # Without fragments one response holds all events of its last revision.
                        yield tuple(_event(e) for e in answer.events)
                        next_revision = answer.events[-1].kv.mod_revision + 1
                    elif answer.created:
                        # "From now" is fixed here, so that nothing is lost if the connection fails before an event.
                        next_revision = next_revision or answer.header.revision + 1
                    else:
                        next_revision = max(next_revision, answer.header.revision + 1)
            except grpc.aio.AioRpcError as error:
                stale = self._channels.stale(error.code(), error.details() or "")
                if not stale and error.code() not in TRANSIENT:
                    raise from_status(error.code(), error.details() or "", "Watch") from None
            finally:
                if call is not None:
                    call.cancel()
            self._channels.rotate(channel)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LAST_S)

    def _refuse_cancelled(self, answer: rpc.WatchResponse) -> None:
        if answer.compact_revision:
            raise Compacted(
                f"etcd Watch: history before revision {answer.compact_revision} is gone",
                compact_revision=answer.compact_revision,
            )
        if any(said in answer.cancel_reason for said in _TOKEN_ENDED) and self._channels.stale(
            grpc.StatusCode.UNAUTHENTICATED, answer.cancel_reason
        ):
            return
        if "permission denied" in answer.cancel_reason:
            raise from_status(grpc.StatusCode.PERMISSION_DENIED, answer.cancel_reason, "Watch")


async def _send(call: grpc.aio.StreamStreamCall[Q, A], request: Q) -> None:
    """One request on a stream that stays open until the call is cancelled: closing it would end the answers too."""
    with contextlib.suppress(asyncio.InvalidStateError):  # it has failed already; reading tells why
        await call.write(request)


def _event(event: rpc.Event) -> WatchEvent:
    return WatchEvent(Change.DELETE if event.type == rpc.Event.DELETE else Change.PUT, from_wire(event.kv))
