"""Sealed Kubernetes Secrets: envelopes under Seal policies, the form they are stored in, what a keeper is asked.

    parameters = SealParameters.decode(path.read_bytes())            # public; of `daas secret policy show -o json`
    sealed = seal_secret(manifest, parameters, parameters.key_servers.encryptor())

    secret = SealedSecret.parse(cluster, manifest)                   # refuses what was moved here
    policy, right = await shared_object(ledger, secret.policy), await right_of(ledger, registry)
    values = await open_secret(client, session, secret, package=package, policy=policy, right=right)

Nothing here does any I/O but `daas.secrets.reading`, through a SealClient and a ledger that it is given. See
docs/secrets.md.
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
from daas.secrets.reading import denial, open_envelope, open_secret, right_of, shared_object

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
    "denial",
    "is_sealed_value",
    "open_envelope",
    "open_secret",
    "opened_secret",
    "place_of",
    "right_of",
    "seal_envelope",
    "seal_reply",
    "seal_secret",
    "share_envelope",
    "shared_object",
    "state_of",
]
