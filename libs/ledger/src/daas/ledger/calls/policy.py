"""Calls of `rules` and `policy`: Seal policies, tickets, and the functions that Seal key servers simulate."""

from daas.ledger.calls.common import CLOCK, address, addresses, octets, u64
from daas.ledger.cluster import Rules
from daas.ledger.transaction import Command, GasCoin, MoveCall, Object, Result, SplitCoins


def rules(package: str, values: Rules) -> MoveCall:
    """`rules::new`: its result is what other calls take as Rules."""
    arguments = (
        u64(values.required_stake_mist),
        addresses(values.allowed_nodes),
        u64(values.not_before_ms),
        u64(values.not_after_ms),
        u64(values.usage_limit),
        u64(values.ticket_price_mist),
        u64(values.ticket_ttl_ms),
    )
    return MoveCall(package, "rules", "new", arguments)


def create(package: str, registry: str, values: Rules) -> tuple[MoveCall, MoveCall]:
    """`policy::create`; the first commands of their transaction."""
    return rules(package, values), MoveCall(package, "policy", "create", (Object(registry), Result(0)))


def set_rules(package: str, policy: str, values: Rules) -> tuple[MoveCall, MoveCall]:
    """`policy::set_rules`; the first commands of their transaction."""
    call = MoveCall(package, "policy", "set_rules", (Object(policy, mutable=True), Result(0)))
    return rules(package, values), call


def transfer_ownership(package: str, policy: str, to: str) -> MoveCall:
    """`policy::transfer_ownership`."""
    return MoveCall(package, "policy", "transfer_ownership", (Object(policy, mutable=True), address(to)))


def rotate(package: str, policy: str) -> MoveCall:
    """`policy::rotate`: a new generation; the older ones open until they are retired."""
    return MoveCall(package, "policy", "rotate", (Object(policy, mutable=True),))


def retire_generations(package: str, policy: str) -> MoveCall:
    """`policy::retire_generations`: only the current generation opens from now on."""
    return MoveCall(package, "policy", "retire_generations", (Object(policy, mutable=True),))


def buy_ticket(
    package: str, policy: str, pool: str, *, sealed_id: bytes, session: bytes, price_mist: int, node: str | None = None
) -> tuple[Command, ...]:
    """`policy::buy_ticket`, or `buy_ticket_as_node`, paid from the gas coin; the first commands of a transaction."""
    shared = (Object(policy, mutable=True), Object(pool))
    rest = (octets(sealed_id), octets(session), Result(0), CLOCK)
    if node is None:
        call = MoveCall(package, "policy", "buy_ticket", (*shared, *rest))
    else:
        call = MoveCall(package, "policy", "buy_ticket_as_node", (*shared, Object(node), *rest))
    return SplitCoins(GasCoin(), (price_mist,)), call


def discard(package: str, ticket: str) -> MoveCall:
    """`policy::discard`: what the ticket's storage cost comes back."""
    return MoveCall(package, "policy", "discard", (Object(ticket),))


def approve(package: str, sealed_id: bytes, policy: str, pool: str) -> MoveCall:
    """`policy::seal_approve`: by the sender's own stake."""
    return MoveCall(package, "policy", "seal_approve", (octets(sealed_id), Object(policy), Object(pool), CLOCK))


def approve_node(package: str, sealed_id: bytes, policy: str, pool: str, node: str) -> MoveCall:
    """`policy::seal_approve_node`: the sender is this node."""
    arguments = (octets(sealed_id), Object(policy), Object(pool), Object(node), CLOCK)
    return MoveCall(package, "policy", "seal_approve_node", arguments)


def approve_ticket(package: str, sealed_id: bytes, policy: str, pool: str, *, session: bytes, ticket: str) -> MoveCall:
    """`policy::seal_approve_ticket`: the sender holds this ticket."""
    arguments = (octets(sealed_id), octets(session), Object(policy), Object(pool), Object(ticket), CLOCK)
    return MoveCall(package, "policy", "seal_approve_ticket", arguments)


def approve_rotation(package: str, sealed_id: bytes, policy: str) -> MoveCall:
    """`policy::seal_approve_rotation`: the owner opens what is being rotated out."""
    return MoveCall(package, "policy", "seal_approve_rotation", (octets(sealed_id), Object(policy)))
