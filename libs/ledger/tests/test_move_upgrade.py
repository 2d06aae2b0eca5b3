"""The way from one version of the package to the next: objects are used by one version at a time, and migrated once.

What the ledger and the client do with a package that has been upgraded is held by `test_upgrade_connected.py`.
"""

from typing import Any

import pytest
from move_machine import NOW_MS, PCRS, Cluster, Held, Machine
from support.next_package import next_package

from daas.ledger.cluster import Node, Policy, Proposal, Roster, StakePool
from daas.ledger.cluster_events import NodeMigrated, PoolMigrated, ProposalMigrated, RosterMigrated, SealPolicyMigrated
from daas.ledger.events import EnclaveMigrated, RegistryMigrated
from daas.ledger.models import Enclave, Registry

SESSION = b"\x0f" * 32


class World:
    """One object of each kind, made by the first version."""

    def __init__(self, machine: Machine) -> None:
        free = machine.parameters(operator_minimum_mist=0, node_minimum_mist=0)
        self.cluster: Cluster = machine.create(parameters=free)
        self.enclave: Held = machine.enclave(self.cluster)
        machine.deposit(self.cluster, 100)
        machine.call("nodes::register", self.cluster.roster, self.cluster.pool, b"a", b"\x05" * 32)
        self.node: Held = machine.shared("Node")
        (rules,) = machine.call("rules::new", 0, [], 0, 0, 2, 0, 60_000)
        machine.call("policy::create", self.cluster.registry, rules)
        self.policy: Held = machine.shared("Policy")
        (prefix,) = machine.call("policy::namespace", self.policy)
        self.sealed_id = bytes(prefix)
        (self.action,) = machine.call("governance::retire_measurement", 1)
        machine.call("governance::propose", self.cluster.registry, self.cluster.pool, self.action)
        self.proposal: Held = machine.shared("Proposal")
        machine.call("policy::buy_ticket", *self.buy(machine))
        self.ticket: Held = machine.owned("Ticket")
        self.rules = rules

    def buy(self, machine: Machine) -> list[Any]:
        return [self.policy, self.cluster.pool, self.sealed_id, SESSION, machine.coin(0)]

    def uses(self, machine: Machine) -> dict[str, list[tuple[str, list[Any]]]]:
        """Functions that must refuse an object of another version, by the module whose code they refuse with."""
        registry, pool, roster = self.cluster
        sealed, session = self.sealed_id, SESSION
        return {
            "registry": [
                ("registry::set_policy", [registry, bytes(32)]),
                ("registry::set_limits", [registry, 1, 1, 1, 1]),
                ("registry::allow_measurement", [registry, *PCRS]),
                ("registry::retire_measurement", [registry, 1]),
                ("registry::hand_over", [registry]),
                ("stake::set_parameters", [registry, pool, machine.parameters()]),
                ("enclaves::register_simulated", [registry, pool, bytes(32), *PCRS, bytes(32), bytes(32)]),
                ("policy::create", [registry, self.rules]),
                ("governance::propose", [registry, pool, self.action]),
                ("governance::execute", [self.proposal, registry, pool]),
            ],
            "enclaves": [
                ("enclaves::revoke", [self.enclave]),
                ("enclaves::retire", [self.enclave]),
                ("enclaves::assert_current", [self.enclave, registry]),
            ],
            "stake": [
                ("stake::deposit", [pool, machine.coin(1)]),
                ("stake::request_withdraw", [pool, 1]),
                ("stake::withdraw", [pool]),
                ("stake::fund_treasury", [pool, machine.coin(1)]),
                ("nodes::register", [roster, pool, b"b", bytes(32)]),
                ("nodes::heartbeat", [self.node, pool]),
                ("policy::seal_approve", [sealed, self.policy, pool]),
                ("governance::vote", [self.proposal, pool, True]),
            ],
            "nodes": [
                ("nodes::drain", [self.node]),
                ("nodes::rotate_join_token", [roster]),
                ("nodes::seal_approve_join", [bytes(40), roster, pool, self.node]),
                ("nodes::deregister", [roster, pool, self.node]),
            ],
            "policy": [
                ("policy::set_rules", [self.policy, self.rules]),
                ("policy::rotate", [self.policy]),
                ("policy::buy_ticket", self.buy(machine)),
                ("policy::seal_approve_ticket", [sealed, session, self.policy, pool, self.ticket]),
                ("policy::seal_approve_rotation", [sealed, self.policy]),
            ],
            "governance": [("governance::vote", [self.proposal, pool, True])],
        }


@pytest.fixture(scope="module")
def upgraded() -> Machine:
    return Machine(list(next_package().modules))


@pytest.fixture
def after(machine: Machine, upgraded: Machine) -> Machine:
    """The next version, on the same state."""
    upgraded.now_ms, upgraded.fields = NOW_MS, machine.fields
    # Ids come from transaction digests: the chain goes on where the first version stopped.
    upgraded.transactions = machine.transactions + 1_000_000
    return upgraded


def test_the_next_version_has_the_next_number(after: Machine) -> None:
    assert after.call("version::current") == [2]


def migrations(world: World) -> list[tuple[str, Held, Any, type[Any]]]:
    return [
        ("registry::migrate", world.cluster.registry, Registry, RegistryMigrated),
        ("stake::migrate", world.cluster.pool, StakePool, PoolMigrated),
        ("nodes::migrate_roster", world.cluster.roster, Roster, RosterMigrated),
        ("nodes::migrate", world.node, Node, NodeMigrated),
        ("enclaves::migrate", world.enclave, Enclave, EnclaveMigrated),
        ("policy::migrate", world.policy, Policy, SealPolicyMigrated),
        ("governance::migrate", world.proposal, Proposal, ProposalMigrated),
    ]


def test_objects_of_this_version_need_no_migration(machine: Machine) -> None:
    for target, held, _, _ in migrations(World(machine)):
        assert machine.refused(target, held) == f"{target.split('::', maxsplit=1)[0]}::EAlreadyMigrated"


def test_the_next_version_refuses_what_is_not_migrated(machine: Machine, after: Machine) -> None:
    for module in ("registry", "enclaves", "stake", "nodes", "policy", "governance"):
        world = World(machine)
        after.fields = machine.fields
        for target, held, _, _ in migrations(world):
            if not target.startswith(f"{module}::"):
                after.call(target, held)
        for target, arguments in world.uses(after)[module]:
            assert after.refused(target, *arguments) == f"{module}::EWrongVersion", target


def test_migration_changes_the_number_and_nothing_else_and_the_old_version_stops(
    machine: Machine, after: Machine
) -> None:
    world = World(machine)
    for target, held, kind, event_class in migrations(world):
        before = machine.read(kind, held)
        after.call(target, held)
        event: Any = after.event(event_class)
        assert (event.from_version, event.to_version) == (1, 2)
        state = after.read(kind, held)
        assert state.version == 2
        assert {name: getattr(state, name) for name in kind.__struct_fields__ if name != "version"} == {
            name: getattr(before, name) for name in kind.__struct_fields__ if name != "version"
        }
        assert after.refused(target, held).endswith("::EAlreadyMigrated")
    for module, uses in world.uses(machine).items():
        for target, arguments in uses:
            refused = machine.refused(target, *arguments)
            assert refused.endswith("::EWrongVersion"), (module, target)


def test_a_migrated_cluster_works_on(machine: Machine, after: Machine) -> None:
    world = World(machine)
    for target, held, _, _ in migrations(world):
        after.call(target, held)
    registry, pool, roster = world.cluster
    after.call("stake::deposit", pool, after.coin(5))
    after.call("stake::request_withdraw", pool, 105)
    after.call("nodes::heartbeat", world.node, pool)
    after.call("nodes::deregister", roster, pool, world.node)
    after.call("enclaves::assert_current", world.enclave, registry)
    after.call("policy::buy_ticket", *world.buy(after))
    ticket = after.owned("Ticket")
    after.call("policy::seal_approve_ticket", world.sealed_id, SESSION, world.policy, pool, ticket)
    # Tickets live for an hour at most: those of the older version are bought again.
    refused = after.refused("policy::seal_approve_ticket", world.sealed_id, SESSION, world.policy, pool, world.ticket)
    assert refused == "policy::EWrongVersion"
