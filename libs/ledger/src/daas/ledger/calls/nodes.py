"""Calls of `nodes`."""

from daas.ledger.calls.common import CLOCK, address, octets
from daas.ledger.transaction import MoveCall, Object


def register(package: str, roster: str, pool: str, name: str, identity: str) -> MoveCall:
    """`nodes::register` on the sender's stake."""
    shared = (Object(roster, mutable=True), Object(pool, mutable=True))
    return MoveCall(package, "nodes", "register", (*shared, octets(name.encode()), address(identity), CLOCK))


def heartbeat(package: str, node: str, pool: str) -> MoveCall:
    """`nodes::heartbeat` by the node or its operator."""
    return MoveCall(package, "nodes", "heartbeat", (Object(node, mutable=True), Object(pool), CLOCK))


def drain(package: str, node: str) -> MoveCall:
    """`nodes::drain`."""
    return MoveCall(package, "nodes", "drain", (Object(node, mutable=True),))


def deregister(package: str, roster: str, pool: str, node: str) -> MoveCall:
    """`nodes::deregister`: the node object is deleted."""
    arguments = (Object(roster, mutable=True), Object(pool, mutable=True), Object(node, mutable=True))
    return MoveCall(package, "nodes", "deregister", arguments)


def rotate_join_token(package: str, admin_cap: str, roster: str) -> MoveCall:
    """`nodes::rotate_join_token`."""
    return MoveCall(package, "nodes", "rotate_join_token", (Object(admin_cap), Object(roster, mutable=True)))


def approve_join(package: str, sealed_id: bytes, roster: str, pool: str, node: str) -> MoveCall:
    """`nodes::seal_approve_join`: what Seal key servers simulate."""
    arguments = (octets(sealed_id), Object(roster), Object(pool), Object(node))
    return MoveCall(package, "nodes", "seal_approve_join", arguments)
