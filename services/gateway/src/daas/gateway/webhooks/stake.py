"""The stake of every account as the chain's facts tell it, kept across restarts, with a version per account."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from daas.common.bus import Bus
from daas.common.errors import InvalidInput, NotFound, Refused, Unavailable
from daas.common.facts import fact_of
from daas.common.logs import get_logger
from daas.common.messages import ChainStakeChanged
from daas.common.subjects import CHAIN_STAKE_CHANGED, Stream

#: How many facts may pass between two writes of the file; what is lost is read again from the stream.
SAVE_EVERY: Final = 100
FILE_NAME: Final = "stakes.json"

log = get_logger("stake")


class Held(msgspec.Struct, frozen=True):
    """Bonded stake of one account in MIST, and the stream sequence of the fact that said so: its version."""

    bonded_mist: int
    version: int


class Saved(msgspec.Struct, frozen=True):
    """The file: everything up to a sequence of one cluster's stream."""

    cluster: str
    sequence: int
    accounts: dict[str, Held]


class StakeBook:
    """Follows `chain.stake_changed` from where the file ends.

    Facts older than the stream's retention live on in the file; without a file, accounts whose stake has not changed
    since then count as holding none: nobody gets more than was proven.

    Args:
        directory: where the file lies; None keeps nothing.
    """

    def __init__(self, directory: Path | None, registry: CollectorRegistry) -> None:
        self._path = directory / FILE_NAME if directory is not None else None
        self._accounts: dict[str, Held] = {}
        self._sequence = 0
        self._ends: int | None = None
        self._complete = asyncio.Event()
        self._known = Gauge("daas_gateway_stake_accounts", "Accounts whose stake is known", registry=registry)
        self._refused = Counter("daas_gateway_stake_refused", "Facts about stake not believed", registry=registry)

    @property
    def complete(self) -> bool:
        """Whether everything that was in the stream at the start has been read."""
        return self._complete.is_set()

    def check(self) -> None:
        """Raises Unavailable until the book can be relied on."""
        if not self.complete:
            raise Unavailable("the stakes are still being read", reason="stake-unknown")

    def held(self, account: str) -> Held:
        """What an account holds; none and version 0 where nothing was ever heard of it."""
        return self._accounts.get(account, Held(0, 0))

    def fold(self, fact: ChainStakeChanged, sequence: int) -> None:
        """Takes a fact in; older ones than what is known change nothing."""
        known = self._accounts.get(fact.account)
        if known is None or known.version < sequence:
            self._accounts[fact.account] = Held(fact.bonded_mist, sequence)
        self._sequence = max(self._sequence, sequence)

    async def run(self, bus: Callable[[], Bus]) -> None:
        """Follows the stream for ever; when that ends, the book can no longer be relied on."""
        try:
            await self._follow(bus())
        finally:
            self._complete.clear()

    async def _follow(self, bus: Bus) -> None:
        await asyncio.to_thread(self._load, bus.cluster)
        first, last = await self._bounds(bus)
        if self._sequence > last:
            # Another stream than the one the file was made of: its sequences mean nothing here.
            self._accounts, self._sequence = {}, 0
        newest = await bus.last(CHAIN_STAKE_CHANGED)
        self._ends = newest.sequence if newest is not None else 0
        self._arrive()
        start = max(self._sequence + 1, first, 1)
        count = 0
        async with aclosing(bus.read(Stream.CHAIN, start=start, subjects=[CHAIN_STAKE_CHANGED])) as messages:
            async for stored in messages:
                try:
                    self.fold(fact_of(stored, CHAIN_STAKE_CHANGED, ChainStakeChanged), stored.sequence)
                except (InvalidInput, Refused) as error:
                    self._refused.inc()
                    self._sequence = stored.sequence
                    log.warning("a fact about stake is not believed", sequence=stored.sequence, error=error)
                self._arrive()
                count += 1
                if count % SAVE_EVERY == 0:
                    await asyncio.to_thread(self.save, bus.cluster)

    @staticmethod
    async def _bounds(bus: Bus) -> tuple[int, int]:
        try:
            return await bus.stream_bounds(Stream.CHAIN)
        except NotFound:
            return 0, 0

    def _arrive(self) -> None:
        self._known.set(len(self._accounts))
        if self._ends is not None and self._sequence >= self._ends:
            self._complete.set()

    def _load(self, cluster: str) -> None:
        if self._path is None or not self._path.exists():
            return
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=Saved)
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the stakes on disk can't be read; the stream is read from its start", error=error)
            return
        if saved.cluster == cluster:
            self._accounts, self._sequence = saved.accounts, saved.sequence

    def save(self, cluster: str) -> None:
        """Writes the file, whole or not at all."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(Saved(cluster, self._sequence, self._accounts)))
        temporary.replace(self._path)
