"""What sealing needs to know, all of it public: the policy, its generation, the key servers and how many open.

Written by `daas secret policy show NAME -o json`; with it, `daas secret seal` works on a machine without network.
"""

from typing import Annotated

import msgspec

from daas.common.errors import DecodeError
from daas.common.messages import Name, ObjectId
from daas.seal import Encryptor, KeyServer, ServerKey, parse_address
from daas.secrets.envelope import encryptor_for

_U8 = Annotated[int, msgspec.Meta(ge=1, le=255)]


class KnownKeyServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key server as an administrator pins it; the public key (96 bytes) is the one on the ledger, never its own word.

    Attributes:
        committee: whether an aggregator answers for a committee.
    """

    object_id: ObjectId
    url: str
    public_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{192}$", description="96 bytes, lower-case hex")]
    name: str = ""
    weight: _U8 = 1
    committee: bool = False

    @property
    def key(self) -> ServerKey:
        """As encryption sees it."""
        return ServerKey(parse_address(self.object_id), bytes.fromhex(self.public_key), self.weight)


class KeyServers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom things are sealed to, and how many shares open them."""

    threshold: _U8
    servers: Annotated[tuple[KnownKeyServer, ...], msgspec.Meta(min_length=1, max_length=32)]

    def known(self) -> list[KeyServer]:
        """As the client sees them."""
        return [
            KeyServer(
                object_id=parse_address(each.object_id),
                url=each.url.rstrip("/"),
                public_key=bytes.fromhex(each.public_key),
                name=each.name,
                weight=each.weight,
                committee=each.committee,
            )
            for each in self.servers
        ]

    def encryptor(self) -> Encryptor:
        """Encrypts to these servers.

        Raises:
            InvalidInput: `seal-servers`, `seal-threshold`. MalformedPoint: a public key.
        """
        return encryptor_for([each.key for each in self.servers], self.threshold)


class SealParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything public that sealing under one policy needs.

    Attributes:
        cluster: the cluster that the Secrets are for.
        package: first version of the Move package.
        policy_name: value of the label `k3s-daas.io/seal-policy`.
        policy: its object.
        generation: its current one.
        usage_limit: releases that one generation allows; 0 for no limit. With a limit no envelope is shared.
        simulated: whether the ledger says that the cluster is a development one.
    """

    schema: int = 1
    cluster: Name
    package: ObjectId
    policy_name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    policy: ObjectId
    generation: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    usage_limit: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    key_servers: KeyServers
    simulated: bool = False

    def encode(self) -> bytes:
        """JSON, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> "SealParameters":
        """Reads JSON.

        Raises:
            DecodeError: `seal-parameters`.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError(f"these are no seal parameters: {error}", reason="seal-parameters") from None
