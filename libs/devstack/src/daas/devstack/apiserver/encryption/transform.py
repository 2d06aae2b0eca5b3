"""Which provider encrypts and decrypts which stored object; what no rule names is stored as it is."""

from collections.abc import Callable, Sequence

from daas.common.errors import Refused
from daas.devstack.apiserver.encryption.config import Identity, Rule
from daas.devstack.apiserver.encryption.provider import KmsProvider
from daas.kms.stored import ENCRYPTED_PREFIX, PREFIX


class Encryption:
    """A StorageTransform over the providers of an EncryptionConfiguration.

    Args:
        rules: which provider for which resources.
        on_usable: called when a provider has become usable, or has fetched seeds: see `Storage.unlock`.
    """

    def __init__(self, rules: Sequence[Rule], on_usable: Callable[[], None] = lambda: None) -> None:
        self.on_usable = on_usable
        self.providers: dict[str, KmsProvider] = {}
        self._chains: dict[str, list[KmsProvider | None]] = {}
        for rule in rules:
            chain: list[KmsProvider | None] = []
            for one in rule.providers:
                if isinstance(one, Identity):
                    chain.append(None)
                    continue
                if one.name not in self.providers:
                    self.providers[one.name] = KmsProvider(one, lambda _provider: self.on_usable())
                chain.append(self.providers[one.name])
            self._chains |= dict.fromkeys(rule.resources, chain)

    def start(self) -> None:
        """Begins to poll the plugins."""
        for provider in self.providers.values():
            provider.start()

    async def stop(self) -> None:
        """Ends it."""
        for provider in self.providers.values():
            await provider.stop()

    async def health(self) -> str:
        """Empty if all plugins are well, or what is not."""
        found = [(name, await provider.health()) for name, provider in self.providers.items()]
        return "; ".join(f"kms provider {name}: {text}" for name, text in found if text)

    def to_storage(self, resource: str, key: str, body: bytes) -> bytes:
        """By the first provider. See StorageTransform."""
        writer = self._chains.get(resource, [None])[0]
        return body if writer is None else writer.encrypt(etcd_key(resource, key), body)

    def from_storage(self, resource: str, key: str, body: bytes) -> bytes:
        """By the provider whose prefix it has. See StorageTransform."""
        chain = self._chains.get(resource, [None])
        for reader in chain:
            if reader is None:
                if not body.startswith(ENCRYPTED_PREFIX):
                    return body
            elif body.startswith(PREFIX + reader.name.encode() + b":"):
                return reader.decrypt(etcd_key(resource, key), body)
        if body.startswith(ENCRYPTED_PREFIX):
            raise Refused("no matching prefix found", reason="no-provider")
        raise Refused("the value is not encrypted, and no provider reads plaintext", reason="no-provider")

    def is_stale(self, resource: str, body: bytes) -> bool:
        """Whether the value would be written otherwise today: by another provider, or under another key."""
        writer = self._chains.get(resource, [None])[0]
        if writer is None or writer.key_id is None:
            return False
        return not body.startswith(PREFIX + writer.name.encode() + b":") or writer.stale(body)


def etcd_key(resource: str, key: str) -> str:
    """`secrets`, `default/db` to `/registry/secrets/default/db`; groups have no place in it."""
    return f"/registry/{resource.partition('.')[0]}/{key}"
