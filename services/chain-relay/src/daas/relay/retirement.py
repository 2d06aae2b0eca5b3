"""Ends registrations that enclaves have replaced: a key that nobody uses any more shall be able to sign nothing.

An enclave says with its new key's document which key that replaces. After a grace, in which what the old key has
signed is anchored or signed again, the relay ends the old registration on the ledger. Only its operator can: a
registration that another account made ends by time.
"""

import asyncio
import time
from typing import Final

from daas.common import logs
from daas.common.errors import Conflict, DaasError
from daas.ledger import Ledger
from daas.relay.metrics import RelayMetrics
from daas.relay.outbox import Outbox
from daas.relay.transactions import Rejected, Transactions

log = logs.get_logger(__name__)

_LOOK_S: Final = 0.5
_AGAIN_S: Final = 5.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Retirement:
    """Retires replaced keys when their grace is over.

    Args:
        grace_ms: from the registration of the new key on; 0 leaves every registration to time.
    """

    def __init__(
        self, ledger: Ledger, outbox: Outbox, transactions: Transactions, metrics: RelayMetrics, *, grace_ms: int
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._transactions = transactions
        self._metrics = metrics
        self._grace_ms = grace_ms

    def replaced(self, old: str, new: str) -> None:
        """Notes that one key's enclave has gone over to another key, which is being registered."""
        if self._grace_ms > 0 and old != new:
            self._outbox.replaced(old, new, _now_ms())

    async def run(self) -> None:
        """Ends what is due, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                for old, new in self._due():
                    await self._retire(old, new)
            except DaasError as error:
                self._metrics.node_trouble.labels(error.reason).inc()
                log.warning("a replaced key is not retired yet", error=error)
                await asyncio.sleep(_AGAIN_S)

    def _due(self) -> list[tuple[str, str]]:
        return self._outbox.replaced_before(_now_ms() - self._grace_ms) if self._grace_ms > 0 else []

    async def _retire(self, old: str, new: str) -> None:
        record, successor = self._outbox.key(old), self._outbox.key(new)
        if record is not None and successor is None:
            raise Conflict("the key that replaces it is not registered yet", reason="successor-missing")
        over = record is None or record.over is not None or record.expires_ms <= _now_ms()
        if record is None or over or (successor is not None and successor.over is not None):
            self._outbox.forget_replaced(old)
            return
        key = f"retire:{record.enclave}"
        try:
            effects = await self._transactions.carry_out(key, lambda: self._ledger.build_retire(record.enclave))
        except Rejected as error:
            log.warning("a replaced key is left to time", enclave=record.enclave, reason=error.reason)
        else:
            if effects.failure is None:
                log.info("replaced key retired", enclave=record.enclave, public_key=old, successor=new)
            else:  # it is another account's
                log.warning("a replaced key is left to time", enclave=record.enclave, reason=effects.failure.reason)
        self._outbox.forget(key)
        self._outbox.forget_replaced(old)
