"""Sealed Kubernetes Secrets: envelopes under Seal policies, the form they are stored in, what a keeper is asked.

    parameters = SealParameters.decode(path.read_bytes())            # public; of `daas secret policy show -o json`
    sealed = seal_secret(manifest, parameters, parameters.key_servers.encryptor())

    secret = SealedSecret.parse(cluster, manifest)                   # refuses what was moved here
    ptb = approve_ptb(package, secret.envelope, policy, ByStake(pool), session.verification_key)
    key = DataKey(secret.envelope, await client.decrypt(secret.envelope.sealed, session, ptb))
    values = secret.open(key)

Nothing here does any I/O. See docs/secrets.md.
"""

from daas.secrets.approval import (
    AsNode,
    AsOwner,
    ByStake,
    OwnedObject,
    Right,
    SharedObject,
    WithTicket,
    approve_call,
    approve_ptb,
)
from daas.secrets.channel import KeeperKey, ReplyKey, SecretReply, SecretRequest, seal_reply
from daas.secrets.classes import SecretClass, check_data, class_of
from daas.secrets.envelope import DataKey, Envelope, is_sealed_value, seal_envelope
from daas.secrets.errors import MalformedEnvelope, MalformedSecret, NotAuthentic, WrongPlace
from daas.secrets.identity import EnvelopeId, Place, Scope
from daas.secrets.manifest import (
    SealedSecret,
    State,
    opened_secret,
    place_of,
    seal_secret,
    share_envelope,
    state_of,
)
from daas.secrets.parameters import KeyServers, KnownKeyServer, SealParameters
from daas.secrets.questions import OpenAnswer, OpenQuestion, SealAnswer, SealQuestion

__all__ = [
    "AsNode",
    "AsOwner",
    "ByStake",
    "DataKey",
    "Envelope",
    "EnvelopeId",
    "KeeperKey",
    "KeyServers",
    "KnownKeyServer",
    "MalformedEnvelope",
    "MalformedSecret",
    "NotAuthentic",
    "OpenAnswer",
    "OpenQuestion",
    "OwnedObject",
    "Place",
    "ReplyKey",
    "Right",
    "Scope",
    "SealAnswer",
    "SealParameters",
    "SealQuestion",
    "SealedSecret",
    "SecretClass",
    "SecretReply",
    "SecretRequest",
    "SharedObject",
    "State",
    "WithTicket",
    "WrongPlace",
    "approve_call",
    "approve_ptb",
    "check_data",
    "class_of",
    "is_sealed_value",
    "opened_secret",
    "place_of",
    "seal_envelope",
    "seal_reply",
    "seal_secret",
    "share_envelope",
    "state_of",
]
