"""Facts about sealed Secrets: where, under what, by whom; never a value, a key or a sealed byte."""

from typing import Literal

from daas.common.messages import U32, U64, Base64, Digest, Message, Name, ObjectId, Text


class KeeperAttested(Message, frozen=True, kw_only=True):
    """A keeper's key with the attestation document that vouches for it; the newest is the one to encrypt to.

    Attributes:
        public_key: X25519, 32 bytes hex; the document's public key.
        document: attestation document, base64.
        simulated: whether the development stand-in made it.
    """

    public_key: Digest
    document: Base64
    simulated: bool


class SecretSealed(Message, frozen=True, kw_only=True):
    """A keeper sealed a Secret.

    Attributes:
        policy_name, policy, generation: what it is sealed under.
        scope: `secret`, or `namespace` for a shared envelope.
        values: how many values it has.
    """

    namespace: Name
    name: Name
    policy_name: Name
    policy: ObjectId
    generation: U64
    scope: Name
    values: U32
    simulated: bool


class SecretOpened(Message, frozen=True, kw_only=True):
    """A keeper opened a Secret for `requester`, a ledger address."""

    namespace: Name
    name: Name
    policy: ObjectId
    generation: U64
    requester: ObjectId
    simulated: bool


class SecretDenied(Message, frozen=True, kw_only=True):
    """A keeper did not seal or open, and why. `requester` is what was claimed: nobody may have checked it."""

    action: Literal["seal", "open"]
    namespace: Text
    name: Text
    policy: Text
    requester: Text
    reason: Name
    message: Text
    simulated: bool
