"""Which key servers a client asks, and its limits of time and memory."""

import msgspec

from daas.common.errors import InvalidInput
from daas.seal.address import format_address
from daas.seal.encrypt import ServerKey
from daas.seal.key_server import KeyServerData


class KeyServer(msgspec.Struct, frozen=True, kw_only=True):
    """A key server, or a committee behind its aggregator, which counts as one.

    Attributes:
        object_id: of the KeyServer object, 32 bytes.
        url: where it answers, without a path.
        public_key: 96 bytes, from the ledger and never from the server itself.
        weight: how many shares it gets when this client encrypts.
        name: for messages; the object id where empty.
        committee: whether an aggregator answers: it has no proof of possession.
        api_key_header, api_key: sent with each request where set.
    """

    object_id: bytes
    url: str
    public_key: bytes
    weight: int = 1
    name: str = ""
    committee: bool = False
    api_key_header: str = ""
    api_key: str = ""

    def __repr__(self) -> str:
        return f"KeyServer({self.label}, {self.url})"

    @property
    def label(self) -> str:
        """Name, or object id, for messages."""
        return self.name or format_address(self.object_id)

    @property
    def key(self) -> ServerKey:
        """As encryption sees it."""
        return ServerKey(self.object_id, self.public_key, self.weight)

    @classmethod
    def from_ledger(
        cls,
        object_id: bytes,
        data: KeyServerData,
        *,
        aggregator_url: str | None = None,
        weight: int = 1,
        api_key_header: str = "",
        api_key: str = "",
    ) -> "KeyServer":
        """From the object's data on the ledger.

        Args:
            object_id: 32 bytes.
            data: see `daas.seal.key_server`.
            aggregator_url: for a committee, which has no address of its own on the ledger.
            weight: how many shares it gets.
            api_key_header: name of the header of `api_key`.
            api_key: sent with each request where set.

        Raises:
            InvalidInput: `key-server-url`: neither the data nor the caller says where it answers.
        """
        url = aggregator_url or data.url
        if not url:
            raise InvalidInput("a committee needs the address of its aggregator", reason="key-server-url")
        return cls(
            object_id=object_id,
            url=url.rstrip("/"),
            public_key=data.public_key,
            weight=weight,
            name=data.name,
            committee=data.committee is not None,
            api_key_header=api_key_header,
            api_key=api_key,
        )


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a client; times in ms.

    Attributes:
        timeout_ms: for one request to one server.
        deadline_ms: for all requests and retries of one call.
        attempts_max: requests to one server in one call.
        retry_delay_ms, retry_delay_max_ms: before the second request; doubles from there.
        cached_keys_max: verified user secret keys kept, over all sessions.
        cached_identities: often used identities whose pairings are kept for encryption.
    """

    timeout_ms: int = 10_000
    deadline_ms: int = 30_000
    attempts_max: int = 3
    retry_delay_ms: int = 200
    retry_delay_max_ms: int = 2_000
    cached_keys_max: int = 4_096
    cached_identities: int = 16
