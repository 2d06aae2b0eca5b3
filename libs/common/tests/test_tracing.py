"""Tracing that is off costs nothing; tracing that is on never takes a service down."""

import subprocess
import sys

import pytest

from daas.common import envelope, tracing
from daas.common.subjects import Service

NOWHERE = "http://127.0.0.1:9/v1/traces"


def test_nothing_of_opentelemetry_is_loaded_while_tracing_is_off() -> None:
    code = (
        "import sys, daas.common.service as s; from daas.common import tracing\n"
        "with tracing.span('x') as place: assert place is None\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert tracing.span("a") is tracing.span("b"), "not even an object is made"


def test_the_enclave_makes_no_spans_even_where_it_is_told_to() -> None:
    tracing.configure(Service.ENCLAVE, "test", NOWHERE)
    with tracing.span("x") as place:
        assert place is None


def test_a_span_is_the_child_of_its_header_or_of_what_runs_here(caplog: pytest.LogCaptureFixture) -> None:
    tracing.configure(Service.RELAY, "test", NOWHERE)
    try:
        header = envelope.new_trace()
        with tracing.span("handle", kind=tracing.Kind.CONSUMER, parent=header.traceparent) as outer:
            assert outer is not None
            assert outer.trace_id == header.trace_id
            assert outer.span_id != header.span_id
            with tracing.span("inner", pod_name="p") as inner:
                assert inner is not None
                assert inner.trace_id == header.trace_id
                assert envelope.trace_for(None).trace_id == header.trace_id
            assert envelope.current_trace.get() == outer
        assert envelope.current_trace.get() is None
        with tracing.span("alone") as alone:
            assert alone is not None
            assert alone.trace_id != header.trace_id
        with pytest.raises(KeyError), tracing.span("fails"):
            raise KeyError
        assert envelope.current_trace.get() is None
    finally:
        caplog.clear()
        tracing.shut_down()
    assert tracing.span("off again") is tracing.span("off")
