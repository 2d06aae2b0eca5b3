"""The package upgraded on a ledger: types keep their names, objects change version once, clients follow by choice."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.next_package import next_package

from daas.ledger import (
    Anchored,
    ExecutionError,
    Ledger,
    MoveAbortError,
    NodeHeartbeat,
    NoSuchObject,
    PackageUpgrade,
    Rules,
    Signer,
)
from daas.ledger.events import RegistryMigrated
from daas.ledger.package import committed_package

if TYPE_CHECKING:
    from libs.ledger.tests.conftest import Server

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]


@dataclass
class Upgraded:
    """A cluster made by the first version, the client that made it, and one that calls the second version."""

    old: Ledger
    new: Ledger
    cluster: Any
    upgrade: PackageUpgrade
    url: str


@pytest.fixture
async def upgraded(own_server: "Server", create_cluster: Any) -> AsyncIterator[Upgraded]:
    own_server.arguments = ("--package-digest", next_package().digest)
    own_server.start()
    signer = Signer(os.urandom(32))
    own_server.fund(signer.address)
    async with await Ledger.connect(own_server.url, signer) as old, await Ledger.connect(own_server.url, signer) as new:
        first = (await old.publish()).package
        cluster = await create_cluster(old)
        await old.submit(await old.build_anchor(cluster.batch(1)))
        await new.registry(cluster.registry.address)
        assert new.package == first
        upgrade = await new.upgrade(next_package())
        old.forget()
        yield Upgraded(old, new, cluster, upgrade, own_server.url)


async def head(ledger: Ledger, cluster: Any) -> str:
    return (await ledger.registry(cluster.registry.address)).head.hex()


async def test_an_upgrade_is_another_package_of_the_same_line(upgraded: Upgraded) -> None:
    old, new, upgrade = upgraded.old, upgraded.new, upgraded.upgrade
    assert (upgrade.before, upgrade.version) == (old.package, 2)
    assert new.package == upgrade.package != old.package
    assert new.original_package() == old.original_package() == old.package
    assert [await client.package_version() for client in (old, new)] == [1, 2]
    assert (await new.upgrade_cap()).version == 2
    with pytest.raises(NoSuchObject) as missing:
        await old.upgrade_cap()
    assert missing.value.reason == "capability-missing"
    for package in (old.package, new.package):
        async with await Ledger.connect(upgraded.url, package=package) as reader:
            assert (reader.package, reader.original_package()) == (package, old.package)
            assert (await reader.registry(upgraded.cluster.registry.address)).sequence == 1
            assert [e.sequence for e in await reader.newest_events(Anchored, "placement", 5)] == [1]


async def test_a_package_that_is_not_there_is_noticed_at_once(upgraded: Upgraded) -> None:
    with pytest.raises(NoSuchObject) as missing:
        await Ledger.connect(upgraded.url, package="0x" + "ab" * 32)
    assert missing.value.reason == "package-missing"


async def test_only_a_pinned_package_becomes_a_version(upgraded: Upgraded) -> None:
    changed = msgspec.structs.replace(committed_package(), modules=committed_package().modules[:-1])
    unknown = msgspec.structs.replace(changed, digest=changed.computed_digest())
    with pytest.raises(ExecutionError, match="not pinned"):
        await upgraded.new.upgrade(unknown)
    assert upgraded.new.package == upgraded.upgrade.package


async def test_objects_are_the_old_versions_until_they_are_migrated_and_then_the_new_ones(upgraded: Upgraded) -> None:
    old, new, cluster = upgraded.old, upgraded.new, upgraded.cluster
    registry = cluster.registry.address
    node = await old.nodes.register(registry, "edge-1")
    policy = await old.policies.create(registry, Rules(required_stake_mist=1))
    await old.submit(await old.build_anchor(cluster.batch(2, await head(old, cluster))))

    new.forget()
    batch = cluster.batch(3, await head(new, cluster))
    with pytest.raises(MoveAbortError) as early:
        await new.submit(await new.build_anchor(batch))
    assert (early.value.module, early.value.name) == ("registry", "EWrongVersion")
    places = (registry, *await new.places(registry), cluster.enclave, node.address, policy.address)
    moved = [await new.migrate(address) for address in places]
    assert moved[0].only(RegistryMigrated).to_version == 2
    effects = await new.submit(await new.build_anchor(batch))
    assert effects.only(Anchored).sequence == 3
    assert (await new.nodes.heartbeat(node)).only(NodeHeartbeat).node == node.address
    await new.policies.set_rules(policy.address, Rules(required_stake_mist=2))
    await new.staking.deposit(registry, 5)

    old.forget()
    stale = await old.build_anchor(cluster.batch(4, await head(old, cluster)))
    for call in (old.submit(stale), old.nodes.heartbeat(node), old.policies.rotate(policy.address)):
        with pytest.raises(MoveAbortError) as late:
            await call
        assert late.value.name == "EWrongVersion"
    assert (await old.registry(registry)).version == 2
