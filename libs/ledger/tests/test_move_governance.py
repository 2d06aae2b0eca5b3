"""What `governance` accepts and refuses, executed from the committed bytecode."""

from typing import Any

import pytest
from move_machine import (
    DAY_MS,
    LIMITS,
    NOW_MS,
    OPERATOR,
    PARAMETERS,
    PCRS,
    POLICY,
    REPORTER,
    STRANGER,
    Cluster,
    Held,
    Machine,
)

from daas.ledger.cluster import Parameters, Proposal, StakePool
from daas.ledger.cluster_events import ProposalCreated, ProposalExecuted, TreasurySpent, Voted
from daas.ledger.models import Registry

VOTE_ENDS_MS = 5 * DAY_MS
EXECUTABLE_MS = VOTE_ENDS_MS + 2 * DAY_MS
WINDOW_MS = 14 * DAY_MS
NEW_PCRS = [bytes([n]) * 48 for n in (7, 8, 9)]


@pytest.fixture
def cluster(machine: Machine) -> Cluster:
    """A cluster in the hands of two stakers with 600 and 400, since a while."""
    made = machine.create()
    machine.deposit(made, 600)
    machine.deposit(made, 400, sender=REPORTER)
    machine.call("registry::hand_over", made.registry)
    machine.now_ms = NOW_MS + DAY_MS
    return made


def action(machine: Machine, name: str, *arguments: Any) -> Any:
    (made,) = machine.call(f"governance::{name}", *arguments)
    return made


def propose(machine: Machine, cluster: Cluster, what: Any = None, sender: bytes = OPERATOR) -> Held:
    what = action(machine, "change_policy", b"\x0d" * 32) if what is None else what
    machine.call("governance::propose", cluster.registry, cluster.pool, what, sender=sender)
    return machine.shared("Proposal")


def vote(machine: Machine, cluster: Cluster, proposal: Held, sender: bytes, approve: bool = True) -> None:
    machine.call("governance::vote", proposal, cluster.pool, approve, sender=sender)


def execute(cluster: Cluster, proposal: Held) -> list[Any]:
    return [proposal, cluster.registry, cluster.pool]


def carry_out(machine: Machine, cluster: Cluster, what: Any) -> None:
    """Proposes, votes unanimously, waits, executes."""
    proposal = propose(machine, cluster, what)
    vote(machine, cluster, proposal, OPERATOR)
    vote(machine, cluster, proposal, REPORTER)
    machine.now_ms += EXECUTABLE_MS
    machine.call("governance::execute", *execute(cluster, proposal))


def test_a_proposal_says_when_it_can_be_voted_on_and_executed(machine: Machine, cluster: Cluster) -> None:
    proposal = propose(machine, cluster)
    event = machine.event(ProposalCreated)
    assert (event.action.kind, event.action.digests) == (5, (b"\x0d" * 32,))
    state = machine.read(Proposal, proposal)
    created_ms = NOW_MS + DAY_MS
    assert (state.created_ms, state.voting_until_ms) == (created_ms, created_ms + VOTE_ENDS_MS)
    assert state.executable_from_ms == created_ms + EXECUTABLE_MS
    assert state.executable_until_ms == created_ms + EXECUTABLE_MS + WINDOW_MS
    assert (state.quorum_mist, state.for_mist, state.against_mist, state.executed) == (300, 0, 0, False)


def test_a_proposer_has_something_at_stake(machine: Machine, cluster: Cluster) -> None:
    what = action(machine, "change_policy", POLICY)
    arguments = (cluster.registry, cluster.pool, what)
    assert machine.refused("governance::propose", *arguments, sender=STRANGER) == "stake::ENotEnoughStake"
    machine.deposit(cluster, 10, sender=STRANGER)
    machine.call("governance::propose", *arguments, sender=STRANGER)


def test_an_accepted_proposal_is_executed_after_its_waiting_time_and_once(machine: Machine, cluster: Cluster) -> None:
    proposal = propose(machine, cluster)
    vote(machine, cluster, proposal, OPERATOR)
    assert (machine.event(Voted).weight_mist, machine.event(Voted).for_mist) == (600, 600)
    vote(machine, cluster, proposal, REPORTER, approve=False)
    assert machine.event(Voted).against_mist == 400
    assert machine.call("governance::is_accepted", proposal) == [True]
    for wait_ms in (0, VOTE_ENDS_MS, EXECUTABLE_MS - 1):
        machine.now_ms = NOW_MS + DAY_MS + wait_ms
        assert machine.refused("governance::execute", *execute(cluster, proposal)) == "governance::ETooEarly"
    machine.now_ms += 1
    machine.call("governance::execute", *execute(cluster, proposal), sender=STRANGER)
    assert machine.event(ProposalExecuted).kind == 5
    assert machine.read(Registry, cluster.registry).policy == b"\x0d" * 32
    assert machine.refused("governance::execute", *execute(cluster, proposal)) == "governance::EAlreadyExecuted"


def test_a_proposal_that_waited_too_long_means_nothing_any_more(machine: Machine, cluster: Cluster) -> None:
    proposal = propose(machine, cluster)
    vote(machine, cluster, proposal, OPERATOR)
    machine.now_ms += EXECUTABLE_MS + WINDOW_MS
    assert machine.refused("governance::execute", *execute(cluster, proposal)) == "governance::EExpired"


@pytest.mark.parametrize("votes", [{}, {REPORTER: False}, {OPERATOR: False, REPORTER: True}])
def test_a_proposal_without_quorum_or_majority_is_not_executed(
    machine: Machine, cluster: Cluster, votes: dict[bytes, bool]
) -> None:
    proposal = propose(machine, cluster)
    for voter, approve in votes.items():
        vote(machine, cluster, proposal, voter, approve)
    machine.now_ms += EXECUTABLE_MS
    assert machine.refused("governance::execute", *execute(cluster, proposal)) == "governance::ENotAccepted"


def test_a_quorum_is_of_all_stake_at_the_time_of_the_proposal(machine: Machine, cluster: Cluster) -> None:
    high = machine.parameters(quorum_bps=6_001)
    carry_out(machine, cluster, action(machine, "change_parameters", high))
    proposal = propose(machine, cluster)
    vote(machine, cluster, proposal, OPERATOR)
    # 600 of 1,000 are less than 600.1; rounded down that is 600: just enough.
    assert machine.call("governance::is_accepted", proposal) == [True]
    assert machine.read(Proposal, proposal).quorum_mist == 600


def test_an_address_votes_once_and_in_time(machine: Machine, cluster: Cluster) -> None:
    proposal = propose(machine, cluster)
    vote(machine, cluster, proposal, OPERATOR)
    refused = machine.refused("governance::vote", proposal, cluster.pool, False)
    assert refused == "governance::EAlreadyVoted"
    machine.now_ms += VOTE_ENDS_MS
    refused = machine.refused("governance::vote", proposal, cluster.pool, True, sender=REPORTER)
    assert refused == "governance::EVoteEnded"


def test_stake_that_came_with_or_after_the_proposal_does_not_vote(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 10_000, sender=STRANGER)
    proposal = propose(machine, cluster, sender=STRANGER)
    refused = machine.refused("governance::vote", proposal, cluster.pool, True, sender=STRANGER)
    assert refused == "governance::ENoWeight"
    machine.now_ms += 1
    machine.deposit(cluster, 10_000)
    vote(machine, cluster, proposal, OPERATOR)
    assert machine.event(Voted).weight_mist == 600


def test_stake_that_left_since_does_not_vote_and_can_not_vote_again_elsewhere(
    machine: Machine, cluster: Cluster
) -> None:
    proposal = propose(machine, cluster)
    machine.call("stake::request_withdraw", cluster.pool, 250)
    vote(machine, cluster, proposal, OPERATOR)
    assert machine.event(Voted).weight_mist == 350
    # What is on its way out is free after the vote and its waiting time only, and is too young wherever it goes.
    machine.now_ms += VOTE_ENDS_MS - 1
    assert machine.refused("stake::withdraw", cluster.pool) == "stake::ENothingToWithdraw"
    machine.deposit(cluster, 250, sender=STRANGER)
    refused = machine.refused("governance::vote", proposal, cluster.pool, True, sender=STRANGER)
    assert refused == "governance::ENoWeight"


def test_stakers_change_everything_that_the_admin_could(machine: Machine, cluster: Cluster) -> None:
    changed = PARAMETERS | {"node_minimum_mist": 77}
    carry_out(machine, cluster, action(machine, "change_parameters", machine.parameters(node_minimum_mist=77)))
    assert machine.read(StakePool, cluster.pool).parameters == Parameters(**changed)
    carry_out(machine, cluster, action(machine, "change_limits", 1, 2, 3, 4))
    assert machine.read(Registry, cluster.registry).limits.batch_age_ms == 3
    carry_out(machine, cluster, action(machine, "allow_measurement", *NEW_PCRS))
    carry_out(machine, cluster, action(machine, "retire_measurement", 1))
    assert [m.version for m in machine.read(Registry, cluster.registry).measurements] == [2]
    machine.call("stake::fund_treasury", cluster.pool, machine.coin(50), sender=STRANGER)
    carry_out(machine, cluster, action(machine, "spend_treasury", 30, STRANGER))
    assert machine.event(TreasurySpent).amount_mist == 30
    assert machine.paid() == {STRANGER: 30}
    assert machine.call("stake::treasury_value", cluster.pool) == [20]


def test_more_than_the_treasury_holds_is_not_spent(machine: Machine, cluster: Cluster) -> None:
    proposal = propose(machine, cluster, action(machine, "spend_treasury", 1, STRANGER))
    vote(machine, cluster, proposal, OPERATOR)
    machine.now_ms += EXECUTABLE_MS
    assert machine.refused("governance::execute", *execute(cluster, proposal)) == "stake::ETreasuryTooSmall"


def test_what_could_never_be_executed_is_not_proposed(machine: Machine) -> None:
    for name, arguments, code in (
        ("change_policy", (bytes(31),), "governance::EDigestLength"),
        ("spend_treasury", (0, STRANGER), "governance::EZeroAmount"),
        ("change_limits", (0, *list(LIMITS.values())[1:]), "registry::EInvalidLimit"),
        ("allow_measurement", (bytes(48), *PCRS[1:]), "measurements::EZeroPcr"),
        ("allow_measurement", (*PCRS[:2], bytes(47)), "measurements::EPcrLength"),
    ):
        assert machine.refused(f"governance::{name}", *arguments) == code


def test_before_the_cluster_is_handed_over_a_vote_is_advice(machine: Machine) -> None:
    cluster = machine.create()
    machine.deposit(cluster, 600)
    machine.now_ms += 1
    proposal = propose(machine, cluster)
    vote(machine, cluster, proposal, OPERATOR)
    machine.now_ms += EXECUTABLE_MS
    assert machine.refused("governance::execute", *execute(cluster, proposal)) == "registry::ENotGoverned"
    machine.call("registry::hand_over", cluster.registry)
    machine.call("governance::execute", *execute(cluster, proposal))


def test_a_real_cluster_can_not_vote_itself_free_of_stake(machine: Machine) -> None:
    cluster = machine.create(simulated=False)
    machine.deposit(cluster, 600)
    machine.call("registry::hand_over", cluster.registry)
    machine.now_ms += 1
    proposal = propose(
        machine, cluster, action(machine, "change_parameters", machine.parameters(operator_minimum_mist=0))
    )
    vote(machine, cluster, proposal, OPERATOR)
    machine.now_ms += EXECUTABLE_MS
    assert machine.refused("governance::execute", *execute(cluster, proposal)) == "stake::EStakeRequired"


def test_proposals_of_one_cluster_mean_nothing_in_another(machine: Machine, cluster: Cluster) -> None:
    other = machine.create()
    machine.call("registry::hand_over", other.registry)
    proposal = propose(machine, cluster)
    refused = machine.refused("governance::vote", proposal, other.pool, True)
    assert refused == "governance::EWrongRegistry"
    vote(machine, cluster, proposal, OPERATOR)
    machine.now_ms += EXECUTABLE_MS
    assert machine.refused("governance::execute", *execute(other, proposal)) == "governance::EWrongRegistry"
    arguments = (proposal, other.registry, cluster.pool)
    assert machine.refused("governance::execute", *arguments) == "stake::EWrongRegistry"
    what = action(machine, "change_policy", POLICY)
    refused = machine.refused("governance::propose", other.registry, cluster.pool, what)
    assert refused == "stake::EWrongRegistry"
