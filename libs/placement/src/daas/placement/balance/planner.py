"""Finds moves off the most loaded nodes, best gain first. Its arithmetic is a guess; the book's is exact."""

import numpy as np
import numpy.typing as npt

from daas.placement.balance.book import Book
from daas.placement.balance.certificate import Move, RebalancePlan
from daas.placement.balance.situation import Situation

Floats = npt.NDArray[np.float64]

#: How many of the least loaded nodes are looked at as targets of each move.
_TARGETS = 16
#: How many of a node's possible moves are asked about before it is given up, best first.
_TRIES = 64


def plan(situation: Situation) -> RebalancePlan:
    """Moves within the situation's policy, each gaining enough; none where the cluster is balanced well enough.

    Raises:
        ClusterError: the situation is out of bounds.
        QuantityError: naming the field.
    """
    book = Book(situation)
    moves = _moves(book) if book.may_start else ()
    return RebalancePlan(
        situation=situation.digest(), before=book.before, after=book.after, floor=book.floor, moves=moves
    )


def _moves(book: Book) -> tuple[Move, ...]:
    names = list(book.nodes)
    by_node: dict[str, dict[str, None]] = {name: {} for name in names}
    for uid, node in sorted(book.place.items()):
        if node in by_node:
            by_node[node][uid] = None
    loads, weights = np.array(book.loads, np.float64), np.array(book.weights, np.float64)
    pressure: Floats = (loads * weights).sum(1)
    exhausted = np.zeros(len(names), np.bool_)
    moves: list[Move] = []
    while len(moves) < book.policy.max_moves and not exhausted.all():
        targets = np.argsort(pressure, kind="stable")[:_TARGETS]
        s = int(np.argmax(np.where(exhausted, -np.inf, pressure)))
        best = _best(book, by_node[names[s]], [names[t] for t in targets.tolist()], (loads, weights))
        if best is None:
            exhausted[s] = True
            continue
        gain, uid, target = best
        book.move(uid, target)
        del by_node[names[s]][uid]
        moves.append(Move(uid=uid, source=names[s], target=target, gain=gain))
        for n in (s, book.index[target]):
            loads[n] = book.loads[n]
            pressure[n] = (loads[n] * weights[n]).sum()
    return tuple(moves)


def _best(
    book: Book, uids: dict[str, None], targets: list[str], measure: tuple[Floats, Floats]
) -> tuple[int, str, str] | None:
    """The move from one node that gains most, with its exact gain, among the pods that may leave it."""
    movable = [uid for uid in uids if book.source_refusal(uid) is None]
    if not movable:
        return None
    loads, weights = measure
    at = [book.index[target] for target in targets]
    s = book.index[book.place[movable[0]]]
    requests = np.array([book.pods[uid].units for uid in movable], np.float64)
    leaving = (requests * (weights[s] * (2 * loads[s] - requests))).sum(1)
    taking = (requests[:, None, :] * (weights[at] * (2 * loads[at] + requests[:, None, :]))).sum(2)
    gains = leaving[:, None] - taking
    for place in np.argsort(-gains, axis=None, kind="stable")[:_TRIES].tolist():
        uid, target = movable[place // len(targets)], targets[place % len(targets)]
        if gains.flat[place] <= 0:
            break
        if book.target_refusal(uid, target) is None:
            gain = book.gain(uid, target)
            if book.gains_enough(gain):
                return gain, uid, target
    return None
