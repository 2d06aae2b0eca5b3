"""How an API server's refusals become our errors."""

from typing import Any

import pytest

from daas.common.errors import Conflict, DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.kube.errors import Gone, KubeUnavailable, Status, StatusDetails, decode_status, error_of


@pytest.mark.parametrize(
    ("code", "reason", "kind", "ours"),
    [
        (400, "BadRequest", InvalidInput, "kube-invalid"),
        (401, "Unauthorized", Refused, "kube-unauthorized"),
        (403, "Forbidden", Refused, "kube-forbidden"),
        (404, "NotFound", NotFound, "kube-not-found"),
        (409, "Conflict", Conflict, "kube-conflict"),
        (409, "AlreadyExists", Conflict, "kube-already-exists"),
        (410, "Expired", Gone, "kube-gone"),
        (422, "Invalid", InvalidInput, "kube-invalid"),
        (429, "TooManyRequests", Unavailable, "kube-overloaded"),
        (500, "InternalError", Unavailable, "kube-server-error"),
        (503, "ServiceUnavailable", Unavailable, "kube-server-error"),
    ],
)
def test_the_code_says_who_can_do_what_about_it(code: int, reason: str, kind: type[DaasError], ours: str) -> None:
    error = error_of(code, Status(reason=reason, message="why"), "GET /api/v1/pods")
    assert isinstance(error, kind)
    assert error.reason == ours
    assert "GET /api/v1/pods" in error.message
    assert "why" in error.message


@pytest.mark.parametrize(
    ("header", "details", "expected"),
    [
        ("3", None, 3.0),
        (None, StatusDetails(retry_after_seconds=2), 2.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None, None),
        ("-1", None, None),
        ("nan", None, None),
        ("86400", None, 60.0),
        (None, None, None),
    ],
)
def test_an_overloaded_server_says_when_to_come_back(header: Any, details: Any, expected: Any) -> None:
    error = error_of(429, Status(details=details), "GET /", header)
    assert isinstance(error, KubeUnavailable)
    assert error.retry_after_s == expected


def test_a_body_that_is_no_status_still_explains_itself() -> None:
    assert decode_status(b"<html>Bad gateway</html>").message.startswith("<html>")
    assert decode_status(b'{"code": "x"}').code == 0
    assert decode_status(b'{"kind":"Status","code":404,"reason":"NotFound","message":"m"}').reason == "NotFound"


def test_a_long_message_is_cut() -> None:
    assert len(error_of(422, Status(message="x" * 100_000), "POST /").message) <= 1024
