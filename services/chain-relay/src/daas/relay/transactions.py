"""One way to carry out a transaction exactly once: write down, send the same bytes, look before building again."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from daas.common import logs
from daas.common.errors import Unavailable
from daas.ledger import Effects, ExecutionError, Ledger, RpcError, SignedTransaction, StaleObject
from daas.relay.outbox import Outbox

log = logs.get_logger(__name__)

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0


class Transactions:
    """Carries out transactions one at a time: each spends the gas coin as its predecessor left it.

    Args:
        ledger: the full node.
        outbox: where signed bytes are kept until their fate is known.
        attempts: how often the same bytes are sent before giving up for now.
    """

    def __init__(self, ledger: Ledger, outbox: Outbox, attempts: int) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._attempts = attempts
        self._one_at_a_time = asyncio.Lock()

    async def carry_out(self, key: str, build: Callable[[], Awaitable[SignedTransaction]]) -> Effects:
        """Executes what `key` stands for once, whatever crashes or answers get lost in between.

        Args:
            key: names the intention, e.g. `anchor:7:<payload digest>`.
            build: makes the signed transaction; called only when none is on disk whose fate is open.

        Returns:
            The effects, which may be those of a failed execution.

        Raises:
            Unavailable: `ledger-away`: the fate is open; calling again goes on with the same bytes.
            RpcRefused: the node will never take it.
        """
        async with self._one_at_a_time:
            delay_s = FIRST_DELAY_S
            for attempt in range(1, self._attempts + 1):
                try:
                    effects = await self._attempt(key, build)
                except RpcError as error:
                    if not error.retryable:
                        self._outbox.forget(key)
                        raise
                    log.warning("ledger did not answer", key=key, attempt=attempt, reason=error.reason)
                else:
                    if effects is not None:
                        return effects
                await asyncio.sleep(delay_s * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
                delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        raise Unavailable(f"the ledger gave no answer to {key} in {self._attempts} attempts", reason="ledger-away")

    async def _attempt(self, key: str, build: Callable[[], Awaitable[SignedTransaction]]) -> Effects | None:
        """One try; None where the transaction must be built anew because an input has moved on."""
        transaction = self._outbox.prepared(key)
        if transaction is None:
            transaction = await build()
            self._outbox.prepare(key, transaction)
        elif (known := await self._ledger.transaction(transaction.digest)) is not None:
            return known
        try:
            return await self._ledger.submit(transaction)
        except ExecutionError as error:
            if error.effects is None:
                raise
            return error.effects
        except StaleObject as error:
            # Only if the node does not know this transaction is it safe to build another.
            if (known := await self._ledger.transaction(transaction.digest)) is not None:
                return known
            self._outbox.forget(key)
            log.warning("transaction is built anew", key=key, reason=error.reason)
            return None
