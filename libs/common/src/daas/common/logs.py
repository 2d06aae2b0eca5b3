"""Structured logs: one JSON object a line on stderr, with the service and the trace that is being worked on."""

import logging
import sys
from typing import Any

from daas.common.envelope import current_trace
from daas.common.errors import DaasError

# structlog loads rich where it finds it, for coloured tracebacks: 6 MB and a third of a second in every process, and
# logs here are JSON. Who has loaded rich already keeps it, and who needs it later finds it.
_block = "rich" not in sys.modules
if _block:
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python spells a module that can't be imported
try:
    import structlog
finally:
    if _block:
        del sys.modules["rich"]

Logger = structlog.typing.FilteringBoundLogger


def _add_trace(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    trace = current_trace.get()
    if trace is not None:
        event.setdefault("trace_id", trace.trace_id)
        event.setdefault("span_id", trace.span_id)
    return event


def _spread_error(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`error=<DaasError>` becomes its three fields; any other exception its type and text."""
    error = event.get("error")
    if isinstance(error, DaasError):
        event["error"] = error.message
        event["reason"] = error.reason
        if error.field is not None:
            event["field"] = error.field
    elif isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__}: {error}"
    return event


def _to_stderr(*_args: Any) -> structlog.WriteLogger:
    """Stdout belongs to what a program was asked for, so logs go to stderr, wherever that points at the moment."""
    return structlog.WriteLogger(sys.stderr)


def configure(service: str, level: str = "info") -> None:
    """Sets up logging for this process; libraries' own loggers (warnings and worse) come out in the same form.

    Args:
        service: bound to every line.
        level: debug, info, warning or error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _spread_error,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_to_stderr,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def get_logger(name: str) -> Logger:
    """A logger whose lines say `component=<name>`."""
    logger: Logger = structlog.get_logger(component=name)
    return logger


if not structlog.is_configured():  # programs that do not configure logs must not find them on their stdout
    structlog.configure(logger_factory=_to_stderr)
