"""What `rules` and `policy` accept and refuse, executed from the committed bytecode."""

from typing import Any

import pytest
from move_machine import NOW_MS, OPERATOR, REPORTER, STRANGER, Cluster, Held, Machine

from daas.ledger.cluster import Policy, Rules, Ticket
from daas.ledger.cluster_events import (
    SealPolicyChanged,
    SealPolicyCreated,
    SealPolicyRotated,
    SealPolicyTransferred,
    TicketBought,
)

OWNER, MACHINE = b"\x09" * 32, b"\x0a" * 32
SESSION = b"\x0f" * 32
RULES: dict[str, Any] = {
    "required_stake_mist": 0,
    "allowed_nodes": [],
    "not_before_ms": 0,
    "not_after_ms": 0,
    "usage_limit": 0,
    "ticket_price_mist": 0,
    "ticket_ttl_ms": 0,
}
LIMITED = {"usage_limit": 3, "ticket_ttl_ms": 60_000, "ticket_price_mist": 25}


@pytest.fixture
def cluster(machine: Machine) -> Cluster:
    """A cluster whose operator has 500 at stake."""
    made = machine.create()
    machine.deposit(made, 500)
    return made


def rules(machine: Machine, **changed: Any) -> Any:
    (made,) = machine.call("rules::new", *(RULES | changed).values())
    return made


def create(machine: Machine, cluster: Cluster, **changed: Any) -> Held:
    machine.call("policy::create", cluster.registry, rules(machine, **changed), sender=OWNER)
    return machine.shared("Policy")


def sealed_id(machine: Machine, policy: Held, rest: bytes = b"db/password") -> bytes:
    (prefix,) = machine.call("policy::namespace", policy)
    assert prefix == machine.read(Policy, policy).namespace
    return bytes(prefix) + rest


def register(machine: Machine, cluster: Cluster, name: bytes = b"a") -> Held:
    machine.call("nodes::register", cluster.roster, cluster.pool, name, MACHINE)
    return machine.shared("Node")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"allowed_nodes": [bytes([n]) * 32 for n in range(65)]}, "ETooManyNodes"),
        ({"not_before_ms": 5, "not_after_ms": 5}, "EInvalidWindow"),
        ({"ticket_ttl_ms": 1}, "EInvalidTickets"),
        ({"ticket_price_mist": 1}, "EInvalidTickets"),
        ({"usage_limit": 1}, "EInvalidTickets"),
        ({"usage_limit": 1, "ticket_ttl_ms": 3_600_001}, "EInvalidTickets"),
    ],
)
def test_rules_are_refused_with(machine: Machine, changed: dict[str, Any], code: str) -> None:
    assert machine.refused("rules::new", *(RULES | changed).values()) == f"rules::{code}"


def test_rules_say_what_they_were_made_of(machine: Machine) -> None:
    made = rules(machine, required_stake_mist=5, **LIMITED)
    for name, value in {"required_stake_mist": 5, **LIMITED}.items():
        assert machine.call(f"rules::{name}", made) == [value]


def test_a_policy_belongs_to_its_maker(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster, required_stake_mist=7)
    event = machine.event(SealPolicyCreated)
    assert event.rules == Rules(required_stake_mist=7)
    state = machine.read(Policy, policy)
    assert (state.owner, state.generation, state.oldest_generation, state.tickets_sold) == (
        "0x" + OWNER.hex(),
        1,
        1,
        0,
    )
    for function, value in {"owner": OWNER, "generation": 1, "tickets_sold": 0}.items():
        assert machine.call(f"policy::{function}", policy) == [value]


def test_only_the_owner_changes_a_policy(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster)
    changed = rules(machine, required_stake_mist=1)
    for target, arguments in {
        "policy::set_rules": (changed,),
        "policy::transfer_ownership": (STRANGER,),
        "policy::rotate": (),
        "policy::retire_generations": (),
    }.items():
        assert machine.refused(target, policy, *arguments, sender=STRANGER) == "policy::ENotOwner", target
    machine.call("policy::set_rules", policy, changed, sender=OWNER)
    assert machine.event(SealPolicyChanged).rules.required_stake_mist == 1
    machine.call("policy::transfer_ownership", policy, STRANGER, sender=OWNER)
    event = machine.event(SealPolicyTransferred)
    assert (event.previous_owner, event.owner) == ("0x" + OWNER.hex(), "0x" + STRANGER.hex())
    assert machine.refused("policy::rotate", policy, sender=OWNER) == "policy::ENotOwner"
    machine.call("policy::rotate", policy, sender=STRANGER)


def test_a_reader_needs_the_stake_that_the_policy_asks(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster, required_stake_mist=500)
    wanted = sealed_id(machine, policy)
    machine.call("policy::seal_approve", wanted, policy, cluster.pool)
    refused = machine.refused("policy::seal_approve", wanted, policy, cluster.pool, sender=STRANGER)
    assert refused == "stake::ENotEnoughStake"
    machine.call("stake::request_withdraw", cluster.pool, 1)
    assert machine.refused("policy::seal_approve", wanted, policy, cluster.pool) == "stake::ENotEnoughStake"


def test_a_time_window_holds_its_first_moment_and_not_its_last(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster, not_before_ms=NOW_MS, not_after_ms=NOW_MS + 10)
    arguments = (sealed_id(machine, policy), policy, cluster.pool)
    machine.now_ms = NOW_MS - 1
    assert machine.refused("policy::seal_approve", *arguments) == "rules::ETooEarly"
    for machine.now_ms in (NOW_MS, NOW_MS + 9):
        machine.call("policy::seal_approve", *arguments)
    machine.now_ms = NOW_MS + 10
    assert machine.refused("policy::seal_approve", *arguments) == "rules::ETooLate"


def test_a_policy_opens_its_own_ids_only(machine: Machine, cluster: Cluster) -> None:
    policy, other = create(machine, cluster), create(machine, cluster)
    mine = sealed_id(machine, policy)
    machine.call("policy::seal_approve", mine[:40], policy, cluster.pool)
    for wanted, code in (
        (mine[:39], "EWrongId"),
        (b"", "EWrongId"),
        (sealed_id(machine, other), "EWrongId"),
        (mine[:32] + (0).to_bytes(8, "little"), "EWrongGeneration"),
        (mine[:32] + (2).to_bytes(8, "little"), "EWrongGeneration"),
        (mine[:32] + (2**63 + 1).to_bytes(8, "little"), "EWrongGeneration"),
    ):
        assert machine.refused("policy::seal_approve", wanted, policy, cluster.pool) == f"policy::{code}"
    elsewhere = machine.create()
    assert machine.refused("policy::seal_approve", mine, policy, elsewhere.pool) == "policy::EWrongRegistry"


def test_only_the_allowed_nodes_read(machine: Machine, cluster: Cluster) -> None:
    allowed, other = register(machine, cluster, b"a"), register(machine, cluster, b"b")
    policy = create(machine, cluster, allowed_nodes=[b"\x01" * 32, allowed.id], required_stake_mist=500)
    wanted = sealed_id(machine, policy)
    assert machine.refused("policy::seal_approve", wanted, policy, cluster.pool) == "rules::ENodeRequired"
    arguments = (wanted, policy, cluster.pool)
    machine.call("policy::seal_approve_node", *arguments, allowed, sender=MACHINE)
    refused = machine.refused("policy::seal_approve_node", *arguments, other, sender=MACHINE)
    assert refused == "rules::ENodeNotAllowed"
    refused = machine.refused("policy::seal_approve_node", *arguments, allowed, sender=OPERATOR)
    assert refused == "nodes::ENotThisNode"
    machine.call("nodes::drain", allowed)
    refused = machine.refused("policy::seal_approve_node", *arguments, allowed, sender=MACHINE)
    assert refused == "nodes::EDraining"


def test_a_policy_without_a_list_lets_every_node_in_service_read(machine: Machine, cluster: Cluster) -> None:
    node, policy = register(machine, cluster), create(machine, cluster, required_stake_mist=501)
    arguments = (sealed_id(machine, policy), policy, cluster.pool, node)
    refused = machine.refused("policy::seal_approve_node", *arguments, sender=MACHINE)
    assert refused == "stake::ENotEnoughStake"
    machine.deposit(cluster, 1)
    machine.call("policy::seal_approve_node", *arguments, sender=MACHINE)


def buy(machine: Machine, cluster: Cluster, policy: Held, **changed: Any) -> list[Any]:
    fields: dict[str, Any] = {"sealed_id": sealed_id(machine, policy), "session": SESSION, "price_mist": 25} | changed
    return [policy, cluster.pool, fields["sealed_id"], fields["session"], machine.coin(fields["price_mist"])]


def test_a_limit_of_three_sells_three_tickets(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster, **LIMITED)
    wanted = sealed_id(machine, policy)
    for number in (1, 2, 3):
        machine.call("policy::buy_ticket", *buy(machine, cluster, policy), sender=REPORTER)
        event = machine.event(TicketBought)
        assert (event.number, event.usage_limit, event.generation) == (number, 3, 1)
        assert machine.paid() == {OWNER: 25}
        ticket = machine.owned("Ticket")
        assert ticket.owner == REPORTER
        state = machine.read(Ticket, ticket)
        assert (state.sealed_id, state.session, state.expires_ms) == (wanted, SESSION, NOW_MS + 60_000)
        arguments = (wanted, SESSION, policy, cluster.pool, ticket)
        machine.call("policy::seal_approve_ticket", *arguments, sender=REPORTER)
    fourth = buy(machine, cluster, policy)
    assert machine.refused("policy::buy_ticket", *fourth, sender=REPORTER) == "policy::ELimitReached"
    assert machine.refused("policy::seal_approve", wanted, policy, cluster.pool) == "policy::ETicketRequired"
    machine.call("policy::discard", ticket, sender=REPORTER)
    assert ticket.id in machine.execution.deleted_ids
    assert machine.refused("policy::buy_ticket", *fourth, sender=REPORTER) == "policy::ELimitReached"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"price_mist": 24}, "EWrongPayment"),
        ({"price_mist": 26}, "EWrongPayment"),
        ({"session": bytes(31)}, "ESessionLength"),
        ({"sealed_id": bytes(40)}, "EWrongId"),
        ({"sealed_id": bytes(257)}, "EIdTooLong"),
    ],
)
def test_a_ticket_is_not_sold_with(machine: Machine, cluster: Cluster, changed: dict[str, Any], code: str) -> None:
    policy = create(machine, cluster, **LIMITED)
    assert machine.refused("policy::buy_ticket", *buy(machine, cluster, policy, **changed)) == f"policy::{code}"


def test_a_free_ticket_makes_no_empty_coin(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster, usage_limit=1, ticket_ttl_ms=1)
    machine.call("policy::buy_ticket", *buy(machine, cluster, policy, price_mist=0))
    assert machine.placed("Coin") == []


def test_tickets_are_sold_where_there_is_a_limit_and_to_whom_the_rules_allow(
    machine: Machine, cluster: Cluster
) -> None:
    unlimited = create(machine, cluster)
    arguments = buy(machine, cluster, unlimited, price_mist=0)
    assert machine.refused("policy::buy_ticket", *arguments) == "policy::ENoTickets"
    staked = create(machine, cluster, required_stake_mist=500, **LIMITED)
    arguments = buy(machine, cluster, staked)
    assert machine.refused("policy::buy_ticket", *arguments, sender=STRANGER) == "stake::ENotEnoughStake"
    machine.call("policy::buy_ticket", *arguments)


def test_a_node_buys_its_ticket_on_its_operators_stake(machine: Machine, cluster: Cluster) -> None:
    node, other = register(machine, cluster, b"a"), register(machine, cluster, b"b")
    policy = create(machine, cluster, required_stake_mist=500, allowed_nodes=[node.id], **LIMITED)
    wanted = sealed_id(machine, policy)
    head, tail = (policy, cluster.pool), (wanted, SESSION, machine.coin(25))
    assert machine.refused("policy::buy_ticket", *head, *tail, sender=MACHINE) == "rules::ENodeRequired"
    refused = machine.refused("policy::buy_ticket_as_node", *head, other, *tail, sender=MACHINE)
    assert refused == "rules::ENodeNotAllowed"
    assert machine.refused("policy::buy_ticket_as_node", *head, node, *tail) == "nodes::ENotThisNode"
    refused = machine.refused("policy::seal_approve_node", wanted, *head, node, sender=MACHINE)
    assert refused == "policy::ETicketRequired"
    machine.call("policy::buy_ticket_as_node", *head, node, *tail, sender=MACHINE)
    ticket = machine.owned("Ticket")
    machine.call("policy::seal_approve_ticket", wanted, SESSION, *head, ticket, sender=MACHINE)
    machine.call("stake::request_withdraw", cluster.pool, 1)
    refused = machine.refused("policy::seal_approve_ticket", wanted, SESSION, *head, ticket, sender=MACHINE)
    assert refused == "stake::ENotEnoughStake"


def test_a_ticket_opens_one_id_for_one_holder_in_one_session_until_it_expires(
    machine: Machine, cluster: Cluster
) -> None:
    policy = create(machine, cluster, **LIMITED)
    machine.call("policy::buy_ticket", *buy(machine, cluster, policy), sender=REPORTER)
    ticket, wanted = machine.owned("Ticket"), sealed_id(machine, policy)
    twin = create(machine, cluster, **LIMITED)
    other_id = sealed_id(machine, policy, b"db/other")

    def refused(wanted: bytes, session: bytes, policy: Held, sender: bytes = REPORTER) -> str:
        arguments = (wanted, session, policy, cluster.pool, ticket)
        return machine.refused("policy::seal_approve_ticket", *arguments, sender=sender)

    assert refused(other_id, SESSION, policy) == "policy::EWrongTicket"
    assert refused(wanted, b"\x10" * 32, policy) == "policy::EWrongTicket"
    assert refused(wanted, SESSION, policy, sender=STRANGER) == "policy::EWrongTicket"
    assert refused(sealed_id(machine, twin), SESSION, twin) == "policy::EWrongTicket"
    machine.now_ms = NOW_MS + 59_999
    machine.call("policy::seal_approve_ticket", wanted, SESSION, policy, cluster.pool, ticket, sender=REPORTER)
    machine.now_ms += 1
    assert refused(wanted, SESSION, policy) == "policy::ETicketExpired"


def test_rotation_seals_anew_and_retirement_closes_what_is_old(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster)
    old = sealed_id(machine, policy)
    refused = machine.refused("policy::seal_approve_rotation", old, policy, sender=OWNER)
    assert refused == "policy::ENotRotatedOut"
    machine.call("policy::rotate", policy, sender=OWNER)
    event = machine.event(SealPolicyRotated)
    assert (event.generation, event.oldest_generation) == (2, 1)
    new = sealed_id(machine, policy)
    for wanted in (old, new):
        machine.call("policy::seal_approve", wanted, policy, cluster.pool)
    machine.call("policy::seal_approve_rotation", old, policy, sender=OWNER)
    assert machine.refused("policy::seal_approve_rotation", old, policy) == "policy::ENotOwner"
    machine.call("policy::retire_generations", policy, sender=OWNER)
    assert machine.event(SealPolicyRotated).oldest_generation == 2
    assert machine.refused("policy::seal_approve", old, policy, cluster.pool) == "policy::EWrongGeneration"
    refused = machine.refused("policy::seal_approve_rotation", old, policy, sender=OWNER)
    assert refused == "policy::EWrongGeneration"
    machine.call("policy::seal_approve", new, policy, cluster.pool)


def test_each_generation_counts_its_own_tickets(machine: Machine, cluster: Cluster) -> None:
    policy = create(machine, cluster, usage_limit=1, ticket_ttl_ms=60_000)
    first = buy(machine, cluster, policy, price_mist=0)
    machine.call("policy::buy_ticket", *first)
    machine.call("policy::rotate", policy, sender=OWNER)
    again = buy(machine, cluster, policy, price_mist=0, sealed_id=first[2])
    assert machine.refused("policy::buy_ticket", *again) == "policy::EWrongGeneration"
    machine.call("policy::buy_ticket", *buy(machine, cluster, policy, price_mist=0))
    refused = machine.refused("policy::buy_ticket", *buy(machine, cluster, policy, price_mist=0))
    assert refused == "policy::ELimitReached"


def test_a_rule_can_be_asked_on_its_own(machine: Machine) -> None:
    made = rules(machine, allowed_nodes=[MACHINE], not_before_ms=5)
    machine.call("rules::assert_allows", made, MACHINE)
    assert machine.refused("rules::assert_allows", made, STRANGER) == "rules::ENodeNotAllowed"
    assert machine.refused("rules::assert_open_to_all", made) == "rules::ENodeRequired"
    assert machine.refused("rules::assert_time", made, 4) == "rules::ETooEarly"
