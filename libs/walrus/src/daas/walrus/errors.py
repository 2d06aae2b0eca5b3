"""What an answer of a publisher or an aggregator means in our tree of errors."""

from typing import Any, Final

import msgspec

from daas.common.errors import DaasError, InvalidInput, NotFound, Refused, Unavailable

_TEXT_CHARS: Final = 300


class Status(msgspec.Struct, frozen=True):
    """The body of a failed call: `{"error": {"message", "status", "code", "details"}}`."""

    error: dict[str, Any] = {}


def _said(body: bytes) -> str:
    try:
        message = msgspec.json.decode(body, type=Status).error.get("message", "")
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = body.decode(errors="replace")
    return str(message).strip()[:_TEXT_CHARS]


def from_answer(code: int, body: bytes, what: str) -> DaasError:
    """The error that says who can do what about an HTTP status.

    Args:
        code: the status, not 200.
        body: the answer's body; its message is quoted.
        what: the operation and its endpoint.
    """
    sentence = f"{what}: HTTP {code} {_said(body)}".strip()
    if code == 413:
        return InvalidInput(sentence, reason="walrus-size", field="data")
    if code in (401, 403):
        return Refused(sentence, reason="walrus-not-allowed")
    if code == 404:
        return NotFound(sentence, reason="walrus-not-found")
    if code == 451:
        return Refused(sentence, reason="walrus-blocked")
    if code in (408, 425, 429) or code >= 500:
        return Unavailable(sentence, reason="walrus-unavailable")
    return InvalidInput(sentence, reason="walrus-request")
