"""What simulated controllers have in common: they look at everything again when something they follow has changed."""

import asyncio
import logging
from collections.abc import Sequence

from daas.devstack.apiserver.resources import Resource
from daas.devstack.apiserver.storage import Event, Storage

#: Changes are gathered for so long before the next look.
GATHER_S = 0.01

_LOG = logging.getLogger(__name__)


class Follower:
    """Calls `settle` after changes of some resources that it cares about; what changes in quick succession is one call.

    Args:
        storage: what is followed.
        resources: whose changes matter.
    """

    def __init__(self, storage: Storage, resources: Sequence[Resource]) -> None:
        self._storage = storage
        self._resources = resources
        self._news = asyncio.Event()
        self.failures = 0

    async def run(self) -> None:
        """Until cancelled."""
        ends = [self._storage.subscribe(one, self._on_event) for one in self._resources]
        try:
            while True:
                try:
                    self.settle()
                except Exception:  # noqa: BLE001 - the outermost loop of a controller, with a counter
                    self.failures += 1
                    _LOG.exception("a simulated controller failed")
                await self._news.wait()
                await asyncio.sleep(GATHER_S)
                self._news.clear()
        finally:
            for end in ends:
                end()

    def settle(self) -> None:
        """Brings what this controller is responsible for in line with the rest."""
        raise NotImplementedError

    def cares(self, event: Event) -> bool:
        """Whether this change can mean work; asked of every one, so that a burst of pods costs next to nothing."""
        return event.resource in {one.key for one in self._resources}

    def _on_event(self, event: Event) -> None:
        if self.cares(event):
            self._news.set()
