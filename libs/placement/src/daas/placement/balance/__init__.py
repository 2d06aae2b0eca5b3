"""Load balancing: plans of moves with exact gains, checked one by one, within budgets, and never there and back.

Plan:    `plan(situation)`
Verify:  `verify(situation, plan)`; O(moves) once the loads are counted (`Book`, `verify_moves`)
Apply:   `check_step(situation_now, move)` before each eviction, then evict, then let the pod be placed on the target
"""

from typing import TYPE_CHECKING, Any

from daas.placement.allocation.errors import CertificateError, CertificateFormatError, ClusterError, StaleMoveError
from daas.placement.balance.book import Book, Refusal
from daas.placement.balance.certificate import Move, RebalancePlan
from daas.placement.balance.situation import Budget, PastMove, RebalancePolicy, Situation
from daas.placement.balance.verify import Balance, check_step, verify, verify_moves

if TYPE_CHECKING:
    from daas.placement.balance.planner import plan

__all__ = [
    "Balance",
    "Book",
    "Budget",
    "CertificateError",
    "CertificateFormatError",
    "ClusterError",
    "Move",
    "PastMove",
    "RebalancePlan",
    "RebalancePolicy",
    "Refusal",
    "Situation",
    "StaleMoveError",
    "check_step",
    "plan",
    "verify",
    "verify_moves",
]


def __getattr__(name: str) -> Any:
    """The planner, on first use: a verifier never loads it."""
    if name != "plan":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from daas.placement.balance.planner import plan  # noqa: PLC0415 - only where planning is asked for

    return plan
