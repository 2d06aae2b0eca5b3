"""The seeds in memory: opened through key servers, the newest first, tried again with a bounded backoff.

A seed never leaves this process's memory: it is on no disk, in no message and in no log. Once open it stays until the
process ends, so that an outage of Sui or of the key servers stops no API server; for the same reason a policy that says
no from now on takes effect at the next start, or by a rotation.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from daas.common.errors import ConfigurationError, DaasError, NotFound, Unavailable
from daas.common.logs import get_logger
from daas.kms import keyring as keyrings
from daas.kms.keyring import Generation, Keyring
from daas.sealkeeper.kms.metrics import KmsMetrics

#: First and longest pause between attempts; the longest bounds how late a plugin comes back after an outage.
BACKOFF_S: Final = (0.25, 10.0)
#: Of a keyring with many generations; the newest is first in line, and a slow one delays few others.
OPENINGS_AT_ONCE: Final = 8
#: How often the keyring's file is looked at.
POLL_S: Final = 2.0

log = get_logger("kms")

Open = Callable[[Keyring, Generation], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Opened:
    """One open generation. Nothing prints the seed."""

    number: int
    key_id: str
    sealed: bytes
    seed: bytes = field(repr=False)


class SeedStore:
    """The seeds of a keyring file.

    Args:
        path: the file; it is followed, so that a rotation needs no restart.
        open_seed: opens one generation through key servers.
        metrics: what is counted.
        poll_s: how often the file is looked at.
        backoff_s: first and longest pause between attempts to open.

    Raises:
        ConfigurationError: the file can't be used.
    """

    def __init__(
        self,
        path: Path,
        open_seed: Open,
        metrics: KmsMetrics,
        *,
        poll_s: float = POLL_S,
        backoff_s: tuple[float, float] = BACKOFF_S,
    ) -> None:
        self._path = path
        self._open_seed = open_seed
        self._metrics = metrics
        self._poll_s = poll_s
        self._backoff_s = backoff_s
        self._keyring = _load(path)
        self._opened: dict[str, Opened] = {}
        self._current: Opened | None = None
        self._failures: dict[str, DaasError] = {}
        #: What is wrong with the file as it is now; the one read before stays in force.
        self.file_error: ConfigurationError | None = None
        #: Set once there is a seed to encrypt with.
        self.usable = asyncio.Event()
        self._news = asyncio.Event()
        self._turns = asyncio.Semaphore(OPENINGS_AT_ONCE)
        self._metrics.listed.set(len(self._keyring.generations))

    @property
    def keyring(self) -> Keyring:
        """The keyring in force."""
        return self._keyring

    def current(self) -> Opened:
        """The newest open generation. See `plugin.Seeds`."""
        if self._current is None:
            newest = self._keyring.generations[-1]
            raise self._not_open(newest)
        return self._current

    def named(self, key_id: str) -> Opened:
        """One generation. See `plugin.Seeds`."""
        opened = self._opened.get(key_id)
        if opened is not None:
            return opened
        for generation in self._keyring.generations:
            if generation.key_id == key_id:
                raise self._not_open(generation)
        raise NotFound("the keyring has no such key", reason="kms-unknown-key", field="key_id")

    def failure(self, generation: Generation) -> DaasError | None:
        """Why a generation is not open; None where nothing failed yet."""
        return self._failures.get(generation.key_id)

    def is_open(self, generation: Generation) -> bool:
        """Whether its seed is in memory."""
        return generation.key_id in self._opened

    def _not_open(self, generation: Generation) -> Unavailable:
        failure = self._failures.get(generation.key_id)
        why = f"{failure.message} [{failure.reason}]" if failure else "key servers are being asked"
        text = f"the seed of generation {generation.number} is not open yet: {why}"
        return Unavailable(text, reason="kms-seed-sealed")

    async def run(self) -> None:
        """Follows the file and opens what is not open, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._open_all())

    async def _follow(self) -> None:
        seen = await asyncio.to_thread(_version, self._path)
        while True:
            await asyncio.sleep(self._poll_s)
            version = await asyncio.to_thread(_version, self._path)
            if version != seen or self.file_error is not None:
                seen = version
                await self._reload()

    async def _reload(self) -> None:
        try:
            keyring = await asyncio.to_thread(_load, self._path)
        except ConfigurationError as error:
            if self.file_error is None:
                log.warning("the keyring can't be used; the one before stays in force", error=error)
            self.file_error = error
            return
        self.file_error = None
        self._keyring = keyring
        names = {one.key_id for one in keyring.generations}
        self._opened = {name: one for name, one in self._opened.items() if name in names}
        self._failures = {name: one for name, one in self._failures.items() if name in names}
        self._metrics.listed.set(len(names))
        self._choose()
        log.info("keyring read", generations=[one.number for one in keyring.generations])
        self._news.set()

    async def _open_all(self) -> None:
        first, longest = self._backoff_s
        delay = first
        while True:
            self._news.clear()
            missing = [one for one in reversed(self._keyring.generations) if not self.is_open(one)]
            if any(await asyncio.gather(*(self._in_turn(one) for one in missing))):
                delay = first
            if all(self.is_open(one) for one in self._keyring.generations):
                await self._news.wait()
                delay = first
                continue
            # Spread by half, so that the plugins of a cluster do not come back all at once.
            pause = delay * (1 + random.random() / 2)  # noqa: S311 - no secret depends on it
            delay = min(2 * delay, longest)
            try:
                await asyncio.wait_for(self._news.wait(), pause)
            except TimeoutError:
                continue

    async def _in_turn(self, generation: Generation) -> bool:
        async with self._turns:
            return await self._open(generation)

    async def _open(self, generation: Generation) -> bool:
        try:
            seed = await self._open_seed(self._keyring, generation)
        except DaasError as error:
            self._metrics.openings.labels(error.reason).inc()
            known = self._failures.get(generation.key_id)
            if known is None or known.reason != error.reason:
                log.warning("a seed can't be opened yet", generation=generation.number, error=error)
            self._failures[generation.key_id] = error
            return False
        self._metrics.openings.labels("ok").inc()
        self._failures.pop(generation.key_id, None)
        if generation not in self._keyring.generations:  # it left the keyring meanwhile
            return True
        self._opened[generation.key_id] = Opened(
            generation.number, generation.key_id, generation.sealed_bytes, seed
        )  # fmt: skip
        self._choose()
        log.info("seed open", generation=generation.number, key_id=generation.key_id)
        return True

    def _choose(self) -> None:
        """The newest open generation is encrypted with; an older one only until the newest is open."""
        best = max(self._opened.values(), key=lambda one: one.number, default=None)
        self._current = best
        if best is not None:
            self.usable.set()
        self._metrics.seeds.set(len(self._opened))
        self._metrics.generation.set(best.number if best else 0)


def _load(path: Path) -> Keyring:
    keyring = keyrings.load(path)
    if not keyring.generations:
        raise ConfigurationError(f"keyring {path} has no seed: run `daas kms init`", reason="kms-keyring")
    return keyring


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
