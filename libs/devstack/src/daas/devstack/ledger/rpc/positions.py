"""Where items lie in the ledger's order: cursors, watermarks, and the interval that a query reads."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto

from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.wire import build

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 1_000
CURSOR_LENGTH: Final = 12
LAST_EVENT: Final = (1 << 32) - 1

ITEM_LIMIT, SCAN_LIMIT, CHECKPOINT_BOUND, CURSOR_BOUND, LEDGER_TIP = 1, 2, 3, 4, 5

Position = tuple[int, int]
"""A checkpoint's number and an event's index within it; 0 for what is no event, LAST_EVENT after all of them."""


class Interval(msgspec.Struct, frozen=True):
    """The positions strictly between two bounds, in reading order, and why reading ends there."""

    after: Position
    before: Position
    descending: bool
    limit: int
    end_reason: int


def cursor(position: Position) -> bytes:
    """The opaque cursor of a position."""
    return position[0].to_bytes(8, "big") + position[1].to_bytes(4, "big")


def watermark(position: Position, checkpoint: int | None) -> bytes:
    """`Watermark`; `checkpoint` is the last one that has been covered whole."""
    return build(proto.Watermark, cursor=cursor(position), checkpoint=checkpoint)


def interval_of(request: Any, latest: int) -> Interval:
    """What a List request reads, of a ledger whose newest checkpoint is `latest`.

    Raises:
        TransactionRefusedError: a cursor that this server did not give out, or bounds that contradict each other.
    """
    options = request.options
    descending = options is not None and int(options.ordering or 0) == 1
    start = request.start_checkpoint or 0
    end = latest + 1 if request.end_checkpoint is None else min(request.end_checkpoint, latest + 1)
    if request.end_checkpoint is not None and request.end_checkpoint < start:
        raise TransactionRefusedError(f"expected an end after checkpoint {start}, got {request.end_checkpoint}")
    after, before = (start - 1, LAST_EVENT), (end, 0)
    wanted_after = _position(options.after) if options is not None and options.after else None
    wanted_before = _position(options.before) if options is not None and options.before else None
    by_cursor = wanted_after is not None if descending else wanted_before is not None
    if wanted_after is not None:
        by_cursor = by_cursor and (not descending or wanted_after > after)
        after = max(after, wanted_after)
    if wanted_before is not None:
        by_cursor = by_cursor and (descending or wanted_before < before)
        before = min(before, wanted_before)
    bounded = descending or (request.end_checkpoint is not None and request.end_checkpoint <= latest + 1)
    reason = CURSOR_BOUND if by_cursor else CHECKPOINT_BOUND if bounded else LEDGER_TIP
    limit = min((options.limit if options is not None else None) or LIMIT_DEFAULT, LIMIT_MAX)
    return Interval(after, before, descending, limit, reason)


def _position(data: bytes) -> Position:
    if len(data) != CURSOR_LENGTH:
        raise TransactionRefusedError(f"expected a cursor of {CURSOR_LENGTH} bytes, got {len(data)}", field="options")
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
