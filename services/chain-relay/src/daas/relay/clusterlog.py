"""What the ledger tells the enclave: entries of the ordered cluster log, in the ledger's order."""

import time

from daas.common import subjects
from daas.common.bus import Bus
from daas.common.messages import ChainStakeChanged
from daas.placement.log import LogEntry, StakeChanged, encode_entry

SOURCE = "relay"


class ClusterLog:
    """Appends to the cluster log. An event that is appended twice is folded once: the engine looks at its place.

    Args:
        bus: the relay's connection.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def stake_changed(self, fact: ChainStakeChanged, *, place: int) -> int:
        """Appends what an account has at stake now; returns the log sequence.

        Args:
            fact: what the ledger says.
            place: number of the event in its checkpoint.

        Raises:
            Unavailable: it is not known to be stored: append it again.
        """
        event = StakeChanged(
            account=fact.account,
            bonded_mist=fact.bonded_mist,
            unbonding_mist=fact.unbonding_mist,
            checkpoint=fact.checkpoint,
            event_index=place,
            timestamp_ms=fact.timestamp_ms,
        )
        now_ms = time.time_ns() // 1_000_000
        return await self._bus.publish(
            subjects.LOG_CLUSTER,
            encode_entry(LogEntry(timestamp_ms=now_ms, source=SOURCE, events=(event,))),
            message_id=f"stake:{fact.tx_digest}:{fact.event_index}",
            time_ms=now_ms,
        )
