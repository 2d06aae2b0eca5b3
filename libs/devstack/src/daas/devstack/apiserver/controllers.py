"""Simulated stand-ins for the two controllers without which deleting never ends: namespaces and pods on nodes.

A real cluster has a namespace controller that empties a terminating namespace, and a kubelet that confirms that a
deleted pod's containers have ended. Here there are no containers, so a deleted pod has ended at once.
"""

import asyncio
import logging
from collections import deque

from daas.devstack.apiserver.resources import BY_KEY
from daas.devstack.apiserver.storage import DELETED, Event, Record, Storage

_LOG = logging.getLogger(__name__)
_NAMESPACES, _PODS = BY_KEY["namespaces"], BY_KEY["pods"]


class SimulatedControllers:
    """Follows the store and finishes what was deleted."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._work: deque[Record] = deque()
        self._news = asyncio.Event()
        self.failures = 0

    async def run(self) -> None:
        """Until cancelled."""
        ends = [self._storage.subscribe(one, self._on_event) for one in (_NAMESPACES, _PODS)]
        try:
            for resource in (_NAMESPACES, _PODS):
                self._work.extend(self._storage.records(resource, None))
            while True:
                while self._work:
                    record = self._work.popleft()
                    try:
                        self._finish(record)
                    except Exception:  # noqa: BLE001 - the outermost loop of the controllers, with a counter
                        self.failures += 1
                        _LOG.exception("could not finish the deletion of %s/%s", record.namespace, record.name)
                    await asyncio.sleep(0)
                self._news.clear()
                await self._news.wait()
        finally:
            for end in ends:
                end()

    def _on_event(self, event: Event) -> None:
        if event.type != DELETED and b'"deletionTimestamp"' in event.record.raw:
            self._work.append(event.record)
            self._news.set()

    def _finish(self, seen: Record) -> None:
        resource = _PODS if seen.namespace else _NAMESPACES
        record = self._storage.get(resource, seen.namespace, seen.name)
        if record is None or b'"deletionTimestamp"' not in record.raw:
            return
        obj = record.object()
        if not obj["metadata"].get("deletionTimestamp"):
            return
        if resource is _NAMESPACES:
            self._empty(record.name)
            obj["spec"] = {}
        obj["metadata"].pop("deletionGracePeriodSeconds", None)
        if not obj["metadata"].get("finalizers"):
            self._storage.delete(resource, obj)

    def _empty(self, namespace: str) -> None:
        for resource in BY_KEY.values():
            if resource.namespaced:
                for record in list(self._storage.records(resource, namespace)):
                    self._storage.delete(resource, record.object())
