"""The transactions that ask key servers for an envelope's key: by stake, as a node, with a ticket, or as the owner.

Each is one call of the Move module `policy` (see docs/chain.md); key servers simulate it with the requester as sender.
"""

import msgspec

from daas.common import bcs
from daas.common.errors import InvalidInput
from daas.common.messages import ObjectId
from daas.seal import ApproveCall, Owned, Pure, Shared, build_ptb, parse_address
from daas.seal.ptb import Input
from daas.secrets.envelope import Envelope

#: Sui's clock: a shared object that has always been there.
_CLOCK = Shared(bytes(31) + b"\x06", 1)
_SESSION_LENGTH = 32


class SharedObject(msgspec.Struct, frozen=True):
    """A shared object of the ledger: its id, and the version at which it was first shared."""

    object_id: ObjectId
    initial_version: int

    def argument(self) -> Shared:
        """As an input of a transaction."""
        return Shared(parse_address(self.object_id), self.initial_version)


class OwnedObject(msgspec.Struct, frozen=True):
    """An object that the requester owns. `digest` has 32 bytes, base64 in JSON."""

    object_id: ObjectId
    version: int
    digest: bytes

    def argument(self) -> Owned:
        """As an input of a transaction."""
        return Owned(parse_address(self.object_id), self.version, self.digest)


class ByStake(msgspec.Struct, frozen=True, tag="stake"):
    """The requester's own stake counts (`seal_approve`)."""

    pool: SharedObject


class AsNode(msgspec.Struct, frozen=True, tag="node"):
    """The requester is a node in service; its operator's stake counts (`seal_approve_node`)."""

    pool: SharedObject
    node: SharedObject


class WithTicket(msgspec.Struct, frozen=True, tag="ticket"):
    """The requester holds a ticket for this envelope in its session (`seal_approve_ticket`)."""

    pool: SharedObject
    ticket: OwnedObject


class AsOwner(msgspec.Struct, frozen=True, tag="owner"):
    """The policy's owner opens what belongs to an older generation (`seal_approve_rotation`)."""


Right = ByStake | AsNode | WithTicket | AsOwner


def approve_call(envelope: Envelope, policy: SharedObject, right: Right, session: bytes) -> ApproveCall:
    """The call that asks for one envelope's key.

    Args:
        envelope: what is to be opened.
        policy: its policy.
        right: why the requester may.
        session: public key of the Seal session, 32 bytes: tickets are bound to it.

    Raises:
        InvalidInput: `wrong-policy`: the envelope is under another one.
    """
    if parse_address(policy.object_id) != envelope.id.policy:
        raise InvalidInput("the envelope is sealed under another policy", reason="wrong-policy")
    assert len(session) == _SESSION_LENGTH
    rules = policy.argument()
    arguments: tuple[Input, ...]
    match right:
        case ByStake(pool=pool):
            function, arguments = "seal_approve", (rules, pool.argument(), _CLOCK)
        case AsNode(pool=pool, node=node):
            function, arguments = "seal_approve_node", (rules, pool.argument(), node.argument(), _CLOCK)
        case WithTicket(pool=pool, ticket=ticket):
            bound = Pure(bcs.bytes_(session))
            function, arguments = "seal_approve_ticket", (bound, rules, pool.argument(), ticket.argument(), _CLOCK)
        case AsOwner():
            function, arguments = "seal_approve_rotation", (rules,)
    inner_id = envelope.sealed.inner_id
    return ApproveCall(module="policy", function=function, inner_id=inner_id, arguments=arguments)


def approve_ptb(package: str, envelope: Envelope, policy: SharedObject, right: Right, session: bytes) -> bytes:
    """The transaction with that call into a version of the package (the newest)."""
    return build_ptb(parse_address(package), [approve_call(envelope, policy, right, session)])
