"""Optimality: allocations of pending pods with a certificate of how far from the best they can be.

Plan:    `plan(cluster, Objective(), Effort()).certificate`  (needs the solver, `highspy`)
Verify:  `verify(cluster, objective, certificate)`  (integers only; no solver, nothing of the engine but the model)
"""

from typing import TYPE_CHECKING, Any

from daas.placement.allocation.certificate import Certificate
from daas.placement.allocation.cluster import Cluster, Running
from daas.placement.allocation.errors import (
    CertificateError,
    CertificateFormatError,
    ClusterError,
    SolverError,
    StaleMoveError,
)
from daas.placement.allocation.model import AllocationModel, build_model
from daas.placement.allocation.objective import Objective
from daas.placement.allocation.verify import Verdict, placements, price_bound, verify, verify_against

if TYPE_CHECKING:
    from daas.placement.allocation.planner import (
        Effort,
        Outcome,
        certify,
        plan,
        plan_model,
        plan_without_solver,
        solverless_prices,
    )
    from daas.placement.allocation.view import Moment, cluster_of, cluster_of_snapshot, moment_of_snapshot

__all__ = [
    "AllocationModel",
    "Certificate",
    "CertificateError",
    "CertificateFormatError",
    "Cluster",
    "ClusterError",
    "Effort",
    "Moment",
    "Objective",
    "Outcome",
    "Running",
    "SolverError",
    "StaleMoveError",
    "Verdict",
    "build_model",
    "certify",
    "cluster_of",
    "cluster_of_snapshot",
    "moment_of_snapshot",
    "placements",
    "plan",
    "plan_model",
    "plan_without_solver",
    "price_bound",
    "solverless_prices",
    "verify",
    "verify_against",
]

_PLANNING = {
    "Effort": "planner",
    "Outcome": "planner",
    "certify": "planner",
    "plan": "planner",
    "plan_model": "planner",
    "plan_without_solver": "planner",
    "Moment": "view",
    "moment_of_snapshot": "view",
    "solverless_prices": "planner",
    "cluster_of": "view",
    "cluster_of_snapshot": "view",
}


def __getattr__(name: str) -> Any:
    """The planner and the view of a scheduler's state, on first use: a verifier never loads them."""
    if name not in _PLANNING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only where one of these names is asked for

    return getattr(import_module(f"{__name__}.{_PLANNING[name]}"), name)
