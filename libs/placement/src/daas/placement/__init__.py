"""The deterministic scheduling engine, its proofs and the replay verifier.

The state machine folds an ordered log and answers each entry that leaves pods pending with one decision. It has no
clock, no randomness, no float and no I/O. `Scheduler` and the verifier load numpy when they are first asked for;
everything else here is light.
"""

from typing import TYPE_CHECKING, Any

from daas.placement.batch import INTENT_PLACEMENT, Decision, Leaf, PlacementBatch, Preemption, Victim, intent_message
from daas.placement.log import RefusedEvent
from daas.placement.policy import Genesis, Policy

if TYPE_CHECKING:
    from daas.placement.fairness import FairnessCertificate
    from daas.placement.replay import Claim, Difference, Verdict, verify
    from daas.placement.scheduler import Applied, Head, Scheduler

__all__ = [
    "INTENT_PLACEMENT",
    "Applied",
    "Claim",
    "Decision",
    "Difference",
    "FairnessCertificate",
    "Genesis",
    "Head",
    "Leaf",
    "PlacementBatch",
    "Policy",
    "Preemption",
    "RefusedEvent",
    "Scheduler",
    "Verdict",
    "Victim",
    "intent_message",
    "verify",
]

_HEAVY = {
    "Applied": "scheduler",
    "Head": "scheduler",
    "Scheduler": "scheduler",
    "Claim": "replay",
    "Difference": "replay",
    "FairnessCertificate": "fairness",
    "Verdict": "replay",
    "verify": "replay",
}


def __getattr__(name: str) -> Any:
    """The names that need numpy, on first use."""
    if name not in _HEAVY:
        raise AttributeError(f"module 'daas.placement' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only where one of the heavy names is asked for

    return getattr(import_module(f"daas.placement.{_HEAVY[name]}"), name)
