"""Logs are JSON on stderr and carry the trace and the three fields of an error."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from daas.common import logs
from daas.common.envelope import current_trace, new_trace
from daas.common.errors import InvalidInput


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers, level, config = logging.getLogger().handlers[:], logging.getLogger().level, structlog.get_config()
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.configure(**config)
    structlog.contextvars.clear_contextvars()


def test_a_line_is_json_with_service_trace_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("relay", "info")
    trace = new_trace()
    token = current_trace.set(trace)
    logs.get_logger("outbox").warning("refused", error=InvalidInput("too long", reason="oversize", field="$.x"))
    logs.get_logger("outbox").debug("not shown")
    current_trace.reset(token)
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    said = json.loads(line)
    assert captured.out == ""
    assert said["event"] == "refused"
    assert (said["service"], said["component"], said["level"]) == ("relay", "outbox", "warning")
    assert (said["trace_id"], said["span_id"]) == (trace.trace_id, trace.span_id)
    assert (said["error"], said["reason"], said["field"]) == ("too long", "oversize", "$.x")


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("relay", "info")
    logging.getLogger("aiohttp").warning("from a %s", "library")
    logging.getLogger("aiohttp").info("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "from a library"


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("relay", "info")
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        logs.get_logger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: " in json.loads(line)["exception"]
