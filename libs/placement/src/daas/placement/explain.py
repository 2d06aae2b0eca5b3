"""Why a pod was decided as it was: the same decision made again, with a look at the engine at the pod's turn."""

from typing import Final

import msgspec

from daas.placement.choosing import Choice, Chooser
from daas.placement.engine import Engine, Wish
from daas.placement.fairness import SHARE_PLACES, FairnessCertificate, Order, dominant_share
from daas.placement.policy import Genesis
from daas.placement.reasons import names
from daas.placement.records import PodRecord
from daas.placement.scheduler import Applied, Scheduler
from daas.placement.state import ClusterState

#: Nodes of the score table.
BEST: Final = 5
_MILLION: Final = 1_000_000


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """A feasible node: the weighted scores by name, and their sum."""

    node: str
    total: int
    parts: dict[str, int]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant at the turn of one of its pods.

    Attributes:
        index: how many pods of the batch were served before.
        weight: by stake. due: how many of its pods were due in this batch.
        share_ppm: its dominant share of the cluster, in millionths, with what this batch served it before.
        waiting: (namespace, share in millionths, weight) of the tenants that had pods due then, the next to be served
            first.
    """

    namespace: str
    index: int
    weight: int
    due: int
    share_ppm: int
    waiting: tuple[tuple[str, int, int], ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine saw when the pod's turn came.

    Attributes:
        nodes: how many were known.
        node, score: what was chosen; None and 0 where no node would do.
        reasons: names of the bits in the leaf.
        refused: by filter, how many nodes it refused; a node that lacks several things counts for each.
        feasible: how many nodes would do. best: the highest scores among them, best first, ties by name.
        turn: the tenant's place in the order.
    """

    uid: str
    nodes: int
    node: str | None
    score: int
    reasons: tuple[str, ...]
    refused: dict[str, int]
    feasible: int
    best: tuple[Scored, ...]
    turn: Turn | None = None


class _Watcher(Chooser):
    """Chooses as any other, and notes what there was to choose from for one pod."""

    def __init__(self, state: ClusterState, engine: Engine) -> None:
        super().__init__(state, engine)
        self.uid = ""
        self.seen: Explanation | None = None

    def _stretch(self, records: list[PodRecord], start: int) -> list[Wish]:
        """One by one, so that none is passed over; what is decided is the same."""
        return [] if self.uid else super()._stretch(records, start)

    def choose(self, record: PodRecord) -> Choice:
        """As any chooser; looks around before."""
        if record.uid == self.uid:
            self.seen = self._look(record)
        return super().choose(record)

    def _look(self, record: PodRecord) -> Explanation:
        wish, state, engine = self.wish(record), self._state, self._engine
        refused: dict[str, int] = {}
        scores: dict[str, dict[str, int]] = {}
        if not wish.pod_class.unsupported:
            reach = self._reach.of(record, state.claims, state.nodes) if record.claims else None
            found = engine.refusals(wish) if reach is None else engine.refusals(wish, reach.bars)
            refused = {names(int(reason))[0]: count for reason, count in found.items()}
            closed = self._kept_for_others(record, wish) if state.nominated else []
            if closed:
                refused["reserved-for-nominated"] = len(closed)
            within, slots = None if reach is None else reach.within, engine.table.slot_of
            scores = {
                name: parts
                for name, parts in engine.weigh(wish).items()
                if name not in closed and (within is None or within[slots[name]])
            }
        ranked = sorted(scores.items(), key=lambda item: (-sum(item[1].values()), item[0]))
        return Explanation(
            uid=record.uid,
            nodes=len(state.nodes),
            node=None,
            score=0,
            reasons=(),
            refused=dict(sorted(refused.items())),
            feasible=len(scores),
            best=tuple(Scored(node=name, total=sum(parts.values()), parts=parts) for name, parts in ranked[:BEST]),
        )


class Witness(Scheduler):
    """A scheduler that also notes what it saw for one pod; its decisions are those of any other."""

    def __init__(self, genesis: Genesis) -> None:
        super().__init__(genesis)
        self._watcher = _Watcher(self._state, self._engine)
        self.use(self._watcher)

    @property
    def uid(self) -> str:
        """Of the pod; set before the entry is folded that leads to its decision."""
        return self._watcher.uid

    @uid.setter
    def uid(self, uid: str) -> None:
        self._watcher.uid = uid

    @property
    def seen(self) -> Explanation | None:
        """What was seen, the last time that the pod was decided."""
        return self._watcher.seen

    def apply(self, log_sequence: int, entry: bytes, *, certify: bool = True) -> Applied:
        """As any scheduler; adds the tenant's turn to what was seen."""
        applied = super().apply(log_sequence, entry, certify=certify)
        if applied.decision is not None and self.seen is not None:
            for index, leaf in enumerate(applied.decision.leaves):
                if leaf.pod_uid == self.uid:
                    turn = None if applied.fairness is None else turn_of(applied.fairness, leaf.namespace, index)
                    self._watcher.seen = msgspec.structs.replace(
                        self.seen, node=leaf.node, score=leaf.score, reasons=names(leaf.reasons), turn=turn
                    )
        return applied


def turn_of(certificate: FairnessCertificate, namespace: str, index: int) -> Turn:
    """The tenants when it was the turn of a leaf."""
    capacity = dict(certificate.capacity)
    order = Order(certificate.tenants, capacity)
    used = {tenant.namespace: dict(tenant.used) for tenant in certificate.tenants}
    served = dict.fromkeys(used, 0)
    for grant in certificate.grants[:index]:
        counter = order.next()
        assert counter is not None, "a grant for each leaf"
        order.serve(grant.requests)
        used[counter.tenant.namespace] = dict(counter.used)
        served[counter.tenant.namespace] += 1
    by_name = {tenant.namespace: tenant for tenant in certificate.tenants}
    shares = {name: dominant_share(amounts, capacity) for name, amounts in used.items()}
    waiting = [tenant for tenant in certificate.tenants if served[tenant.namespace] < tenant.due]
    waiting.sort(key=lambda tenant: (shares[tenant.namespace] // tenant.weight, tenant.namespace != namespace))
    return Turn(
        namespace=namespace,
        index=index,
        weight=by_name[namespace].weight,
        due=by_name[namespace].due,
        share_ppm=shares[namespace] * _MILLION >> SHARE_PLACES,
        waiting=tuple(
            (one.namespace, shares[one.namespace] * _MILLION >> SHARE_PLACES, one.weight) for one in waiting[:BEST]
        ),
    )
