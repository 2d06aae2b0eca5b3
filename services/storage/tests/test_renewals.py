"""What is renewed in Walrus and what is let go, with real servers and a clock that is passed in."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.subjects import Service
from daas.devstack.etcd import EtcdServer
from daas.devstack.nats import NatsServer
from daas.devstack.walrus import BlobStore, WalrusServer
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore
from daas.evidence.packing import Backend, packed
from daas.evidence.writer import EtcdWriter
from daas.storage.committer import CommitMetrics, Committer, Uploads
from daas.storage.outbox import Outbox
from daas.storage.renewals import YOUNG_MS, RenewalMetrics, Renewals
from daas.storage.snapshots import Snapshots
from daas.walrus import Holding, WalrusClient

pytestmark = pytest.mark.connected

CLUSTER = "test"
EPOCH_MS = 86_400_000
EPOCHS = 8


class Keeping:
    """Snapshots in Walrus, thinned out by one job and renewed by another.

    The clock of the committer is the machine's; Walrus and the renewals are told another time.
    """

    def __init__(self, bus: Bus, etcd: EtcdClient, walrus: WalrusServer, client: WalrusClient) -> None:
        self.bus, self.etcd, self.walrus = bus, etcd, walrus
        self.store = EvidenceStore(etcd, CLUSTER, walrus=client)
        self.registry = registry = CollectorRegistry()
        writer = EtcdWriter(etcd, self.store.keys)
        uploads = Uploads(client=client, epochs=EPOCHS, linger_s=0.0, bytes_max=9 * 1024 * 1024)
        self.committer = Committer(
            "snapshot",
            Backend.WALRUS,
            writer,
            uploads,
            outbox=Outbox(None),
            metrics=CommitMetrics(
                stored=Counter("stored", "-", ["kind"], registry=registry),
                waiting=Gauge("waiting", "-", ["kind"], registry=registry),
                retries=Counter("retries", "-", ["kind", "reason"], registry=registry),
                seconds=Histogram("seconds", "-", ["kind"], registry=registry),
            ),
        )
        self.snapshots = Snapshots(
            bus, etcd, self.store, self.committer.commit, lambda _: None, registry=registry, poll_s=1, newest=2, gap=100
        )
        self.renewals = Renewals(
            etcd,
            writer,
            self.store.keys,
            uploads,
            RenewalMetrics.on(registry),
            epoch_ms=EPOCH_MS,
            every_s=1_000,
        )

    async def add(self, *numbers: int) -> None:
        """Snapshots as the enclave makes them; those of one call share a quilt."""
        values = [
            packed(self.store.keys.snapshot(n), f"snapshot-{n:020d}", random.Random(n).randbytes(100)) for n in numbers
        ]
        await asyncio.gather(*map(self.committer.commit, values))

    async def holdings(self) -> dict[str, Holding]:
        found = [
            msgspec.json.decode(kv.value, type=Holding) async for kv in self.etcd.prefix(self.store.keys.holdings())
        ]
        return {held.blob_id: held for held in found}


@pytest_asyncio.fixture
async def keeping(tmp_path: Path) -> AsyncIterator[Keeping]:
    blobs = BlobStore(tmp_path / "walrus", epoch_ms=EPOCH_MS, clock_ms=lambda: 0)
    async with (
        NatsServer(tmp_path / "nats") as nats,
        EtcdServer(tmp_path / "etcd") as server,
        EtcdClient([server.endpoint], timeout_ms=20_000) as etcd,
        WalrusServer(blobs) as walrus,
        WalrusClient([walrus.url], [walrus.url], first_wait_s=0.001) as client,
        Bus(Service.STORAGE, BusSettings(cluster=CLUSTER, nats_url=nats.url)) as bus,
        Bus(Service.OPERATOR, BusSettings(cluster=CLUSTER, nats_url=nats.url)) as operator,
    ):
        await operator.declare()
        made = Keeping(bus, etcd, walrus, client)
        task = asyncio.create_task(made.committer.run())
        yield made
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def due_ms(held: Holding) -> int:
    """A moment in the last quarter of its time."""
    return held.expires_ms(EPOCH_MS) - EPOCH_MS


async def test_what_was_thinned_out_is_let_go_and_the_rest_lives_on(keeping: Keeping) -> None:
    for numbers in ((1, 2), (3,), (4,), (5,), (6,)):
        await keeping.add(*numbers)
    before = await keeping.holdings()
    assert len(before) == 5
    await keeping.snapshots.round()
    assert await keeping.store.snapshots() == (5, 6)
    now_ms = max(map(due_ms, before.values()))
    assert await keeping.renewals.round(now_ms) == 2
    after = await keeping.holdings()
    assert {user for held in after.values() for user in held.users} == {
        keeping.store.keys.snapshot(5),
        keeping.store.keys.snapshot(6),
    }
    assert all(held.stored_ms == now_ms for held in after.values())
    assert keeping.registry.get_sample_value("daas_storage_walrus_let_go_total") == 3
    # In the network the others only end with their time: everything is stored permanently.
    assert len(keeping.walrus.store.all()) == 5
    keeping.walrus.store.skip(EPOCHS - 1)
    await keeping.renewals.round(now_ms + 6 * EPOCH_MS)
    keeping.walrus.store.skip(1)
    assert {record["blob_id"] for record in keeping.walrus.store.all()} == set(after)


async def test_a_quilt_lives_while_one_of_its_files_is_needed(keeping: Keeping) -> None:
    await keeping.add(1, 2)
    (held,) = (await keeping.holdings()).values()
    await keeping.etcd.delete(keeping.store.keys.snapshot(1))
    assert await keeping.renewals.round(due_ms(held)) == 1
    (renewed,) = (await keeping.holdings()).values()
    assert renewed.users == held.users
    await keeping.etcd.delete(keeping.store.keys.snapshot(2))
    assert await keeping.renewals.round(due_ms(renewed)) == 0
    assert await keeping.holdings() == {}


async def test_what_was_just_uploaded_or_is_of_unknown_use_is_never_let_go(keeping: Keeping) -> None:
    await keeping.add(1)
    (held,) = (await keeping.holdings()).values()
    await keeping.etcd.delete(keeping.store.keys.snapshot(1))
    key = keeping.store.keys.holding(held.blob_id)
    # Its manifest may be about to be written.
    young = msgspec.structs.replace(held, epochs=1)
    await keeping.etcd.put(key, msgspec.json.encode(young))
    assert await keeping.renewals.round(young.stored_ms + YOUNG_MS - 1) == 1
    unknown = msgspec.structs.replace(held, users=())
    await keeping.etcd.put(key, msgspec.json.encode(unknown))
    assert await keeping.renewals.round(due_ms(unknown)) == 1
    assert list(await keeping.holdings()) == [held.blob_id]


async def test_snapshots_of_the_enclave_are_copied_with_what_their_quilt_is_kept_for(keeping: Keeping) -> None:
    for number in (7, 8):
        await keeping.bus.put_object(subjects.SNAPSHOT_BUCKET, f"{number:020d}", b"state %d" % number)
    await keeping.snapshots.round()
    users = {user for held in (await keeping.holdings()).values() for user in held.users}
    assert users == {keeping.store.keys.snapshot(7), keeping.store.keys.snapshot(8)}
