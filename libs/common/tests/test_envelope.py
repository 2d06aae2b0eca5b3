"""The CloudEvents envelope and the trace context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.common.envelope import (
    check,
    current_trace,
    new_trace,
    parse_traceparent,
    rfc3339,
    seal,
    trace_for,
)
from daas.common.errors import InvalidInput, Refused
from daas.common.subjects import CATALOGUE, MAX_MESSAGE_BYTES, PLACEMENT_DECIDED, Service


def test_every_publisher_of_every_subject_passes_and_nobody_else() -> None:
    for subject in CATALOGUE:
        for service in Service:
            headers = seal(service, subject.event_type, "id-1")
            if service in subject.publishers:
                check(subject, headers, MAX_MESSAGE_BYTES)
            else:
                with pytest.raises(Refused, match="forged"):
                    check(subject, headers, 1)


def test_a_missing_or_foreign_attribute_is_refused() -> None:
    good = seal(Service.ENCLAVE, PLACEMENT_DECIDED.event_type, "id-1")
    for name in ("ce-id", "ce-type", "ce-source", "ce-specversion"):
        with pytest.raises(InvalidInput, match="malformed-envelope"):
            check(PLACEMENT_DECIDED, {k: v for k, v in good.items() if k != name}, 1)
    with pytest.raises(InvalidInput, match="wrong-type"):
        check(PLACEMENT_DECIDED, good | {"ce-type": "daas.v1.placement.anchored"}, 1)
    with pytest.raises(InvalidInput, match="malformed-envelope"):
        check(PLACEMENT_DECIDED, good | {"ce-specversion": "0.3"}, 1)
    with pytest.raises(InvalidInput, match="oversize"):
        check(PLACEMENT_DECIDED, good, MAX_MESSAGE_BYTES + 1)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=8))
def test_any_headers_are_accepted_or_refused_never_a_crash(headers: dict[str, str]) -> None:
    with pytest.raises((InvalidInput, Refused)):
        check(PLACEMENT_DECIDED, headers, 1)


def test_time_is_shown_in_utc_with_milliseconds() -> None:
    assert rfc3339(1_732_260_000_007) == "2024-11-22T07:20:00.007Z"


def test_a_trace_goes_on_from_argument_handler_or_nothing() -> None:
    trace = new_trace()
    assert parse_traceparent(trace.traceparent) == trace
    assert trace_for(trace.traceparent) == trace
    token = current_trace.set(trace)
    try:
        child = trace_for(None)
        assert child.trace_id == trace.trace_id
        assert child.span_id != trace.span_id
    finally:
        current_trace.reset(token)
    assert trace_for(None).trace_id != trace.trace_id


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "00-x-y-01",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"01-{'1' * 32}-{'1' * 16}-01",
    ],
)
def test_a_malformed_traceparent_starts_a_new_trace(value: str | None) -> None:
    assert parse_traceparent(value) is None
