"""The client: encrypt to key servers, fetch user secret keys from them, decrypt."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import aiohttp

from daas.common.errors import DaasError, InvalidInput, NotFound
from daas.seal import ibe, wire
from daas.seal.address import format_address
from daas.seal.client.cache import KeyCache
from daas.seal.client.fetch import FaultHandler, UserSecretKeys, Wanted, fetch
from daas.seal.client.settings import ClientSettings, KeyServer
from daas.seal.client.transport import exchange
from daas.seal.decrypt import decrypt
from daas.seal.encrypt import Dem, Encryptor
from daas.seal.encrypted_object import EncryptedObject
from daas.seal.errors import InvalidSignature, MalformedAnswer
from daas.seal.ptb import parse_ptb
from daas.seal.session import Clock, SessionKey, system_clock_ms

_LOG = logging.getLogger(__name__)


class SealClient:
    """Encrypts to and decrypts through a set of key servers; use as `async with`. See `SyncSealClient` for threads.

    Args:
        servers: whom it knows; public keys come from the ledger.
        settings: limits.
        clock: ms since the epoch, for the end of sessions.
        on_fault: is told of each server that failed, refused or lied, also where others sufficed.

    Raises:
        InvalidInput: `seal-servers`: two with one object id.
    """

    def __init__(
        self,
        servers: Sequence[KeyServer],
        *,
        settings: ClientSettings | None = None,
        clock: Clock = system_clock_ms,
        on_fault: FaultHandler | None = None,
    ) -> None:
        self._servers = {server.object_id: server for server in servers}
        if len(self._servers) != len(servers):
            raise InvalidInput("key servers need different object ids", reason="seal-servers")
        self._settings = settings or ClientSettings()
        self._cache = KeyCache(self._settings.cached_keys_max, clock)
        self._on_fault = on_fault
        self._encryptors: dict[int, Encryptor] = {}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._connections()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    @property
    def servers(self) -> tuple[KeyServer, ...]:
        """The key servers it knows."""
        return tuple(self._servers.values())

    @property
    def public_keys(self) -> Mapping[bytes, bytes]:
        """Public keys by object id."""
        return {object_id: server.public_key for object_id, server in self._servers.items()}

    def encrypt(
        self,
        package_id: bytes,
        inner_id: bytes,
        plaintext: bytes,
        *,
        threshold: int,
        aad: bytes | None = b"",
        cipher: Dem = Dem.AES_256_GCM,
    ) -> bytes:
        """An encrypted object to all servers by their weights; needs no network. See `Encryptor.encrypt`."""
        encryptor = self._encryptors.get(threshold)
        if encryptor is None:
            keys = [server.key for server in self.servers]
            encryptor = Encryptor(keys, threshold, cached_identities=self._settings.cached_identities)
            self._encryptors[threshold] = encryptor
        return encryptor.encrypt(package_id, inner_id, plaintext, aad=aad, cipher=cipher).object.encode()

    async def fetch_keys(self, session: SessionKey, ptb: bytes, *, threshold: int) -> None:
        """Fetches the keys of all identities of a transaction, so that `decrypt` needs no network for them.

        Args:
            session: who asks.
            ptb: what `build_ptb` made: one call for each identity.
            threshold: by this client's weights.

        Raises:
            NotEnoughKeys, ThresholdUnreachable, SessionExpired, InvalidPtb.
        """
        weights = {server.object_id: server.weight for server in self.servers}
        identities = frozenset(ibe.full_id(session.package_id, inner_id) for inner_id in parse_ptb(ptb).inner_ids)
        await self._ensure(session, ptb, identities, weights, threshold)

    async def decrypt(
        self,
        data: bytes | EncryptedObject,
        session: SessionKey,
        ptb: bytes,
        *,
        check_consistency: bool = True,
        public_keys: Mapping[bytes, bytes] | None = None,
    ) -> bytes:
        """Opens an object, fetching keys where they are not cached.

        Args:
            data: the object.
            session: who asks.
            ptb: the transaction with a call for the object's identity; it may have calls for others too.
            check_consistency: make sure that every other threshold of servers opens the object to the same plaintext.
            public_keys: of the object's servers that this client does not know, for that check.

        Raises:
            DecodeError: it is no object. DecryptionFailed: see `daas.seal.decrypt`. InvalidInput: `seal-session`, the
                session or the transaction is for something else. NotEnoughKeys, ThresholdUnreachable, SessionExpired.
        """
        sealed = data if isinstance(data, EncryptedObject) else EncryptedObject.decode(data)
        if sealed.package_id != session.package_id:
            raise InvalidInput("the object belongs to another package than the session", reason="seal-session")
        inner_ids = parse_ptb(ptb).inner_ids
        if sealed.inner_id not in inner_ids:
            raise InvalidInput("the transaction does not ask for the object's identity", reason="seal-session")
        weights = {object_id: weight for object_id, weight in sealed.weights.items() if object_id in self._servers}
        keys = self._cached(session, sealed.full_id, weights)
        if sum(weights[server] for server in keys) < sealed.threshold:
            identities = frozenset(ibe.full_id(session.package_id, inner_id) for inner_id in inner_ids)
            fetched = await self._ensure(session, ptb, identities, weights, sealed.threshold)
            keys |= {server: found[sealed.full_id] for server, found in fetched.items()}
        known = {**self.public_keys, **(public_keys or {})} if check_consistency else None
        return decrypt(sealed, keys, known)

    async def verify_servers(self) -> None:
        """Asks each server to prove that it knows the secret of its public key; committees have no such proof.

        Raises:
            InvalidSignature: a proof does not hold, or is for another service.
            KeyServerUnavailable, KeyServerRefused, MalformedAnswer.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._verify(server)) for server in self.servers if not server.committee]
        errors = [error for task in tasks if (error := task.result()) is not None]
        if errors:
            raise errors[0]

    def forget(self, session: SessionKey) -> None:
        """Forgets the cached keys of a session."""
        self._cache.forget(session.verification_key)

    def _connections(self) -> aiohttp.ClientSession:
        if self._http is None:
            # No cookies, no environment proxies, no limit below the number of servers.
            self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._http

    def _cached(self, session: SessionKey, identity: bytes, servers: Mapping[bytes, int]) -> UserSecretKeys:
        """Cached keys of one identity, by server."""
        found = {server: self._cache.get(session.verification_key, server, identity) for server in servers}
        return {server: key for server, key in found.items() if key is not None}

    async def _ensure(
        self,
        session: SessionKey,
        ptb: bytes,
        identities: frozenset[bytes],
        weights: Mapping[bytes, int],
        threshold: int,
    ) -> dict[bytes, UserSecretKeys]:
        """Keys of all identities from servers worth the threshold, by server and full id."""
        if threshold < 1 or sum(weights.values()) < threshold:
            raise NotFound(
                f"the client knows key servers worth {sum(weights.values())} shares, the threshold is {threshold}",
                reason="key-servers-unknown",
            )
        complete: dict[bytes, UserSecretKeys] = {}
        for server in weights:
            cached = {identity: self._cache.get(session.verification_key, server, identity) for identity in identities}
            keys = {identity: key for identity, key in cached.items() if key is not None}
            if len(keys) == len(identities):
                complete[server] = keys
        missing = threshold - sum(weights[server] for server in complete)
        if missing <= 0:
            return complete

        def keep(server: KeyServer, keys: UserSecretKeys) -> None:
            complete[server.object_id] = keys
            for identity, key in keys.items():
                self._cache.put(session.verification_key, server.object_id, identity, key, session.expires_ms)

        asked = [self._servers[server] for server in weights if server not in complete]
        wanted = Wanted(ptb, identities, weights, missing)
        await fetch(
            self._connections(),
            asked,
            session,
            wanted,
            settings=self._settings,
            on_keys=keep,
            on_fault=self._fault,
        )
        return complete

    def _fault(self, server: KeyServer, error: DaasError) -> None:
        _LOG.warning("key server %s gave no keys: %s", server.label, error.reason)
        if self._on_fault is not None:
            self._on_fault(server, error)

    async def _verify(self, server: KeyServer) -> DaasError | None:
        try:
            text = format_address(server.object_id)
            path = f"{wire.SERVICE}?service_id={text}"
            data = await exchange(self._connections(), server, path, None, timeout_ms=self._settings.timeout_ms)
            answer = wire.decode_service(data)
            if answer.service_id != text:
                raise InvalidSignature(f"key server {server.label} is another one", reason="seal-possession")
            try:
                proof = base64.b64decode(answer.pop, validate=True)
            except (binascii.Error, ValueError):
                raise MalformedAnswer(f"key server {server.label} gives no proof", reason="answer-json") from None
            ibe.verify_possession(proof, server.public_key, server.object_id)
        except DaasError as error:
            return error
        return None
