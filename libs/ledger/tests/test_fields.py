"""Entries of tables are found where Sui puts them."""

from move_machine import CHAIN, OPERATOR, Machine

from daas.common import bcs
from daas.ledger import fields
from daas.ledger.address import format_address
from daas.ledger.cluster import Account, Roster, StakePool, Tranche
from daas.ledger.layout import read_struct


def test_the_entry_of_an_address_is_where_the_client_looks(machine: Machine) -> None:
    cluster = machine.create()
    machine.deposit(cluster, 700)
    table = machine.read(StakePool, cluster.pool).accounts.address
    entry = fields.address_entry(table, format_address(OPERATOR))
    held = machine.fields[bytes.fromhex(entry[2:])]
    reader = fields.value_of(held.contents, OPERATOR)
    account = read_struct(Account, reader)
    reader.end()
    assert account == Account(bonded=(Tranche(amount_mist=700, since_ms=machine.now_ms),))


def test_the_entry_of_a_name_is_where_the_client_looks(machine: Machine) -> None:
    cluster = machine.create()
    machine.deposit(cluster, 700)
    machine.call("nodes::register", cluster.roster, cluster.pool, b"worker-1", CHAIN)
    node = machine.shared("Node")
    table = machine.read(Roster, cluster.roster).names.address
    held = machine.fields[bytes.fromhex(fields.bytes_entry(table, b"worker-1")[2:])]
    reader = fields.value_of(held.contents, bcs.bytes_(b"worker-1"))
    assert reader.address() == node.id
    reader.end()
