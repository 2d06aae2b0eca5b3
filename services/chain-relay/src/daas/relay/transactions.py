"""One way to carry out a transaction exactly once: write down, send the same bytes, look before building again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from daas.common import logs
from daas.common.errors import DaasError, DecodeError, NotFound, Unavailable
from daas.ledger import Effects, ExecutionError, Ledger, NoGas, RpcError, SignedTransaction, StaleObject
from daas.relay.metrics import RelayMetrics
from daas.relay.outbox import Member, OpenTransaction, Outbox

log = logs.get_logger(__name__)

FIRST_DELAY_S: Final = 0.05
LONGEST_DELAY_S: Final = 5.0
#: How often in a row a node must deny that it knows a transaction before another one is built in its place: nodes lag
#: behind each other, and one that answers from an older checkpoint denies what is final already.
DENIALS: Final = 4
#: A node that says this of a transaction has judged its bytes: they can't take effect. Anything else is about the node.
_FINAL_STATUS: Final = frozenset({"INVALID_ARGUMENT"})
_CONGESTION: Final = "congestion"

Build = Callable[[], Awaitable[SignedTransaction]]


class Rejected(DaasError):
    """The node has judged the bytes invalid, and no node knows the transaction: nothing was paid, nothing changed."""


class Transactions:
    """Carries out transactions one at a time: each spends the gas coin as its predecessor left it.

    Args:
        ledger: the full node.
        outbox: where signed bytes are kept until their fate is known.
        attempts: how often the same bytes are sent before giving up for now.
        metrics: counts sends, gas and trouble.
    """

    def __init__(self, ledger: Ledger, outbox: Outbox, attempts: int, metrics: RelayMetrics) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._attempts = attempts
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()

    async def carry_out(self, key: str, build: Build, members: Sequence[Member] = ()) -> Effects:
        """Executes what `key` stands for once, whatever crashes or answers get lost in between.

        Where another transaction stands in the outbox whose fate is open, that is found out first: of two that spend
        the same coin only one can take effect, and nobody could say which.

        Args:
            key: names the intention, e.g. `anchor:7:<payload digest>`; done with by `Outbox.forget` or `.anchored`.
            build: makes the signed transaction; called only when none is on disk whose fate is open.
            members: the batches in it, written down with it.

        Returns:
            The effects, which may be those of a failed execution.

        Raises:
            Unavailable: `ledger-away`: the fate is open, calling again goes on with the same bytes; `no-gas`.
            Rejected: the node will never take it.
        """
        async with self._one_at_a_time:
            for other in self._outbox.opened():
                if not other.settled and other.key != key:
                    await self._settle_other(other)
            return await self._persist(key, lambda: self._attempt(key, build, members))

    async def resume(self, key: str) -> Effects | None:
        """Finds out the fate of a transaction that is written down; None where it can never take effect.

        Raises:
            Unavailable: `ledger-away`.
        """
        async with self._one_at_a_time:
            try:
                return await self._persist(key, lambda: self._attempt(key, None, ()))
            except (_NothingPrepared, Rejected):
                return None

    async def _settle_other(self, other: OpenTransaction) -> None:
        """Learns the fate of another transaction; whoever prepared it looks its effects up by itself."""
        try:
            await self._persist(other.key, lambda: self._attempt(other.key, None, ()))
        except (_NothingPrepared, Rejected):
            return
        self._outbox.settle(other.key)

    async def _persist(self, key: str, attempt: Callable[[], Awaitable[Effects | None]]) -> Effects:
        delay_s = FIRST_DELAY_S
        for number in range(1, self._attempts + 1):
            try:
                effects = await attempt()
            except NoGas:
                raise
            except (RpcError, DecodeError, NotFound) as error:
                # All of these are about the node: a DecodeError is an answer that contradicts itself, a NotFound of an
                # object that exists comes from one that lags.
                self._metrics.node_trouble.labels(error.reason).inc()
                log.warning("ledger did not answer", key=key, attempt=number, reason=error.reason)
            else:
                if effects is not None and not _congested(effects):
                    return effects
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        raise Unavailable(f"the ledger gave no answer to {key} in {self._attempts} attempts", reason="ledger-away")

    async def _attempt(self, key: str, build: Build | None, members: Sequence[Member]) -> Effects | None:
        """One try; None where the transaction must be built anew because it can't take effect any more."""
        prepared = self._outbox.prepared(key)
        if prepared is not None:
            transaction = prepared.transaction
            if (known := await self._ledger.transaction(transaction.digest)) is not None:
                return self._paid(key, known, settled=prepared.settled)
        elif build is None:
            raise _NothingPrepared(f"nothing is prepared for {key}", reason="nothing-prepared")
        else:
            transaction = await build()
            self._outbox.prepare(key, transaction, members)
        try:
            self._metrics.sends.inc()
            return self._paid(key, await self._ledger.submit(transaction))
        except ExecutionError as error:
            if error.effects is None:
                raise DecodeError(error.message, reason="node-answer") from None
            return self._paid(key, error.effects)
        except StaleObject as error:
            return await self._given_up(key, transaction, error)
        except RpcError as error:
            if error.retryable or error.status not in _FINAL_STATUS:
                raise
            known = await self._given_up(key, transaction, error)
            if known is None:
                raise Rejected(error.message, reason=error.reason) from None
            return known

    async def _given_up(self, key: str, transaction: SignedTransaction, error: RpcError) -> Effects | None:
        """Looks again and again whether the transaction is known after all; forgets it only when it never is."""
        delay_s = FIRST_DELAY_S
        for _denial in range(DENIALS):
            if (known := await self._ledger.transaction(transaction.digest)) is not None:
                return self._paid(key, known)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            delay_s *= 2
        self._outbox.forget(key)
        self._metrics.rebuilt.inc()
        log.warning("transaction is given up", key=key, digest=transaction.digest, reason=error.reason)
        return None

    def _paid(self, key: str, effects: Effects, *, settled: bool = False) -> Effects:
        if not settled:
            self._metrics.paid(effects.gas_mist)
        if effects.failure is not None:
            self._metrics.failed.labels(effects.failure.reason).inc()
            if _congested(effects):
                # Cancelled for this moment's crowd: it has its digest, so another try needs other bytes.
                self._outbox.forget(key)
        return effects


class _NothingPrepared(DaasError):
    """There is nothing whose fate could be asked for."""


def _congested(effects: Effects) -> bool:
    return effects.failure is not None and _CONGESTION in effects.failure.reason
