"""Several full nodes of one chain, one of which lags or is killed; checkpoints, balances and lists."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daas.common.errors import ConfigurationError
from daas.ledger import Ledger, NodeRegistered, Parameters, RpcUnavailable, Signer, StaleObject

if TYPE_CHECKING:
    from libs.ledger.tests.conftest import Server

pytestmark = pytest.mark.connected

PCRS = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)


@dataclass
class Twins:
    """A node and another one that has the same past: what is executed on one, the other never learns."""

    ahead: "Server"
    behind: "Server"
    signer: Signer
    package: str
    registry: str


@pytest.fixture
async def twins(own_server: "Server", tmp_path: Path) -> AsyncIterator[Twins]:
    ahead = own_server
    ahead.start()
    signer = Signer(os.urandom(32))
    ahead.fund(signer.address)
    async with await Ledger.connect(ahead.url, signer) as ledger:
        package = (await ledger.publish()).package
        registry = (await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)).address
    ahead.kill()
    behind = type(ahead)(tmp_path / "twin")
    shutil.copytree(ahead.state, behind.state)
    ahead.start()
    behind.start()
    yield Twins(ahead, behind, signer, package, registry)
    behind.kill()


async def test_a_killed_node_is_replaced_by_the_next_for_reading_and_for_sending(twins: Twins) -> None:
    urls = f"{twins.ahead.url}, {twins.behind.url}"
    async with await Ledger.connect(urls, twins.signer, package=twins.package) as ledger:
        transaction = await ledger.build_register_simulated(
            twins.registry,
            public_key=b"\x05" * 32,
            pcrs=PCRS,
            nonce=(await ledger.registry(twins.registry)).nonce,
            document_digest=bytes(32),
        )
        twins.ahead.kill()
        effects = await ledger.submit(transaction)
        assert await ledger.transaction(effects.digest) is not None
        assert (await ledger.registry(twins.registry)).sequence == 0
        twins.behind.kill()
        with pytest.raises(RpcUnavailable):
            await ledger.registry(twins.registry)
        with pytest.raises(RpcUnavailable):
            await ledger.transaction(effects.digest)


async def test_a_refusal_is_no_answer_while_a_lost_node_may_have_taken_the_transaction(twins: Twins) -> None:
    async with await Ledger.connect([twins.ahead.url, twins.behind.url], twins.signer, package=twins.package) as ledger:
        await ledger.registry(twins.registry)
        transaction = await ledger.build_register_simulated(
            twins.registry, public_key=b"\x05" * 32, pcrs=PCRS, nonce=bytes(32), document_digest=bytes(32)
        )
        async with await Ledger.connect(twins.behind.url, twins.signer, package=twins.package) as other:
            await other.staking.deposit(twins.registry, 5)
        twins.ahead.kill()
        with pytest.raises(RpcUnavailable):
            await ledger.submit(transaction)
        with pytest.raises(StaleObject):
            await ledger.submit(transaction)


async def test_a_transaction_is_unknown_only_when_every_node_that_answers_says_so(twins: Twins) -> None:
    async with await Ledger.connect(twins.ahead.url, twins.signer, package=twins.package) as alone:
        digest = (await alone.staking.deposit(twins.registry, 5)).digest
        newest = await alone.latest_checkpoint()
    async with await Ledger.connect([twins.behind.url, twins.ahead.url]) as ledger:
        assert await ledger.transaction(digest) is not None
        assert await ledger.checkpoint(newest) is not None
        twins.ahead.kill()
        assert await ledger.transaction(digest) is None
        assert await ledger.checkpoint(newest) is None


async def test_a_node_that_is_away_at_the_start_does_not_keep_the_other_from_serving(twins: Twins) -> None:
    twins.ahead.kill()
    async with await Ledger.connect([twins.ahead.url, twins.behind.url]) as ledger:
        assert (await ledger.registry(twins.registry)).simulated


async def test_nodes_of_two_chains_are_no_cluster_of_nodes(twins: Twins, server: "Server") -> None:
    with pytest.raises(ConfigurationError) as refused:
        await Ledger.connect([twins.ahead.url, server.url])
    assert refused.value.reason == "ledger-chain"


@pytest.mark.parametrize("urls", ["", ",", [], ["http://a", "http://a"], [f"http://a{n}" for n in range(17)]])
async def test_no_node_one_twice_and_too_many_are_refused(urls: str | list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await Ledger.connect(urls)
    assert refused.value.reason == "ledger-url"


async def test_a_checkpoint_shows_its_transactions_their_events_and_the_one_before(ledger: Ledger) -> None:
    registry = await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS, parameters=Parameters())
    node = await ledger.nodes.register(registry.address, "edge-1")
    found = await ledger.checkpoint(await ledger.latest_checkpoint())
    assert found is not None
    (transaction,) = found.transactions
    assert transaction.succeeded
    (event,) = (each for each in transaction.events if isinstance(each, NodeRegistered))
    assert event.node == node.address
    assert found.timestamp_ms >= node.registered_ms
    before = await ledger.checkpoint(found.sequence - 1)
    assert before is not None
    assert before.digest == found.previous_digest
    assert await ledger.checkpoint(found.sequence + 1_000_000) is None
    genesis = await ledger.checkpoint(0)
    assert genesis is not None
    assert genesis.previous_digest is None


async def test_announced_checkpoints_hold_what_reading_them_shows(ledger: Ledger) -> None:
    registry = (await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)).address
    async with contextlib.aclosing(ledger.subscribe_checkpoints()) as announced:
        first = asyncio.ensure_future(anext(announced))
        while not first.done():  # a stream begins with what comes after it was opened, whenever that is
            await ledger.staking.deposit(registry, 1)
        found = [first.result()]
        await ledger.nodes.register(registry, "edge-1")
        while not any(isinstance(e, NodeRegistered) for t in found[-1].transactions for e in t.events):
            found.append(await anext(announced))
    assert [each.sequence for each in found] == list(range(found[0].sequence, found[-1].sequence + 1))
    assert found == [await ledger.checkpoint(each.sequence) for each in found]


async def test_a_stream_ends_with_its_node_and_the_next_one_is_anothers(twins: Twins) -> None:
    async with await Ledger.connect([twins.ahead.url, twins.behind.url], twins.signer, package=twins.package) as ledger:
        announced = asyncio.ensure_future(anext(ledger.subscribe_checkpoints()))
        while not announced.done():
            await ledger.staking.deposit(twins.registry, 1)
        assert (await announced).transactions
        streams = [ledger.subscribe_checkpoints() for _ in range(2)]
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
        async with await Ledger.connect(twins.behind.url, twins.signer, package=twins.package) as other:
            while not waiting[0].done():
                await other.staking.deposit(twins.registry, 1)
        twins.ahead.kill()
        with pytest.raises(RpcUnavailable):
            await waiting[1]
        for stream in streams:
            await stream.aclose()


async def test_what_is_spent_leaves_the_balance(ledger: Ledger) -> None:
    registry = await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)
    before = await ledger.balance()
    effects = await ledger.staking.deposit(registry.address, 1_000)
    assert await ledger.balance(ledger.address) == before - 1_000 - effects.gas_mist
    assert await ledger.balance("0x5") == 0


async def test_nodes_are_listed_as_they_are_now(ledger: Ledger) -> None:
    registry = (await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)).address
    assert await ledger.nodes.all(registry) == ()
    for name in ("edge-2", "edge-1", "edge-3"):
        await ledger.nodes.register(registry, name)
    listed = await ledger.nodes.all(registry)
    assert [node.name for node in listed] == [b"edge-1", b"edge-2", b"edge-3"]
    await ledger.nodes.drain(listed[0])
    await ledger.nodes.deregister(listed[1])
    assert [(node.name, node.draining) for node in await ledger.nodes.all(registry)] == [
        (b"edge-1", True),
        (b"edge-3", False),
    ]
    assert len(await ledger.nodes.all(registry, limit=1)) == 1


async def test_the_proposals_of_one_cluster_are_listed_newest_first(ledger: Ledger) -> None:
    registries = [
        (await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)).address for _ in range(2)
    ]
    for registry in registries:
        await ledger.staking.deposit(registry, 1_000)
    made = [await ledger.governance.propose_policy(registries[0], bytes([n]) * 32) for n in (1, 2)]
    await ledger.governance.propose_policy(registries[1], b"\x03" * 32)
    listed = await ledger.governance.all(registries[0])
    assert [each.address for each in listed] == [made[1].address, made[0].address]
