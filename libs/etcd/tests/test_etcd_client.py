"""The client against real servers: values, pages, transactions, leases, failover and restarts."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.guarded_etcd import GuardedEtcd, make_certificate

from daas.common.errors import ConfigurationError, InvalidInput, NotFound, Unavailable
from daas.devstack.etcd import EtcdServer
from daas.etcd import Compacted, Compare, Delete, EtcdClient, Get, Put, Relation, Target, Tls

pytestmark = pytest.mark.connected


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    async with EtcdServer(tmp_path / "etcd") as started:
        yield started


@pytest_asyncio.fixture
async def etcd(server: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([server.endpoint], timeout_ms=10_000) as client:
        yield client


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port on which nobody answers."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def test_what_is_put_is_got_with_its_revisions(etcd: EtcdClient) -> None:
    assert await etcd.get("k") is None
    first = await etcd.put("k", b"one")
    second = await etcd.put("k", b"two")
    kv = await etcd.get("k")
    assert kv is not None
    assert (kv.value, kv.create_revision, kv.mod_revision, kv.version) == (b"two", first, second, 2)
    assert await etcd.delete("k") == 1
    assert await etcd.delete("k") == 0


async def test_a_prefix_is_read_in_pages_as_of_one_revision(etcd: EtcdClient) -> None:
    for i in range(25):
        await etcd.put(f"a/{i:02}", bytes([i]))
    await etcd.put("b/00", b"")
    seen = []
    async for kv in etcd.prefix("a/", page_keys=10):
        seen.append(kv.key)
        if len(seen) == 1:
            await etcd.put("a/99", b"later")
    assert seen == [f"a/{i:02}" for i in range(25)]
    page = await etcd.range("a/", limit=10)
    assert (len(page.items), page.count, page.next_key) == (10, 26, "a/09\x00")
    assert await etcd.delete("a/", prefix=True) == 26


async def test_keys_only_leaves_the_values_out(etcd: EtcdClient) -> None:
    await etcd.put("a/1", b"value")
    assert [kv.value async for kv in etcd.prefix("a/", keys_only=True)] == [b""]


async def test_a_transaction_writes_all_or_nothing(etcd: EtcdClient) -> None:
    await etcd.put("lock", b"held")
    refused = await etcd.txn([Compare.absent("lock")], [Put("x", b"1")], [Get("lock"), Get("none")])
    assert not refused.succeeded
    assert [kv.value if kv else None for kv in refused.reads] == [b"held", None]
    assert await etcd.get("x") is None
    done = await etcd.txn([Compare("lock", Target.VALUE, b"held")], [Put("x", b"1"), Delete("lock")])
    assert done.succeeded
    assert await etcd.get("lock") is None


async def test_of_two_who_change_what_they_read_only_the_first_succeeds(etcd: EtcdClient) -> None:
    await etcd.put("head", b"1")
    read = await etcd.get("head")
    assert read is not None
    assert (await etcd.txn([Compare.unchanged(read)], [Put("head", b"2")])).succeeded
    assert not (await etcd.txn([Compare.unchanged(read)], [Put("head", b"3")])).succeeded
    newer = Compare("head", Target.VERSION, 1, Relation.GREATER)
    assert (await etcd.txn([newer], [Put("head", b"4")])).succeeded


async def test_of_many_who_create_a_key_at_once_one_succeeds(etcd: EtcdClient) -> None:
    results = await asyncio.gather(
        *(etcd.txn([Compare.absent("k")], [Put("k", bytes([i]))], repeatable=True) for i in range(32))
    )
    assert sum(r.succeeded for r in results) == 1


async def test_requests_that_can_not_be_carried_out_are_refused_as_input(etcd: EtcdClient) -> None:
    with pytest.raises(InvalidInput, match="etcd-empty-key"):
        await etcd.get("")
    with pytest.raises(InvalidInput, match="etcd-txn-size"):
        await etcd.txn([], [Put(str(i), b"") for i in range(129)])
    with pytest.raises(InvalidInput, match="duplicate key"):
        await etcd.txn([], [Put("k", b"1"), Put("k", b"2")])
    with pytest.raises(InvalidInput, match="etcd-request-size"):
        await etcd.put("k", bytes(2 * 1024 * 1024))


async def test_a_lease_takes_its_keys_along(etcd: EtcdClient) -> None:
    lease = await etcd.grant(60)
    await etcd.put("mine", b"", lease=lease)
    assert await etcd.keep_alive(lease) == 60
    await etcd.revoke(lease)
    assert await etcd.get("mine") is None
    with pytest.raises(NotFound, match="etcd-lease-ended"):
        await etcd.keep_alive(lease)
    with pytest.raises(NotFound, match="etcd-not-found"):
        await etcd.revoke(lease)


async def test_history_that_was_compacted_is_named_so(etcd: EtcdClient) -> None:
    first = await etcd.put("k", b"1")
    await etcd.compact(await etcd.put("k", b"2"))
    with pytest.raises(Compacted):
        await etcd.range("k", revision=first)


async def test_a_call_waits_out_a_restart_and_finds_what_was_written_before(
    server: EtcdServer, etcd: EtcdClient
) -> None:
    await etcd.put("k", b"durable")
    before = await etcd.status()
    await server.kill()
    reading = asyncio.create_task(etcd.get("k"))
    await server.restart()
    kv = await reading
    assert kv is not None
    assert kv.value == b"durable"
    after = await etcd.status()
    assert (after.cluster_id, after.member_id, after.version) == (before.cluster_id, before.member_id, "3.5.1")


async def test_when_nobody_answers_the_call_ends_at_its_deadline() -> None:
    with silent_port() as port:
        async with EtcdClient([f"http://127.0.0.1:{port}"], timeout_ms=300) as client:
            started = time.monotonic()
            with pytest.raises(Unavailable, match="etcd-unreachable"):
                await client.put("k", b"")
            assert time.monotonic() - started < 30


async def test_the_next_endpoint_answers_where_the_first_does_not(server: EtcdServer) -> None:
    with silent_port() as port:
        async with EtcdClient([f"http://127.0.0.1:{port}", server.endpoint], timeout_ms=10_000) as client:
            await client.put("k", b"v")
            assert (await client.get("k")) is not None


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:2379", "https://127.0.0.1:2379", "http://h", "http://h:x", "http://h:1/p"]
)
def test_an_endpoint_that_is_not_a_url_of_a_host_and_port_refuses_to_start(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="etcd-endpoint"):
        EtcdClient([endpoint])


async def test_mutual_tls_lets_in_who_has_a_certificate_and_nobody_else(tmp_path: Path) -> None:
    async with GuardedEtcd(tmp_path) as etcd:
        async with EtcdClient([etcd.endpoint], tls=etcd.tls) as known:
            await known.put("k", b"v")
        async with EtcdClient([etcd.endpoint], tls=Tls(etcd.certificate), timeout_ms=1_000) as unknown:
            with pytest.raises(Unavailable):
                await unknown.get("k")
        other, _ = make_certificate()
        async with EtcdClient(
            [etcd.endpoint], tls=Tls(other, etcd.certificate, etcd.key), timeout_ms=1_000
        ) as deceived:
            with pytest.raises(Unavailable, match="etcd-unreachable"):
                await deceived.get("k")
        assert "PRIVATE" not in repr(etcd.tls)
