"""What all services share: the codec for answers that are encoded already, read masks, pages, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from grpclib.const import Status
from grpclib.encoding.base import CodecBase

from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.wire import Mask, delimited, mask_of

SERVER: Final = "k3s-daas simulated single-operator development ledger, without consensus"
CHAIN_NAME: Final = "simulated"
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1_000
BATCH_MAX: Final = 1_000

Unary = Callable[[Any], bytes]
Streaming = Callable[[Any], Awaitable[None]]


class EncodedCodec(CodecBase):  # type: ignore[misc]  # grpclib has no types
    """Sends answers that are encoded already; decodes requests with the generated classes."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, _message_type: Any) -> bytes:
        """The bytes themselves."""
        assert isinstance(message, bytes)
        return message

    def decode(self, data: bytes, message_type: Any) -> Any:
        """A request."""
        return message_type.parse(data)


def mask_for(message: type, request: Any, default: Iterable[str]) -> Mask | None:
    """The request's read mask of a message, or the default.

    Raises:
        LedgerError: it names a field that the message does not have.
    """
    return mask_of(message, request.read_mask.paths if request.read_mask is not None else None, default)


def names(mask: Mask | None, *path: str) -> bool:
    """Whether a mask covers a field, itself or something below it."""
    for name in path:
        if not mask:
            return True
        if name not in mask:
            return False
        mask = mask[name]
    return True


def not_found(message: str) -> bytes:
    """`google.rpc.Status` of something that is not there."""
    return b"\x08" + bytes((Status.NOT_FOUND.value,)) + delimited(2, message.encode())


def bounded(count: int) -> None:
    """Refuse a batch of too many entries.

    Raises:
        TransactionRefusedError: it is.
    """
    if count > BATCH_MAX:
        raise TransactionRefusedError(f"expected at most {BATCH_MAX} entries, got {count}", field="requests")


def page_size(wanted: int | None) -> int:
    """How many items a page holds: what is wanted, within bounds."""
    return min(wanted or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def id_token(token: bytes | None) -> bytes:
    """The id after which a page begins.

    Raises:
        TransactionRefusedError: not a token that this server gave out.
    """
    if token and len(token) != 32:
        raise TransactionRefusedError("expected a page token that this server gave out", field="page_token")
    return token or b""


def number_token(token: bytes | None) -> int:
    """How many items the pages before had.

    Raises:
        TransactionRefusedError: not a token that this server gave out.
    """
    if token and len(token) != 8:
        raise TransactionRefusedError("expected a page token that this server gave out", field="page_token")
    return int.from_bytes(token or b"", "big")
