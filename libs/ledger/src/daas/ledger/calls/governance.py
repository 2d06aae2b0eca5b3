"""Calls of `governance`: each action is one call, or two, whose last result `propose` puts to the vote."""

from daas.common import bcs
from daas.ledger.calls.common import CLOCK, Pcrs, address, octets, u64, u64s
from daas.ledger.calls.stake import parameters
from daas.ledger.cluster import Parameters
from daas.ledger.models import Limits
from daas.ledger.transaction import MoveCall, Object, Pure, Result

#: The commands that make an Action; the first of their transaction.
ActionCalls = tuple[MoveCall, ...]


def change_parameters(package: str, values: Parameters) -> ActionCalls:
    """Other stake parameters."""
    return parameters(package, values), MoveCall(package, "governance", "change_parameters", (Result(0),))


def change_limits(package: str, limits: Limits) -> ActionCalls:
    """Other time limits."""
    numbers = u64s(limits.registration_ttl_ms, limits.document_age_ms, limits.batch_age_ms, limits.future_skew_ms)
    return (MoveCall(package, "governance", "change_limits", numbers),)


def allow_measurement(package: str, pcrs: Pcrs) -> ActionCalls:
    """One more enclave image."""
    return (MoveCall(package, "governance", "allow_measurement", tuple(octets(pcr) for pcr in pcrs)),)


def retire_measurement(package: str, version: int) -> ActionCalls:
    """One enclave image less."""
    return (MoveCall(package, "governance", "retire_measurement", (u64(version),)),)


def change_policy(package: str, policy: bytes) -> ActionCalls:
    """Another policy for enclaves to attest."""
    return (MoveCall(package, "governance", "change_policy", (octets(policy),)),)


def spend_treasury(package: str, amount_mist: int, recipient: str) -> ActionCalls:
    """Money from the treasury."""
    return (MoveCall(package, "governance", "spend_treasury", (u64(amount_mist), address(recipient))),)


def propose(package: str, registry: str, pool: str, action: ActionCalls) -> tuple[MoveCall, ...]:
    """`governance::propose`, after the commands that make its action."""
    arguments = (Object(registry), Object(pool), Result(len(action) - 1), CLOCK)
    return (*action, MoveCall(package, "governance", "propose", arguments))


def vote(package: str, proposal: str, pool: str, *, approve: bool) -> MoveCall:
    """`governance::vote` with all the sender's stake that counts."""
    arguments = (Object(proposal, mutable=True), Object(pool), Pure(bcs.boolean(approve)), CLOCK)
    return MoveCall(package, "governance", "vote", arguments)


def execute(package: str, proposal: str, registry: str, pool: str) -> MoveCall:
    """`governance::execute`."""
    shared = (Object(proposal, mutable=True), Object(registry, mutable=True), Object(pool, mutable=True))
    return MoveCall(package, "governance", "execute", (*shared, CLOCK))
