"""The order in which pods are decided: priority, then first come; with delays after failures."""

from heapq import heapify, heappop, heappush

from daas.placement.records import PodRecord, PodState


class PendingQueue:
    """Pods of ours that are not placed, by state. The records stay the truth; heaps hold hints that may be stale."""

    def __init__(self) -> None:
        self._active: list[tuple[int, int, str]] = []
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
        self.members[record.state][record.uid] = record
        if record.state is PodState.ACTIVE:
            heappush(self._active, (-record.priority, record.ticket, record.uid))
        elif record.state is PodState.BACKOFF:
            heappush(self._backoff, (record.not_before_ms, record.uid))
        self._compact()

    def remove(self, record: PodRecord) -> None:
        """Forgets a pod, before its state changes."""
        self.members[record.state].pop(record.uid, None)

    def head(self, count: int) -> list[PodRecord]:
        """The first `count` active pods, which stay active until their state is set."""
        taken: list[PodRecord] = []
        active = self.members[PodState.ACTIVE]
        seen: set[str] = set()
        while self._active and len(taken) < count:
            priority, ticket, uid = heappop(self._active)
            record = active.get(uid)
            if record is None or uid in seen or (-record.priority, record.ticket) != (priority, ticket):
                continue
            seen.add(uid)
            taken.append(record)
        return taken

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
        """Drops stale hints when they outnumber the pods."""
        active, waiting = self.members[PodState.ACTIVE], self.members[PodState.BACKOFF]
        if len(self._active) > 2 * len(active) + 1024:
            self._active = [(-record.priority, record.ticket, record.uid) for record in active.values()]
            heapify(self._active)
        if len(self._backoff) > 2 * len(waiting) + 1024:
            self._backoff = [(record.not_before_ms, record.uid) for record in waiting.values()]
            heapify(self._backoff)
