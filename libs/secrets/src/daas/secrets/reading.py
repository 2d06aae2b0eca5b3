"""Opening a sealed Secret as somebody: find the right, ask the key servers, open; and why they refused, in words.

The ledger comes as a protocol (`daas.ledger.Ledger` has this shape); nothing else here does any I/O of its own.
"""

import re
from typing import Any, Final, Protocol

from daas.common.errors import DaasError, Refused
from daas.seal import SealClient, SessionKey
from daas.secrets.approval import AsNode, AsOwner, ByStake, OwnedObject, Right, SharedObject, WithTicket, approve_ptb
from daas.secrets.envelope import DataKey, Envelope
from daas.secrets.manifest import SealedSecret

#: What the Move package's refusals mean to a reader.
_DENIALS: Final = {
    "ENotEnoughStake": ("not-enough-stake", "the requester has less bonded stake than the policy asks for"),
    "ETooEarly": ("too-early", "the policy's time window has not begun"),
    "ETooLate": ("too-late", "the policy's time window is over"),
    "ENodeRequired": (
        "node-required",
        "the policy lets only certain nodes read; the requester does not ask as one",
    ),
    "ENodeNotAllowed": ("node-not-allowed", "the requester's node is not among those that the policy allows"),
    "ENotThisNode": ("not-this-node", "the requester's key is not that of the node it names"),
    "EDraining": ("node-draining", "the requester's node is being taken out of service"),
    "ETicketRequired": ("ticket-required", "the policy counts releases: a ticket is needed"),
    "ENoTickets": ("no-tickets", "the policy has no usage limit, so that there are no tickets for it"),
    "ELimitReached": ("limit-reached", "as many keys have been released as the policy's usage limit allows"),
    "EWrongTicket": ("wrong-ticket", "the ticket is for another secret, session or holder"),
    "ETicketExpired": ("ticket-expired", "the ticket has expired"),
    "EWrongGeneration": ("retired-generation", "the secret was sealed under a generation that has been retired"),
    "ENotOwner": ("not-owner", "only the policy's owner may do this"),
    "ENotRotatedOut": ("current-generation", "the owner's way is for older generations"),
    "EWrongId": ("wrong-policy", "the secret was sealed under another policy"),
}
_ABORT: Final = re.compile(r"\bE[A-Z][A-Za-z]+\b")


class PlacesOfLedger(Protocol):
    """What is needed of a ledger to name objects in a request for keys."""

    async def places(self, registry: str) -> tuple[str, str]:
        """Object ids of the registry's StakePool and Roster."""
        ...

    async def shared_version(self, object_id: str) -> int:
        """The version at which an object was first shared."""
        ...


async def shared_object(ledger: PlacesOfLedger, object_id: str) -> SharedObject:
    """A shared object by its id.

    Raises:
        NotFound: there is none. Unavailable: the ledger is away.
    """
    return SharedObject(object_id, await ledger.shared_version(object_id))


async def right_of(
    ledger: PlacesOfLedger, registry: str, *, node: str | None = None, ticket: str | None = None, owner: bool = False
) -> Right:
    """The right that a requester claims: as the policy's owner, with a ticket, as a node, or by its own stake.

    Args:
        ledger: where the objects are.
        registry: the cluster's.
        node: object id of the node that the requester is.
        ticket: object id of a ticket that was bought for this session; key servers look up its present version.
        owner: to open what belongs to an older generation.
    """
    if owner:
        return AsOwner()
    pool = await shared_object(ledger, (await ledger.places(registry))[0])
    if ticket is not None:
        return WithTicket(pool, OwnedObject(ticket, 0, bytes(32)))
    return AsNode(pool, await shared_object(ledger, node)) if node is not None else ByStake(pool)


async def open_envelope(
    client: SealClient, session: SessionKey, envelope: Envelope, *, package: str, policy: SharedObject, right: Right
) -> DataKey:
    """The data key of an envelope, from enough key servers.

    Raises:
        Refused: they said no: see `denial`. ThresholdUnreachable: too few answered. SessionExpired. DecryptionFailed.
    """
    ptb = approve_ptb(package, envelope, policy, right, session.verification_key)
    try:
        key = await client.decrypt(envelope.sealed, session, ptb)
    except Refused as error:
        raise denial(error) or error from None
    return DataKey(envelope, key)


async def open_secret(
    client: SealClient, session: SessionKey, secret: SealedSecret, *, package: str, policy: SharedObject, right: Right
) -> dict[str, bytes]:
    """All values of a sealed Secret. Raises as `open_envelope`, and NotAuthentic where a value was changed."""
    key = await open_envelope(client, session, secret.envelope, package=package, policy=policy, right=right)
    return secret.open(key)


def denial(error: DaasError) -> Refused | None:
    """A refusal of key servers or of the ledger as a reason and a sentence for people; None where it is another one."""
    names: list[Any] = [getattr(error, "name", None), *_ABORT.findall(error.message)]
    for name in names:
        if name in _DENIALS:
            reason, sentence = _DENIALS[name]
            return Refused(f"{sentence} ({name})", reason=reason)
    return None
