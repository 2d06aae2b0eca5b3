"""A rebalance plan with its certificate: moves in order, the exact gain of each, and the sums they have to match."""

import msgspec

from daas.common import bcs, merkle
from daas.common.errors import DecodeError
from daas.placement.allocation.errors import CertificateFormatError
from daas.placement.balance.situation import MAX_MOVES

_DOMAIN = "k3s-daas/rebalance/1"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One pod, from where it runs to where it is to run.

    Attributes:
        uid: of the pod that is evicted; the one its owner makes in its stead has another.
        gain: by how much the potential falls when it is this move's turn.
    """

    uid: str
    source: str
    target: str
    gain: int

    def to_bcs(self) -> bytes:
        """The fields in order."""
        return bcs.string(self.uid) + bcs.string(self.source) + bcs.string(self.target) + bcs.u128(self.gain)


class RebalancePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed (intent 3) and published.

    Attributes:
        situation: digest of what it was made from, 32 bytes.
        before: the potential as it is. after: when all moves are done. floor: what nothing can fall below.
        moves: in the order they are to be made.
    """

    situation: bytes
    before: int
    after: int
    floor: int
    moves: tuple[Move, ...]

    def to_bcs(self) -> bytes:
        """The payload under the signature."""
        return b"".join(
            (
                bcs.string(_DOMAIN),
                bcs.bytes_(self.situation),
                bcs.u128(self.before),
                bcs.u128(self.after),
                bcs.u128(self.floor),
                bcs.vector(Move.to_bcs, self.moves),
            )
        )

    def digest(self) -> bytes:
        """blake2b-256 of the BCS, 32 bytes."""
        return merkle.digest(self.to_bcs())

    @classmethod
    def from_bcs(cls, data: bytes) -> "RebalancePlan":
        """The plan back.

        Raises:
            CertificateFormatError: `malformed-certificate`.
        """
        reader = bcs.Reader(data)
        try:
            domain = reader.string()
            if domain != _DOMAIN:
                raise CertificateFormatError(f"expected {_DOMAIN!r}, not {domain!r}", reason="malformed-certificate")
            plan = cls(
                situation=reader.bytes_(),
                before=reader.u128(),
                after=reader.u128(),
                floor=reader.u128(),
                moves=tuple(reader.vector(lambda: _read_move(reader))),
            )
            reader.end()
        except DecodeError as error:
            raise CertificateFormatError(f"not a plan: {error}", reason="malformed-certificate") from None
        if len(plan.moves) > MAX_MOVES:
            raise CertificateFormatError(f"at most {MAX_MOVES} moves", reason="malformed-certificate", field="moves")
        return plan


def _read_move(reader: bcs.Reader) -> Move:
    return Move(uid=reader.string(), source=reader.string(), target=reader.string(), gain=reader.u128())
