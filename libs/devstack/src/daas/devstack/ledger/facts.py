"""The facts about a transaction that filters look at, taken from what it asked for and what it did."""

from __future__ import annotations

from daas.devstack.ledger.effects import Effects
from daas.devstack.ledger.filters import Facts
from daas.devstack.ledger.transaction_data import MoveCall, Transaction
from daas.devstack.ledger.type_tags import format_address, format_type


def facts_of(transaction: Transaction | None, effects: Effects) -> Facts:
    """Facts of an executed transaction; None: one of the ledger's own, without a sender."""
    addresses = {owner for owner, _, _ in effects.funds}
    for change in effects.changes:
        for held in (change.before, change.after):
            if held is not None and held.owner.kind == "address":
                addresses.add(held.owner.address)
    commands = transaction.commands if transaction is not None else ()
    calls = {
        f"{format_address(command.package)}::{command.module}::{command.function}"
        for command in commands
        if isinstance(command, MoveCall)
    }
    return Facts(
        sender=format_address(transaction.sender) if transaction is not None else "",
        addresses=tuple(sorted(map(format_address, addresses))),
        objects=tuple(format_address(change.id) for change in effects.changes),
        calls=tuple(sorted(calls)),
        events=tuple((format_address(e.package), e.module, format_type(e.type)) for e in effects.events),
        package_write=bool(effects.packages),
    )
