"""Looks for itself whether a decision stands on the ledger, before anything is bound because somebody says so.

The Move package takes a batch only with the signature of an enclave that is registered and current: whoever sees the
package's own event for this payload digest in a transaction that succeeded knows that, from a full node and not from
the bus.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import DecodeError, NotFound, Refused, Unavailable
from daas.common.messages import PlacementAnchored

if TYPE_CHECKING:
    from daas.ledger import Effects

#: A node shows a transaction at once where it has executed it, and lags behind another one by a few hundred ms.
_LOOKS_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
#: Transactions remembered: several batches share one, and messages come again.
KNOWN_MAX: Final = 1_024


class Node(Protocol):
    """What is needed of `daas.ledger.Ledger`."""

    async def transaction(self, digest: str) -> "Effects | None":
        """What a transaction did; None where no node knows of it."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...


class LedgerWitness:
    """Checks announced anchors against the ledger.

    Args:
        connect: opens the connection to the full nodes, on the first check.
        registry: the cluster's registry; anchors of others prove nothing.
        metrics: where checks are counted.
    """

    def __init__(self, connect: Callable[[], Awaitable[Node]], registry: str, metrics: CollectorRegistry) -> None:
        self._connect = connect
        self._registry = registry
        self._node: Node | None = None
        self._connecting = asyncio.Lock()
        self._known: OrderedDict[str, frozenset[tuple[int, str]]] = OrderedDict()
        self._checked = Counter(
            "daas_gateway_anchors_checked", "Anchors looked up on the ledger", ["outcome"], registry=metrics
        )

    async def check(self, anchored: PlacementAnchored) -> None:
        """Returns where the ledger holds what the message says.

        Raises:
            Refused: `not-anchored`: the transaction failed, or anchored something else.
            NotFound: `anchor-not-seen`: no node knows of the transaction (yet).
            Unavailable: no node answers.
        """
        try:
            held = await self._anchors(anchored.tx_digest)
        except (NotFound, Unavailable) as error:
            self._checked.labels(error.reason).inc()
            raise
        if (anchored.sequence, anchored.payload_digest) not in held:
            self._checked.labels("not-anchored").inc()
            raise Refused(
                f"transaction {anchored.tx_digest} does not anchor {anchored.sequence} {anchored.payload_digest} "
                f"in registry {self._registry}",
                reason="not-anchored",
                field="tx_digest",
            )
        self._checked.labels("anchored").inc()

    async def close(self) -> None:
        """Closes the connection."""
        if self._node is not None:
            await self._node.close()

    async def _anchors(self, digest: str) -> frozenset[tuple[int, str]]:
        """Numbers and payload digests that a transaction has anchored in our registry."""
        if digest in self._known:
            return self._known[digest]
        held = frozenset(await self._look(digest))
        self._known[digest] = held
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return held

    async def _look(self, digest: str) -> list[tuple[int, str]]:
        from daas.ledger import Anchored  # noqa: PLC0415 - a gateway without a ledger does not load its client

        node = await self._connected()
        for delay_s in (*_LOOKS_S, None):
            try:
                effects = await node.transaction(digest)
            except DecodeError as error:
                raise Unavailable(f"the full node contradicts itself: {error.message}", reason="node-answer") from None
            if effects is not None:
                events = effects.of(Anchored) if effects.succeeded else ()
                return [(e.sequence, e.payload_digest.hex()) for e in events if e.registry == self._registry]
            if delay_s is not None:
                await asyncio.sleep(delay_s)
        raise NotFound(f"no full node knows of transaction {digest}", reason="anchor-not-seen")

    async def _connected(self) -> Node:
        async with self._connecting:
            if self._node is None:
                self._node = await self._connect()
            return self._node
