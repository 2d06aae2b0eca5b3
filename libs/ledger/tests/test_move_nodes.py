"""What `nodes` accepts and refuses, executed from the committed bytecode."""

import pytest
from move_machine import NOW_MS, OPERATOR, REPORTER, STRANGER, Cluster, Held, Machine

from daas.ledger.cluster import Node, Roster
from daas.ledger.cluster_events import (
    JoinTokenRotated,
    NodeDeregistered,
    NodeDraining,
    NodeHeartbeat,
    NodeRegistered,
)

#: The key on the machine, which is not the operator's.
MACHINE = b"\x0a" * 32


@pytest.fixture
def cluster(machine: Machine) -> Cluster:
    """A cluster whose operator has stake for two nodes."""
    made = machine.create()
    machine.deposit(made, 250)
    return made


@pytest.fixture
def node(machine: Machine, cluster: Cluster) -> Held:
    machine.call("nodes::register", cluster.roster, cluster.pool, b"worker-1.lab", MACHINE)
    return machine.shared("Node")


def test_a_node_is_registered_on_its_operators_stake(machine: Machine, cluster: Cluster) -> None:
    machine.call("nodes::register", cluster.roster, cluster.pool, b"worker-1.lab", MACHINE)
    node = machine.shared("Node")
    event = machine.event(NodeRegistered)
    assert (event.node, event.name, event.simulated) == (node.address, b"worker-1.lab", True)
    state = machine.read(Node, node)
    assert (state.operator, state.identity) == ("0x" + OPERATOR.hex(), "0x" + MACHINE.hex())
    assert (state.registered_ms, state.heartbeat_ms, state.draining) == (NOW_MS, NOW_MS, False)
    assert machine.read(Roster, cluster.roster).names.size == 1
    for function, value in {
        "name": b"worker-1.lab",
        "operator": OPERATOR,
        "identity": MACHINE,
        "is_draining": False,
    }.items():
        assert machine.call(f"nodes::{function}", node) == [value]


def test_stake_covers_so_many_nodes_and_no_more(machine: Machine, cluster: Cluster, node: Held) -> None:
    machine.call("nodes::register", cluster.roster, cluster.pool, b"b", MACHINE)
    arguments = (cluster.roster, cluster.pool, b"c", MACHINE)
    assert machine.refused("nodes::register", *arguments) == "stake::ENotEnoughStake"
    assert machine.refused("nodes::register", *arguments, sender=STRANGER) == "stake::ENotEnoughStake"
    machine.deposit(cluster, 50)
    machine.call("nodes::register", *arguments)


def test_without_a_minimum_an_account_still_counts_its_nodes(machine: Machine) -> None:
    cluster = machine.create(parameters=machine.parameters(node_minimum_mist=0))
    machine.call("nodes::register", cluster.roster, cluster.pool, b"a", MACHINE)
    node = machine.shared("Node")
    assert machine.call("stake::nodes_of", cluster.pool, OPERATOR) == [1]
    machine.call("nodes::deregister", cluster.roster, cluster.pool, node)
    assert machine.call("stake::nodes_of", cluster.pool, OPERATOR) == [0]


@pytest.mark.parametrize(
    "name", [b"", b"a" * 254, b"-a", b"a-", b".a", b"a.", b"A", b"a_b", b"a b", b"\xc3\xa4", b"a/b", b"a\x00"]
)
def test_a_node_name_is_a_dns_subdomain(machine: Machine, cluster: Cluster, name: bytes) -> None:
    refused = machine.refused("nodes::register", cluster.roster, cluster.pool, name, MACHINE)
    assert refused == "nodes::EInvalidName"


@pytest.mark.parametrize("name", [b"a", b"0", b"a" * 253, b"a-b.c-9"])
def test_good_node_names_are_taken(machine: Machine, cluster: Cluster, name: bytes) -> None:
    machine.call("nodes::register", cluster.roster, cluster.pool, name, MACHINE)


def test_a_name_is_taken_until_its_node_has_left(machine: Machine, cluster: Cluster, node: Held) -> None:
    arguments = (cluster.roster, cluster.pool, b"worker-1.lab", REPORTER)
    assert machine.refused("nodes::register", *arguments) == "nodes::ENameTaken"
    refused = machine.refused("nodes::deregister", cluster.roster, cluster.pool, node, sender=MACHINE)
    assert refused == "nodes::ENotOperator"
    machine.call("nodes::deregister", cluster.roster, cluster.pool, node)
    assert machine.event(NodeDeregistered).name == b"worker-1.lab"
    assert node.id in machine.execution.deleted_ids
    assert machine.call("stake::nodes_of", cluster.pool, OPERATOR) == [0]
    machine.call("nodes::register", *arguments)


def test_a_heartbeat_comes_from_the_node_or_its_operator(machine: Machine, cluster: Cluster, node: Held) -> None:
    for sender in (MACHINE, OPERATOR):
        machine.now_ms += 1
        machine.call("nodes::heartbeat", node, cluster.pool, sender=sender)
        assert machine.event(NodeHeartbeat).timestamp_ms == machine.now_ms
    assert machine.read(Node, node).heartbeat_ms == NOW_MS + 2
    assert machine.refused("nodes::heartbeat", node, cluster.pool, sender=STRANGER) == "nodes::ENotThisNode"


def test_a_node_whose_stake_is_gone_can_only_leave(machine: Machine, cluster: Cluster, node: Held) -> None:
    raised = machine.parameters(node_minimum_mist=251)
    machine.call("stake::set_parameters", cluster.registry, cluster.pool, raised)
    assert machine.refused("nodes::heartbeat", node, cluster.pool) == "stake::ENotEnoughStake"
    machine.call("nodes::deregister", cluster.roster, cluster.pool, node)


def join_id(machine: Machine, cluster: Cluster) -> bytes:
    state = machine.read(Roster, cluster.roster)
    assert machine.call("nodes::join_token_id", cluster.roster) == [state.join_token_id]
    return state.join_token_id


def test_a_node_in_service_opens_the_join_token_and_nobody_else_does(
    machine: Machine, cluster: Cluster, node: Held
) -> None:
    sealed = join_id(machine, cluster)
    objects = (cluster.roster, cluster.pool, node)
    machine.call("nodes::seal_approve_join", sealed, *objects, sender=MACHINE)
    for sender in (OPERATOR, STRANGER):
        refused = machine.refused("nodes::seal_approve_join", sealed, *objects, sender=sender)
        assert refused == "nodes::ENotThisNode"
    for other in (b"", sealed[:-1], sealed + b"\x00", bytes(40), sealed[:-8] + bytes(8)):
        assert machine.refused("nodes::seal_approve_join", other, *objects, sender=MACHINE) == "nodes::EWrongId"
    machine.call("nodes::rotate_join_token", cluster.roster)
    assert machine.event(JoinTokenRotated).generation == 2
    assert machine.refused("nodes::seal_approve_join", sealed, *objects, sender=MACHINE) == "nodes::EWrongId"
    machine.call("nodes::seal_approve_join", join_id(machine, cluster), *objects, sender=MACHINE)


def test_a_draining_node_opens_nothing(machine: Machine, cluster: Cluster, node: Held) -> None:
    assert machine.refused("nodes::drain", node, sender=MACHINE) == "nodes::ENotOperator"
    machine.call("nodes::drain", node)
    assert machine.event(NodeDraining).node == node.address
    arguments = (join_id(machine, cluster), cluster.roster, cluster.pool, node)
    assert machine.refused("nodes::seal_approve_join", *arguments, sender=MACHINE) == "nodes::EDraining"
    machine.call("nodes::drain", node)
    assert machine.events() == []


def test_a_node_without_stake_opens_nothing(machine: Machine, cluster: Cluster, node: Held) -> None:
    raised = machine.parameters(node_minimum_mist=251)
    machine.call("stake::set_parameters", cluster.registry, cluster.pool, raised)
    arguments = (join_id(machine, cluster), cluster.roster, cluster.pool, node)
    assert machine.refused("nodes::seal_approve_join", *arguments, sender=MACHINE) == "stake::ENotEnoughStake"


def test_objects_of_two_clusters_do_not_mix(machine: Machine, cluster: Cluster, node: Held) -> None:
    other = machine.create()
    arguments = (other.roster, cluster.pool, b"b", MACHINE)
    assert machine.refused("nodes::register", *arguments) == "nodes::EWrongRegistry"
    assert machine.refused("nodes::heartbeat", node, other.pool) == "nodes::EWrongRegistry"
    refused = machine.refused("nodes::deregister", other.roster, other.pool, node)
    assert refused == "nodes::EWrongRegistry"
    sealed = join_id(machine, other)
    refused = machine.refused("nodes::seal_approve_join", sealed, other.roster, other.pool, node, sender=MACHINE)
    assert refused == "nodes::EWrongRegistry"
