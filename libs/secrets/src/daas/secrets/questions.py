"""What travels inside a keeper's encrypted requests and answers. All values are base64 in JSON."""

from typing import Annotated

import msgspec

from daas.common.messages import Name
from daas.seal import Certificate
from daas.secrets.approval import Right

Key32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
#: A Secret as the API server has it: apiVersion, kind, metadata, type, data.
SecretManifest = dict[str, object]


class SealQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Seal this Secret.

    Attributes:
        reply_key: X25519 public key for the answer.
        policy_name: value of the label `k3s-daas.io/seal-policy`.
        manifest: with namespace and name; sealed already is fine.
        shared: whether to use the namespace's shared envelope.
    """

    reply_key: Key32
    policy_name: Name
    manifest: SecretManifest
    shared: bool = False


class SealAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The sealed manifest. A refusal comes over the bus, as any other."""

    manifest: SecretManifest


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Open this sealed Secret as me.

    Attributes:
        reply_key: X25519 public key for the answer.
        manifest: the sealed Secret.
        certificate: the requester's permission for a Seal session made for this request.
        session_secret: the session's secret half: the keeper asks the key servers with it, until it expires.
        right: why the requester may.
    """

    reply_key: Key32
    manifest: SecretManifest
    certificate: Certificate
    session_secret: Key32
    right: Right

    def __repr__(self) -> str:
        return "OpenQuestion(...)"


class OpenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The values. A refusal comes over the bus, as any other."""

    data: dict[str, bytes]

    def __repr__(self) -> str:
        return "OpenAnswer(...)"
