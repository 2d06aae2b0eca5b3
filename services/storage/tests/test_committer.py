"""Group commit on a real etcd and over HTTP to the Walrus stand-in: crashes between steps, large values, outages."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from daas.common.errors import DecodeError, Refused
from daas.devstack.etcd import EtcdServer
from daas.devstack.walrus import BlobStore, WalrusServer
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore
from daas.evidence.layout import decode_manifest
from daas.evidence.packing import PIECE_BYTES, Backend, Value, packed
from daas.evidence.writer import EtcdWriter
from daas.storage.committer import CommitMetrics, Committer, Uploads
from daas.storage.outbox import Outbox
from daas.walrus import WalrusClient

pytestmark = pytest.mark.connected
CLUSTER = "test"


class Bench:
    """One etcd, one Walrus, and committers on them."""

    def __init__(self, etcd: EtcdClient, walrus: WalrusServer, client: WalrusClient, directory: Path) -> None:
        self.etcd, self.walrus, self.client = etcd, walrus, client
        self.store = EvidenceStore(etcd, CLUSTER, walrus=client)
        self.outbox = Outbox(directory / "outbox" / "test")

    def committer(self, backend: Backend = Backend.WALRUS, *, linger_s: float = 0.01) -> Committer:
        registry = CollectorRegistry()
        metrics = CommitMetrics(
            stored=Counter("stored", "-", ["kind"], registry=registry),
            waiting=Gauge("waiting", "-", ["kind"], registry=registry),
            retries=Counter("retries", "-", ["kind", "reason"], registry=registry),
            seconds=Histogram("seconds", "-", ["kind"], registry=registry),
        )
        uploads = Uploads(client=self.client, epochs=5, linger_s=linger_s, bytes_max=9 * 1024 * 1024)
        writer = EtcdWriter(self.etcd, self.store.keys)
        return Committer("test", backend, writer, uploads, outbox=self.outbox, metrics=metrics)

    def value(self, number: int, size: int = 100) -> Value:
        """A value that does not compress."""
        return packed(self.store.keys.snapshot(number), f"value-{number}", random.Random(number).randbytes(size))

    async def read(self, number: int) -> bytes:
        return (await self.store.snapshot(number)).data


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = BlobStore(tmp_path / "walrus", epoch_ms=86_400_000, clock_ms=lambda: 0)
    async with (
        EtcdServer(tmp_path / "etcd") as server,
        EtcdClient([server.endpoint], timeout_ms=20_000) as etcd,
        WalrusServer(store) as walrus,
        WalrusClient([walrus.url], [walrus.url], first_wait_s=0.001) as client,
    ):
        yield Bench(etcd, walrus, client, tmp_path)


@contextlib.asynccontextmanager
async def running(committer: Committer) -> AsyncIterator[Committer]:
    task = asyncio.create_task(committer.run())
    try:
        yield committer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_uploaded_before_a_crash_is_written_down_after_it_and_not_uploaded_again(bench: Bench) -> None:
    left = [bench.value(1), bench.value(2)]
    bench.outbox.keep(left)
    quilt = await bench.client.store_quilt([c for v in left for c in v.contents("test")], epochs=5)
    async with running(bench.committer()) as committer:
        # The facts come again, in other company.
        again, new = await asyncio.gather(committer.commit(bench.value(2)), committer.commit(bench.value(3)))
    assert (again.created, again.blob) == (False, quilt.blob.blob_id)
    assert new.created
    assert {record["blob_id"] for record in bench.walrus.store.all()} == {quilt.blob.blob_id, new.blob}
    assert await bench.read(1) == random.Random(1).randbytes(100)
    assert bench.outbox.left() == []


async def test_a_group_that_fails_half_way_is_uploaded_as_the_same_quilt(bench: Bench) -> None:
    bench.walrus.faults = {"lost": 1, "unavailable": 8}
    async with running(bench.committer(linger_s=0.05)) as committer:
        results = await asyncio.gather(*(committer.commit(bench.value(n)) for n in range(1, 40)))
    assert len({result.blob for result in results}) == len(bench.walrus.store.all()) == 1
    assert all(result.created and result.simulated for result in results)


async def test_a_value_that_is_larger_than_an_upload_is_kept_in_several_quilts(bench: Bench) -> None:
    size = 4 * PIECE_BYTES + PIECE_BYTES // 2
    async with running(bench.committer()) as committer:
        await committer.commit(bench.value(1, size))
    kv = await bench.etcd.get(bench.store.keys.snapshot(1))
    assert kv is not None
    patches = decode_manifest(kv.value).patches
    assert len(patches) == 5
    assert len({patch.quilt for patch in patches}) == 3
    same = await bench.read(1) == random.Random(1).randbytes(size)
    assert same, "not a comparison that pytest would explain byte by byte"


async def test_with_both_backends_the_bytes_are_read_from_either(bench: Bench) -> None:
    async with running(bench.committer(Backend.BOTH)) as committer:
        await committer.commit(bench.value(1))
    await bench.etcd.delete(f"{bench.store.keys.root}parts/", prefix=True)
    assert await bench.read(1) == random.Random(1).randbytes(100)
    with pytest.raises(DecodeError, match="missing"):
        await EvidenceStore(bench.etcd, CLUSTER).snapshot(1)


async def test_something_else_under_a_stored_key_is_refused_and_its_neighbours_are_not(bench: Bench) -> None:
    other = packed(bench.store.keys.snapshot(1), "value-1", b"something else")
    async with running(bench.committer(Backend.ETCD)) as committer:
        first = committer.commit(bench.value(1))
        fork, neighbour = committer.commit(other), committer.commit(bench.value(2))
        assert (await first).created
        with pytest.raises(Refused, match="evidence-fork"):
            await fork
        assert (await neighbour).created


def test_an_outbox_that_somebody_else_wrote_is_refused(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "box" / "test")
    (tmp_path / "box" / "test").write_bytes(b"junk")
    with pytest.raises(DecodeError, match="outbox-malformed"):
        outbox.left()
    assert Outbox(None).left() == []
