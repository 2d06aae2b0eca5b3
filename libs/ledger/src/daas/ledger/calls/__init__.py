"""The functions of the Move package as values: one constructor per function, arguments in Move's order."""

from daas.ledger.calls import governance, nodes, policy, stake
from daas.ledger.calls.common import Pcrs, migrate
from daas.ledger.calls.package import current_version, send_funds, upgrade
from daas.ledger.calls.registry import (
    allow_measurement,
    anchor,
    create_registry,
    hand_over,
    load_document,
    register,
    register_simulated,
    report_equivocation,
    retire,
    retire_measurement,
    revoke,
    set_limits,
    set_policy,
    verify_inclusion,
)

__all__ = [
    "Pcrs",
    "allow_measurement",
    "anchor",
    "create_registry",
    "current_version",
    "governance",
    "hand_over",
    "load_document",
    "migrate",
    "nodes",
    "policy",
    "register",
    "register_simulated",
    "report_equivocation",
    "retire",
    "retire_measurement",
    "revoke",
    "send_funds",
    "set_limits",
    "set_policy",
    "stake",
    "upgrade",
    "verify_inclusion",
]
