"""Which keys may sign verdicts: those that facts call registered and that the ledger, where one is named, has too."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter

from daas.common.bus import Bus, StoredMessage
from daas.common.errors import InvalidInput, NotFound, Refused, Unavailable
from daas.common.facts import fact_of
from daas.common.logs import get_logger
from daas.common.messages import EnclaveRegistered, EnclaveRevoked
from daas.common.subjects import ENCLAVE_REGISTERED, ENCLAVE_REVOKED, Stream

if TYPE_CHECKING:
    from daas.ledger import Enclave

#: Registrations and revocations remembered; a cluster has a few enclaves, each renewed every few hours.
KNOWN_MAX: Final = 4_096
#: How long a look at the ledger counts, and how long it may take; the webhook has 3 s in all, the enclave 0.8 of them.
LOOK_S: Final = 10.0
LOOK_TIMEOUT_S: Final = 1.5

log = get_logger("enclaves")
V = TypeVar("V")


class Node(Protocol):
    """What is needed of `daas.ledger.Ledger`."""

    async def enclave(self, address: str) -> "Enclave":
        """A registration as it is now."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...


class EnclaveKeys:
    """Follows `enclave.registered` and `enclave.revoked` from the start of their stream.

    Args:
        registry: the cluster's registry, where settings name it; registrations in others don't count.
        connect: opens a connection to the ledger for a look at each key; None: the facts are taken at their word.
        clock_ms: Unix time in milliseconds. clock_s: monotonic seconds.
    """

    def __init__(
        self,
        metrics: CollectorRegistry,
        *,
        clock_ms: Callable[[], int],
        clock_s: Callable[[], float],
        registry: str | None = None,
        connect: Callable[[], Awaitable[Node]] | None = None,
    ) -> None:
        self._clock_ms = clock_ms
        self._clock_s = clock_s
        self._registry = registry
        self._connect = connect
        self._node: Node | None = None
        self._connecting = asyncio.Lock()
        self._keys: OrderedDict[str, EnclaveRegistered] = OrderedDict()
        self._revoked: OrderedDict[str, None] = OrderedDict()
        self._looked: OrderedDict[str, float] = OrderedDict()
        self._complete = asyncio.Event()
        self._refused = Counter(
            "daas_gateway_enclave_facts_refused", "Facts about enclaves not believed", registry=metrics
        )

    def fold(self, fact: EnclaveRegistered | EnclaveRevoked) -> None:
        """Takes a fact in."""
        if isinstance(fact, EnclaveRegistered):
            if fact.enclave in self._revoked or (self._registry is not None and fact.registry != self._registry):
                return
            known = self._keys.get(fact.public_key)
            if known is None or known.expires_ms <= fact.expires_ms:
                _remember(self._keys, fact.public_key, fact)
        elif fact.enclave is not None:
            _remember(self._revoked, fact.enclave, None)
            known = self._keys.get(fact.public_key)
            if known is not None and known.enclave == fact.enclave:
                del self._keys[fact.public_key]

    async def check(self, public_key: str, registry: str) -> None:
        """Returns where the key of an enclave may sign now.

        Raises:
            Refused: `enclave-key`: it is registered nowhere, revoked, expired, or speaks for another registry.
            Unavailable: the facts are not read yet, or the ledger does not answer.
        """
        if not self._complete.is_set():
            raise Unavailable("the enclaves' keys are still being read", reason="enclave-keys-unknown")
        known = self._keys.get(public_key)
        if known is None or known.registry != registry or known.expires_ms <= self._clock_ms():
            raise Refused(f"{public_key} is no enclave's key now", reason="enclave-key", field="public_key")
        pair = f"{known.enclave}/{public_key}"
        if self._connect is None or self._looked.get(pair, 0.0) > self._clock_s():
            return
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                held = await (await self._connected(self._connect)).enclave(known.enclave)
        except NotFound as error:
            raise Refused(f"the ledger: {error.message}", reason="enclave-key", field="public_key") from None
        except TimeoutError:
            raise Unavailable(f"no ledger within {LOOK_TIMEOUT_S} s", reason="ledger-away") from None
        if (
            held.public_key.hex() != public_key
            or held.registry != registry
            or held.revoked
            or held.expires_ms <= self._clock_ms()
        ):
            raise Refused(
                f"{public_key} is no enclave's key now, the ledger says", reason="enclave-key", field="public_key"
            )
        _remember(self._looked, pair, self._clock_s() + LOOK_S)

    async def run(self, bus: Callable[[], Bus]) -> None:
        """Follows the stream for ever; when that ends, no key can be relied on."""
        try:
            await self._follow(bus())
        finally:
            self._complete.clear()

    async def close(self) -> None:
        """Closes the connection to the ledger."""
        if self._node is not None:
            await self._node.close()

    async def _follow(self, bus: Bus) -> None:
        rows = (ENCLAVE_REGISTERED, ENCLAVE_REVOKED)
        newest = [await bus.last(row) for row in rows]
        ends = max((stored.sequence for stored in newest if stored is not None), default=0)
        if not ends:
            self._complete.set()
        async with aclosing(bus.read(Stream.ENCLAVE, subjects=rows)) as messages:
            async for stored in messages:
                try:
                    self.fold(_fact(stored, bus.cluster))
                except (InvalidInput, Refused) as error:
                    self._refused.inc()
                    log.warning("a fact about an enclave is not believed", sequence=stored.sequence, error=error)
                if stored.sequence >= ends:
                    self._complete.set()

    async def _connected(self, connect: Callable[[], Awaitable[Node]]) -> Node:
        async with self._connecting:
            if self._node is None:
                self._node = await connect()
            return self._node


def _fact(stored: StoredMessage, cluster: str) -> EnclaveRegistered | EnclaveRevoked:
    if stored.subject == ENCLAVE_REGISTERED.full(cluster):
        return fact_of(stored, ENCLAVE_REGISTERED, EnclaveRegistered)
    return fact_of(stored, ENCLAVE_REVOKED, EnclaveRevoked)


def _remember(memory: OrderedDict[str, V], key: str, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > KNOWN_MAX:
        memory.popitem(last=False)
