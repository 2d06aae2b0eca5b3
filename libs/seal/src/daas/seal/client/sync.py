"""The client for code without an event loop: the same calls, run on a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

from daas.seal.client.client import SealClient
from daas.seal.client.fetch import FaultHandler
from daas.seal.client.settings import ClientSettings, KeyServer
from daas.seal.encrypt import Dem
from daas.seal.encrypted_object import EncryptedObject
from daas.seal.errors import KeyServerUnavailable
from daas.seal.session import Clock, SessionKey, system_clock_ms
from daas.seal.signatures import PersonalMessageSigner

T = TypeVar("T")


class SyncSealClient:
    """`SealClient` for threads; use as `with`. Safe for use from several threads. Arguments as there."""

    def __init__(
        self,
        servers: Sequence[KeyServer],
        *,
        settings: ClientSettings | None = None,
        clock: Clock = system_clock_ms,
        on_fault: FaultHandler | None = None,
    ) -> None:
        self._client = SealClient(servers, settings=settings, clock=clock, on_fault=on_fault)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="seal-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections and ends the thread; calls that still wait fail."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def create_session(
        self, signer: PersonalMessageSigner, package_id: bytes, *, ttl_min: int = 10, mvr_name: str | None = None
    ) -> SessionKey:
        """See `SessionKey.create`."""
        return self._run(SessionKey.create(signer, package_id, ttl_min=ttl_min, mvr_name=mvr_name))

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
        """See `SealClient.encrypt`."""
        return self._client.encrypt(package_id, inner_id, plaintext, threshold=threshold, aad=aad, cipher=cipher)

    def fetch_keys(self, session: SessionKey, ptb: bytes, *, threshold: int) -> None:
        """See `SealClient.fetch_keys`."""
        self._run(self._client.fetch_keys(session, ptb, threshold=threshold))

    def decrypt(
        self,
        data: bytes | EncryptedObject,
        session: SessionKey,
        ptb: bytes,
        *,
        check_consistency: bool = True,
        public_keys: Mapping[bytes, bytes] | None = None,
    ) -> bytes:
        """See `SealClient.decrypt`."""
        return self._run(
            self._client.decrypt(data, session, ptb, check_consistency=check_consistency, public_keys=public_keys)
        )

    def verify_servers(self) -> None:
        """See `SealClient.verify_servers`."""
        self._run(self._client.verify_servers())

    def forget(self, session: SessionKey) -> None:
        """See `SealClient.forget`."""
        self._client.forget(session)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise KeyServerUnavailable("the client was closed", reason="client-closed") from None
