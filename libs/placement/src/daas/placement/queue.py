"""The order in which pods of one tenant are decided: priority, then first come; with delays after failures."""

from heapq import heapify, heappop, heappush

from daas.placement.records import PodRecord, PodState


class PendingQueue:
    """Pods of ours that are not placed, by state. The records stay the truth; heaps hold hints that may be stale."""

    def __init__(self) -> None:
        self._active: dict[str, list[tuple[int, int, str]]] = {}
        self._due: dict[str, int] = {}
        self._added = 0
        self._backoff: list[tuple[int, str]] = []
        self.members: dict[PodState, dict[str, PodRecord]] = {
            state: {} for state in (PodState.ACTIVE, PodState.BACKOFF, PodState.UNSCHEDULABLE)
        }

    @property
    def active(self) -> int:
        """How many pods are due for a decision."""
        return len(self.members[PodState.ACTIVE])

    @property
    def pending(self) -> int:
        """How many pods of ours are not placed."""
        return sum(len(members) for members in self.members.values())

    def add(self, record: PodRecord) -> None:
        """Takes in a pod by its state, ticket, priority and delay; also after one of these has changed."""
        members = self.members[record.state]
        if record.state is PodState.ACTIVE and record.uid not in members:
            self._due[record.namespace] = self._due.get(record.namespace, 0) + 1
        members[record.uid] = record
        if record.state is PodState.ACTIVE:
            heappush(self._active.setdefault(record.namespace, []), (-record.priority, record.ticket, record.uid))
            self._added += 1
        elif record.state is PodState.BACKOFF:
            heappush(self._backoff, (record.not_before_ms, record.uid))
        self._compact()

    def remove(self, record: PodRecord) -> None:
        """Forgets a pod, before its state changes."""
        found = self.members[record.state].pop(record.uid, None)
        if found is not None and record.state is PodState.ACTIVE:
            left = self._due[record.namespace] - 1
            if left:
                self._due[record.namespace] = left
            else:
                del self._due[record.namespace]
                self._active.pop(record.namespace, None)

    def tenants(self) -> dict[str, int]:
        """Namespace to how many of its pods are due."""
        return self._due

    def take(self, namespace: str, taken: set[str]) -> PodRecord:
        """The next due pod of a namespace that is not among those taken; it stays active until its state is set.

        Raises:
            IndexError: there is none.
        """
        active, heap = self.members[PodState.ACTIVE], self._active.get(namespace, [])
        while True:
            priority, ticket, uid = heappop(heap)
            record = active.get(uid)
            if record is not None and uid not in taken and (-record.priority, record.ticket) == (priority, ticket):
                taken.add(uid)
                return record

    def due(self, now_ms: int) -> list[PodRecord]:
        """The pods whose delay has passed; they stay in backoff until their state is set."""
        found: dict[str, PodRecord] = {}
        waiting = self.members[PodState.BACKOFF]
        while self._backoff and self._backoff[0][0] <= now_ms:
            not_before_ms, uid = heappop(self._backoff)
            record = waiting.get(uid)
            if record is not None and record.not_before_ms == not_before_ms:
                found[uid] = record
        return list(found.values())

    def _compact(self) -> None:
        """Drops stale hints when they may outnumber the pods."""
        active, waiting = self.members[PodState.ACTIVE], self.members[PodState.BACKOFF]
        if self._added > 2 * len(active) + 1024:
            self._added = 0
            self._active = {}
            for record in active.values():
                self._active.setdefault(record.namespace, []).append((-record.priority, record.ticket, record.uid))
            for heap in self._active.values():
                heapify(heap)
        if len(self._backoff) > 2 * len(waiting) + 1024:
            self._backoff = [(record.not_before_ms, record.uid) for record in waiting.values()]
            heapify(self._backoff)
