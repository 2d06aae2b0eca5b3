"""Stake, nodes, Seal policies and governance through the client, against the embedded ledger in its own process."""

import asyncio
import json
import os
import urllib.request
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common import decision
from daas.common.errors import InvalidInput
from daas.ledger import (
    Account,
    EnclaveRegistered,
    EquivocationReported,
    Ledger,
    MoveAbortError,
    NoSuchObject,
    Parameters,
    Registry,
    Rules,
    Signer,
    Slashed,
    StakeChanged,
)

if TYPE_CHECKING:
    from libs.ledger.tests.conftest import Cluster, Server

pytestmark = pytest.mark.connected

PCRS = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
OTHER_PCRS = (b"\x04" * 48, b"\x05" * 48, b"\x06" * 48)
POLICY = b"\x0b" * 32
SESSION = b"\x0f" * 32
DAY_MS = 24 * 3600 * 1000
PARAMETERS = Parameters(
    operator_minimum_mist=1_000_000,
    node_minimum_mist=100_000,
    proposal_minimum_mist=1,
    slash_bps=5_000,
    unbonding_ms=10 * DAY_MS,
)


def advance(server: "Server", milliseconds: int) -> int:
    """Moves the ledger's clock; its new time."""
    with urllib.request.urlopen(server.ready["clock"], timeout=60) as answer:
        now_ms = int(json.load(answer)["timestamp_ms"]) + milliseconds
    body = json.dumps({"timestamp_ms": now_ms}).encode()
    request = urllib.request.Request(
        server.ready["clock"], data=body, headers={"Content-Type": "application/json"}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    return now_ms


@pytest.fixture
async def registry(ledger: Ledger) -> Registry:
    return await ledger.create_registry(simulated=True, policy=POLICY, pcrs=PCRS, parameters=PARAMETERS)


@pytest.fixture
async def other(server: "Server", package: str) -> AsyncIterator[Ledger]:
    """Somebody else, with money."""
    signer = Signer(os.urandom(32))
    server.fund(signer.address)
    async with await Ledger.connect(server.url, signer, package=package) as connected:
        yield connected


async def refused(call: object, name: str) -> None:
    with pytest.raises(MoveAbortError) as error:
        await call  # type: ignore[misc]  # any awaitable
    assert error.value.name == name


async def test_stake_is_bonded_seen_and_given_back_after_its_time(
    server: "Server", ledger: Ledger, registry: Registry
) -> None:
    address = registry.address
    assert await ledger.staking.account(address, ledger.address) == Account()
    effects = await ledger.staking.deposit(address, 5_000_000)
    assert effects.only(StakeChanged).bonded_mist == 5_000_000
    account = await ledger.staking.account(address, ledger.address)
    assert (account.bonded_mist, account.unbonding_mist) == (5_000_000, 0)
    await ledger.staking.request_withdraw(address, 2_000_000)
    pool = await ledger.staking.pool(address)
    assert (pool.funds, pool.bonded_mist, pool.parameters) == (5_000_000, 3_000_000, PARAMETERS)
    await refused(ledger.staking.withdraw(address), "ENothingToWithdraw")
    now_ms = advance(server, 10 * DAY_MS + 1)
    account = await ledger.staking.account(address, ledger.address)
    assert account.free_mist(now_ms) == 2_000_000
    effects = await ledger.staking.withdraw(address)
    assert effects.only(StakeChanged).reason == 3
    assert (await ledger.staking.pool(address)).funds == 3_000_000
    with pytest.raises(InvalidInput):
        await ledger.staking.deposit(address, 0)


async def test_the_gas_coin_is_followed_through_deposits(ledger: Ledger, registry: Registry) -> None:
    before = ledger.rpc_calls
    for _ in range(5):
        await ledger.staking.deposit(registry.address, 1_000)
    # The first one looks up what it needs; the rest take one call each.
    assert ledger.rpc_calls - before <= 4 + 5


async def test_the_treasury_and_the_parameters(ledger: Ledger, registry: Registry) -> None:
    await ledger.staking.fund_treasury(registry.address, 77)
    assert (await ledger.staking.pool(registry.address)).treasury == 77
    await ledger.staking.set_parameters(registry.address, Parameters(node_minimum_mist=5))
    assert (await ledger.staking.pool(registry.address)).parameters.node_minimum_mist == 5


async def test_a_real_cluster_asks_stake_unless_told_how_much(ledger: Ledger) -> None:
    registry = await ledger.create_registry(simulated=False, policy=POLICY, pcrs=PCRS)
    pool = await ledger.staking.pool(registry.address)
    assert pool.parameters.operator_minimum_mist == 1_000 * 10**9
    free = Parameters()
    await refused(ledger.create_registry(simulated=False, policy=POLICY, pcrs=PCRS, parameters=free), "EStakeRequired")


async def test_a_node_lives_on_its_operators_stake(ledger: Ledger, other: Ledger, registry: Registry) -> None:
    address = registry.address
    await refused(ledger.nodes.register(address, "worker-1"), "ENotEnoughStake")
    await ledger.staking.deposit(address, 150_000)
    node = await ledger.nodes.register(address, "worker-1", other.address)
    assert (node.name, node.operator, node.identity) == (b"worker-1", ledger.address, other.address)
    assert await ledger.nodes.find(address, "worker-1") == node
    assert await ledger.nodes.find(address, "worker-2") is None
    await refused(ledger.nodes.register(address, "worker-1"), "ENameTaken")
    await other.nodes.heartbeat(node)
    roster = await ledger.nodes.roster(address)
    await other.nodes.check_join(node, other.address, roster.join_token_id)
    await refused(other.nodes.check_join(node, ledger.address, roster.join_token_id), "ENotThisNode")
    await ledger.nodes.rotate_join_token(address)
    await refused(other.nodes.check_join(node, other.address, roster.join_token_id), "EWrongId")
    await ledger.nodes.drain(node)
    assert (await ledger.nodes.node(node.address)).draining
    await ledger.nodes.deregister(node)
    with pytest.raises(NoSuchObject):
        await ledger.nodes.node(node.address)
    assert await ledger.nodes.find(address, "worker-1") is None


async def test_three_tickets_are_sold_and_not_one_more_however_many_ask_at_once(
    server: "Server", ledger: Ledger, package: str, registry: Registry
) -> None:
    policy = await ledger.policies.create(
        registry.address, Rules(usage_limit=3, ticket_ttl_ms=60_000, ticket_price_mist=1_000)
    )
    sealed_id = policy.namespace + b"db/password"
    clients = []
    for _ in range(6):
        signer = Signer(os.urandom(32))
        server.fund(signer.address)
        clients.append(await Ledger.connect(server.url, signer, package=package))
    bought = await asyncio.gather(
        *(client.policies.buy_ticket(policy, sealed_id, SESSION) for client in clients), return_exceptions=True
    )
    tickets = [answer for answer in bought if not isinstance(answer, BaseException)]
    refusals = [answer.name for answer in bought if isinstance(answer, MoveAbortError)]
    assert len(tickets) == 3
    assert refusals == ["ELimitReached"] * 3
    assert (await ledger.policies.policy(policy.address)).tickets_sold == 3
    for client, ticket in zip(clients, bought, strict=True):
        if isinstance(ticket, BaseException):
            assert await client.policies.tickets() == ()
            continue
        assert await client.policies.tickets() == (ticket,)
        await client.policies.check(policy, client.address, sealed_id, ticket=ticket)
        await refused(client.policies.check(policy, client.address, sealed_id + b"2", ticket=ticket), "EWrongTicket")
        await refused(client.policies.check(policy, client.address, sealed_id), "ETicketRequired")
        await client.policies.discard(ticket.address)
        assert await client.policies.tickets() == ()
    for client in clients:
        await client.close()


async def test_a_policy_is_opened_by_stake_node_and_time_and_rotated_by_its_owner(
    ledger: Ledger, other: Ledger, registry: Registry
) -> None:
    await ledger.staking.deposit(registry.address, 200_000)
    node = await ledger.nodes.register(registry.address, "worker-9", other.address)
    policy = await ledger.policies.create(registry.address, Rules(required_stake_mist=200_000))
    old = policy.namespace + b"x"
    await other.policies.check(policy, ledger.address, old)
    await refused(other.policies.check(policy, other.address, old), "ENotEnoughStake")
    await other.policies.check(policy, other.address, old, node=node.address)
    await ledger.policies.set_rules(policy.address, Rules(allowed_nodes=(registry.address,)))
    await refused(other.policies.check(policy, other.address, old, node=node.address), "ENodeNotAllowed")
    await ledger.policies.set_rules(policy.address, Rules())
    await ledger.policies.rotate(policy.address)
    await other.policies.check_rotation(policy, ledger.address, old)
    await ledger.policies.retire_generations(policy.address)
    await refused(other.policies.check_rotation(policy, ledger.address, old), "EWrongGeneration")
    await ledger.policies.transfer_ownership(policy.address, other.address)
    policy = await ledger.policies.policy(policy.address)
    assert (policy.owner, policy.generation, policy.oldest_generation) == (other.address, 2, 2)
    await refused(ledger.policies.rotate(policy.address), "ENotOwner")
    node_ticket_policy = await other.policies.create(registry.address, Rules(usage_limit=1, ticket_ttl_ms=60_000))
    wanted = node_ticket_policy.namespace
    ticket = await other.policies.buy_ticket(node_ticket_policy, wanted, SESSION, node=node.address)
    assert (ticket.holder, ticket.staker) == (other.address, ledger.address)


async def test_stakers_govern_what_was_handed_over_to_them(
    server: "Server", ledger: Ledger, other: Ledger, registry: Registry
) -> None:
    address = registry.address
    await ledger.staking.deposit(address, 600)
    await other.staking.deposit(address, 400)
    await ledger.staking.fund_treasury(address, 50)
    advance(server, 1_000)
    await ledger.hand_over(address)
    await refused(ledger.set_policy(address, bytes(32)), "EGoverned")
    proposals = [
        await ledger.governance.propose_policy(address, b"\x0d" * 32),
        await ledger.governance.propose_limits(address, (await ledger.registry(address)).limits),
        await ledger.governance.propose_measurement(address, OTHER_PCRS),
        await ledger.governance.propose_retirement(address, 1),
        await ledger.governance.propose_parameters(address, Parameters(node_minimum_mist=9)),
        await ledger.governance.propose_spending(address, 30, other.address),
    ]
    for proposal in proposals:
        await ledger.governance.vote(proposal, approve=True)
        await other.governance.vote(proposal, approve=False)
    await refused(ledger.governance.vote(proposals[0], approve=True), "EAlreadyVoted")
    state = await ledger.governance.proposal(proposals[0].address)
    assert (state.for_mist, state.against_mist, state.accepted) == (600, 400, True)
    await refused(ledger.governance.execute(proposals[0]), "ETooEarly")
    advance(server, 7 * DAY_MS + 1)
    for proposal in proposals:
        await other.governance.execute(proposal)
    changed = await ledger.registry(address)
    assert (changed.policy, changed.governed) == (b"\x0d" * 32, True)
    assert [measurement.pcr0 for measurement in changed.measurements] == [OTHER_PCRS[0]]
    pool = await ledger.staking.pool(address)
    assert (pool.treasury, pool.parameters.node_minimum_mist) == (20, 9)


async def test_an_operator_that_signs_twice_is_slashed_and_loses_its_key(
    server: "Server", ledger: Ledger, other: Ledger, registry: Registry, create_cluster: object
) -> None:
    key = Ed25519PrivateKey.generate()
    arguments = {
        "public_key": key.public_key().public_bytes_raw(),
        "pcrs": PCRS,
        "nonce": registry.nonce,
        "document_digest": bytes(32),
    }
    await refused(ledger.register_simulated(registry.address, **arguments), "ENotEnoughStake")  # type: ignore[arg-type]
    await ledger.staking.deposit(registry.address, 1_000_000)
    effects = await ledger.register_simulated(registry.address, **arguments)  # type: ignore[arg-type]
    cluster_class: type[Cluster] = create_cluster.__self__  # type: ignore[attr-defined]  # the class of its classmethod
    cluster = cluster_class(registry, key, effects.only(EnclaveRegistered).enclave)
    now_ms = advance(server, 0)
    first = cluster.batch(1, timestamp_ms=now_ms)
    second = cluster.batch(1, timestamp_ms=now_ms, decisions="34" * 32)
    await ledger.submit(await ledger.build_anchor(first))
    effects = await other.report_equivocation(registry.address, first, second)
    reported, slashed = effects.only(EquivocationReported), effects.only(Slashed)
    assert (reported.slashed_mist, slashed.reporter_mist, slashed.treasury_mist) == (500_000, 50_000, 450_000)
    assert reported.first_digest == decision.payload_digest(first.header)
    assert (await ledger.enclave(cluster.enclave)).revoked
    account = await ledger.staking.account(registry.address, ledger.address)
    assert (account.bonded_mist, account.answers_until_ms > 0) == (500_000, True)
    await refused(other.report_equivocation(registry.address, second, first), "EAlreadyReported")


async def test_an_operator_retires_its_own_key(ledger: Ledger, other: Ledger, cluster: "Cluster") -> None:
    await refused(other.retire(cluster.enclave), "ENotOperator")
    await ledger.retire(cluster.enclave)
    assert (await ledger.enclave(cluster.enclave)).revoked


async def test_what_has_this_version_already_is_not_migrated(ledger: Ledger, cluster: "Cluster") -> None:
    for address in (cluster.registry.address, cluster.registry.pool, cluster.registry.roster, cluster.enclave):
        await refused(ledger.migrate(address), "EAlreadyMigrated")
    with pytest.raises(NoSuchObject):
        await ledger.migrate("0x" + "77" * 32)
