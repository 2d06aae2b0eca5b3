"""One KMS v2 provider, as kube-apiserver runs it: a data key seed per start and key id, polls, health, expiry.

Source: k8s.io/apiserver, server/options/encryptionconfig/config.go (kmsv2PluginProbe) and storage/value/encrypt/
envelope/kmsv2. Observed on v1.32: many Secrets cost one Status and one Encrypt; a new key id in Status is followed by
one Encrypt; a Status that fails leaves reads, and for three minutes writes; a plugin that is away at the start leaves
everything but the encrypted resources. One thing differs: kube-apiserver asks a failing plugin every 10 s, this one
every second at most, so that a development system is ready as soon as its plugin is.
"""

import asyncio
import hashlib
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from daas.common.errors import DaasError, Refused, Unavailable
from daas.devstack.apiserver.encryption.config import Kms
from daas.devstack.apiserver.storage import Locked, Unwritable
from daas.kms import api_pb2 as api
from daas.kms.rpc import KmsClient
from daas.kms.stored import (
    KEY_ID_BYTES_MAX,
    SEED_BYTES,
    StoredObject,
    check_encrypted,
    decrypt_data,
    encrypt_data,
    new_seed,
)

POLL_S: Final = 60.0
FAILING_S: Final = (0.1, 1.0)
#: How long a health check's answer is good for, when it was good and when it was not.
HEALTH_S: Final = (20.0, 3.0)
#: How long a seed encrypts after the last Status that named its key.
WRITE_S: Final = 180.0
#: Seeds at hand: one for each start of the server and each key id; far more than a development system sees.
SEEDS_MAX: Final = 4096
_VERSIONS: Final = frozenset({"v2", "v2beta1"})
NIL_TRANSFORMER: Final = "got unexpected nil transformer"

_LOG = logging.getLogger(__name__)
Source = tuple[str, bytes, tuple[tuple[str, bytes], ...], bool]


@dataclass(frozen=True, slots=True)
class _State:
    """What is encrypted with. `expires` is on the monotonic clock, seconds."""

    key_id: str
    dek_source: bytes
    annotations: dict[str, bytes]
    expires: float
    seed: bytes = field(repr=False)


class KmsProvider:
    """One plugin.

    Args:
        config: name, endpoint, time-out.
        on_usable: called after each probe that succeeded: what is locked may open now.
        monotonic: seconds.
    """

    def __init__(
        self,
        config: Kms,
        on_usable: Callable[["KmsProvider"], None] = lambda _provider: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = config.name
        self.failures = 0
        self._config = config
        self._on_usable = on_usable
        self._monotonic = monotonic
        self._client: KmsClient | None = None
        self._state: _State | None = None
        self._seeds: OrderedDict[Source, bytes] = OrderedDict()
        self._refused: dict[Source, DaasError] = {}
        self._wanted: dict[Source, StoredObject] = {}
        self._health: tuple[float, str] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to poll."""
        self._client = KmsClient(self._config.endpoint, timeout_s=self._config.timeout_s)
        self._task = asyncio.create_task(self._poll(), name=f"kms-{self.name}")

    async def stop(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._client is not None:
            await self._client.close()

    # Encrypting and decrypting: no waits, so that the store stays simple ----------------------------------------

    @property
    def key_id(self) -> str | None:
        """Of what is encrypted with."""
        return self._state.key_id if self._state else None

    def encrypt(self, key: str, body: bytes) -> bytes:
        """A stored value.

        Raises:
            Unwritable: the plugin has not answered yet, or not for three minutes.
        """
        state = self._state
        if state is None:
            raise Unwritable(NIL_TRANSFORMER, reason="kms-provider")
        now = self._monotonic()
        if now >= state.expires:
            wall = time.time()
            text = (
                f'EDEK with keyID hash "{_hashed(state.key_id)}" expired at '
                f"{_wall(wall - now + state.expires)} (current time is {_wall(wall)})"
            )
            raise Unwritable(text, reason="kms-provider")
        return StoredObject(
            provider=self.name,
            key_id=state.key_id,
            dek_source=state.dek_source,
            annotations=state.annotations,
            data=encrypt_data(state.seed, body, key),
        ).encode()

    def decrypt(self, key: str, body: bytes) -> bytes:
        """The object's bytes.

        Raises:
            Locked: its seed is not at hand yet; it is fetched. DaasError: it can't be read.
        """
        stored = StoredObject.decode(body)
        seed = self._seeds.get(stored.source)
        if seed is not None:
            return decrypt_data(seed, stored.data, key, seeded=stored.seeded)
        refused = self._refused.get(stored.source)
        if refused is not None:
            raise refused
        self._wanted[stored.source] = stored
        raise Locked(NIL_TRANSFORMER, reason="kms-provider")

    def stale(self, body: bytes) -> bool:
        """Whether a value of this provider is under another key than the present one."""
        return StoredObject.decode(body).key_id != self.key_id

    # Polling -----------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        delay, longest = FAILING_S
        while True:
            pause = POLL_S
            try:
                await self.probe()
                delay = FAILING_S[0]
            except DaasError as error:
                self.failures += 1
                _LOG.warning("KMS provider %s: %s", self.name, error.message)
                pause, delay = delay, min(2 * delay, longest)
            except Exception:  # noqa: BLE001 - the outermost loop of a provider, with a counter
                self.failures += 1
                _LOG.exception("KMS provider %s", self.name)
                pause, delay = delay, min(2 * delay, longest)
            await asyncio.sleep(pause)

    async def probe(self) -> None:
        """Asks for the status, makes a new seed where the key id is new, and fetches the seeds that are wanted.

        Raises:
            DaasError: the plugin refuses, is away, or answers what an API server does not take.
        """
        status = await self._check()
        state = self._state
        expires = self._monotonic() + WRITE_S
        if state is not None and state.key_id == status.key_id:
            self._state = _State(state.key_id, state.dek_source, state.annotations, expires, state.seed)
        else:
            self._state = await self._new_state(status.key_id, expires)
        self._on_usable(self)
        while self._wanted:
            # Rows are read in order, so that those behind a fetched seed may want another one.
            await self._fetch()
            self._on_usable(self)

    async def health(self) -> str:
        """Empty if all is well, or what is not; the plugin is asked at most every 20 s, or 3 s while it fails."""
        now = self._monotonic()
        if self._health is not None:
            at, text = self._health
            if now - at < HEALTH_S[bool(text)]:
                return text
        try:
            await self._check()
        except DaasError as error:
            return error.message
        return ""

    async def _check(self) -> api.StatusResponse:
        try:
            status = await self._required_client().status()
            problems = []
            if status.healthz != "ok":
                problems.append(f"got unexpected healthz status: {status.healthz}")
            if status.version not in _VERSIONS:
                problems.append(f"expected KMSv2 API version v2, got {status.version}")
            if not 0 < len(status.key_id.encode()) <= KEY_ID_BYTES_MAX:
                problems.append("got invalid KMSv2 KeyID")
            if problems:
                raise Refused("; ".join(problems), reason="kms-provider")
        except DaasError as error:
            self._health = (self._monotonic(), error.message)
            raise
        self._health = (self._monotonic(), "")
        return status

    async def _new_state(self, key_id: str, expires: float) -> _State:
        seed = new_seed()
        answer = await self._required_client().encrypt(seed, str(uuid.uuid4()))
        if answer.key_id != key_id:
            text = (
                f"failed to rotate DEK source: statusKeyIDHash={_hashed(key_id)!r}, "
                f"encryptKeyIDHash={_hashed(answer.key_id)!r}"
            )
            raise Refused(text, reason="kms-provider")
        annotations = dict(answer.annotations)
        check_encrypted(answer.key_id, answer.ciphertext, annotations)
        state = _State(key_id, answer.ciphertext, annotations, expires, seed)
        self._keep((key_id, answer.ciphertext, tuple(sorted(annotations.items())), True), seed)
        return state

    async def _fetch(self) -> None:
        """One Decrypt for each distinct seed that is wanted.

        Raises:
            Unavailable: the plugin can't say yet.
        """
        for source, stored in tuple(self._wanted.items()):
            try:
                seed = await self._required_client().decrypt(
                    stored.dek_source, stored.key_id, stored.annotations, str(uuid.uuid4())
                )
                if stored.seeded and len(seed) != SEED_BYTES:
                    raise Refused(f"a seed of {len(seed)} bytes", reason="kms-provider")
            except Unavailable:
                raise
            except DaasError as error:
                self._refused[source] = type(error)(f"failed to decrypt DEK, error: {error.message}", reason="kms-dek")
            else:
                self._keep(source, seed)
            del self._wanted[source]

    def _keep(self, source: Source, seed: bytes) -> None:
        self._seeds[source] = seed
        if len(self._seeds) > SEEDS_MAX:
            self._seeds.popitem(last=False)

    def _required_client(self) -> KmsClient:
        if self._client is None:
            raise Unavailable("the provider has not been started", reason="kms-provider")
        return self._client


def _hashed(key_id: str) -> str:
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}"


def _wall(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
