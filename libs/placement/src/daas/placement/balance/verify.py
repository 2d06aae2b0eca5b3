"""Checks a rebalance plan: every move allowed in its turn, every gain exact, every sum right. Integers only.

After the loads are counted once from the committed situation, a move costs a constant number of operations.
"""

from typing import NamedTuple

from daas.placement.allocation.errors import CertificateError, StaleMoveError
from daas.placement.balance.book import Book, Refusal
from daas.placement.balance.certificate import Move, RebalancePlan
from daas.placement.balance.situation import Situation


class Balance(NamedTuple):
    """What a verified plan does.

    Attributes:
        before: the potential as it is. after: with all moves. floor: what nothing can fall below.
        moves: how many.
    """

    before: int
    after: int
    floor: int
    moves: int

    @property
    def closed_ppm(self) -> int:
        """How much of the distance to the floor the plan closes, in millionths, rounded down."""
        distance = self.before - self.floor
        return (self.before - self.after) * 1_000_000 // distance if distance else 0


def verify(situation: Situation, plan: RebalancePlan) -> Balance:
    """Checks a plan from nothing but the committed situation, whose digest the caller compares with what they trust.

    Raises:
        CertificateError: it claims what is not so; see `verify_moves`.
        ClusterError: the situation is out of bounds.
    """
    if plan.situation != situation.digest():
        raise CertificateError(
            f"the plan speaks of situation {plan.situation.hex()}, this is {situation.digest().hex()}",
            reason="certificate-situation",
            field="situation",
        )
    return verify_moves(Book(situation), plan)


def verify_moves(book: Book, plan: RebalancePlan) -> Balance:
    """Follows a plan in a fresh book; O(moves).

    Raises:
        CertificateError: `certificate-potential`, `certificate-hysteresis`, `certificate-move` or `certificate-gain`.
    """
    for field, claimed, found in (("before", plan.before, book.before), ("floor", plan.floor, book.floor)):
        if claimed != found:
            raise CertificateError(
                f"{field} is {found}, the plan says {claimed}", reason="certificate-potential", field=field
            )
    if plan.moves and not book.may_start:
        raise CertificateError(
            f"the cluster lies no more than {book.policy.start_ppm} ppm above its floor: nothing is moved",
            reason="certificate-hysteresis",
            field="moves",
        )
    for turn, move in enumerate(plan.moves):
        refusal = _refusal(book, move)
        gain = book.gain(move.uid, move.target) if refusal is None else 0
        if refusal is None and gain != move.gain:
            raise CertificateError(
                f"move {turn} of {move.uid} to {move.target} gains {gain}, the plan says {move.gain}",
                reason="certificate-gain",
                field=f"moves[{turn}]",
            )
        if refusal is None and not book.gains_enough(gain):
            refusal = Refusal.GAIN_TOO_SMALL
        if refusal is not None:
            raise CertificateError(
                f"move {turn} of {move.uid} from {move.source} to {move.target}: {refusal}",
                reason="certificate-move",
                field=f"moves[{turn}]",
            )
        book.move(move.uid, move.target)
    if plan.after != book.after:
        raise CertificateError(
            f"after is {book.after}, the plan says {plan.after}", reason="certificate-potential", field="after"
        )
    return Balance(book.before, book.after, book.floor, len(plan.moves))


def check_step(now: Situation, move: Move) -> int:
    """Whether one move of a plan still holds in the cluster as it is now, and what it gains now.

    To be asked right before the eviction, with what has been moved since in `now.past`. Later moves of a plan are asked
    again in their turn, so a cluster that changes under a plan stops it rather than being harmed by it.

    Raises:
        StaleMoveError: with a `Refusal` as its reason.
        ClusterError: the situation is out of bounds.
    """
    book = Book(now)
    refusal = _refusal(book, move)
    gain = book.gain(move.uid, move.target) if refusal is None else 0
    if refusal is None and not book.gains_enough(gain):
        refusal = Refusal.GAIN_TOO_SMALL
    if refusal is not None:
        raise StaleMoveError(
            f"{move.uid} from {move.source} to {move.target}: {refusal}", reason=refusal.value, field="move"
        )
    return gain


def _refusal(book: Book, move: Move) -> Refusal | None:
    refusal = book.source_refusal(move.uid)
    if refusal is None and book.place[move.uid] != move.source:
        refusal = Refusal.NOT_AT_SOURCE
    return refusal or book.target_refusal(move.uid, move.target)
