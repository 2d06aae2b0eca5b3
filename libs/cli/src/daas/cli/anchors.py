"""The ledger as verification sees it: our client's transactions and events as `daas.evidence` compares them."""

from typing import TypeVar

import msgspec

from daas.common.errors import DaasError, NotFound
from daas.evidence import AnchoredEvent, LedgerTransaction, RegisteredEvent
from daas.ledger import Anchored, EnclaveRegistered, Ledger, NonceRotated

S = TypeVar("S", bound=msgspec.Struct)


class LedgerAnchors:
    """An AnchorSource over a full node.

    Args:
        ledger: a connection that knows our package; events of other packages never count.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def chain(self) -> str:
        """Genesis digest of the node's chain, hex."""
        return (await self._ledger.chain_digest()).hex()

    async def head(self, registry: str) -> int:
        """Number of the last batch that the ledger has.

        Raises:
            NotFound: there is no such registry.
            Unavailable: the node does not answer.
        """
        return (await self._ledger.registry(registry)).sequence

    async def transaction(self, digest: str) -> LedgerTransaction:
        """A transaction with our package's events.

        Raises:
            NotFound: `transaction-missing`.
            Unavailable: the node does not answer.
        """
        effects = await self._ledger.transaction(digest)
        if effects is None:
            raise NotFound(f"the ledger has no transaction {digest}", reason="transaction-missing", field="tx_digest")
        return LedgerTransaction(
            digest=effects.digest,
            succeeded=effects.succeeded,
            checkpoint=effects.checkpoint,
            anchored=tuple(_as(AnchoredEvent, event) for event in effects.of(Anchored)),
            registered=tuple(_as(RegisteredEvent, event) for event in effects.of(EnclaveRegistered)),
            nonces=tuple((event.registry, event.nonce.hex()) for event in effects.of(NonceRotated)),
        )


class NoAnchors:
    """A ledger that can't be asked: every question gets the reason, so that the checks that need it fail with it."""

    def __init__(self, error: DaasError) -> None:
        self._error = error

    async def chain(self) -> str:
        """Raises the reason."""
        raise self._error

    async def head(self, registry: str) -> int:
        """Raises the reason."""
        self._error.add_note(f"while looking for registry {registry}")
        raise self._error

    async def transaction(self, digest: str) -> LedgerTransaction:
        """Raises the reason."""
        self._error.add_note(f"while looking for transaction {digest}")
        raise self._error


def _as(kind: type[S], event: msgspec.Struct) -> S:
    values = {name: getattr(event, name) for name in kind.__struct_fields__}
    return kind(**{name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()})
