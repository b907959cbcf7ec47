"""The trace context that travels with a Snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext
from postwarden.telemetry.traceparent import parse, write


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read(trace: int, span: int, sampled: bool) -> None:
    read = parse(write(SpanContext(trace, span, is_remote=False), sampled=sampled))
    assert read is not None
    assert (read.trace_id, read.span_id, read.trace_flags.sampled) == (trace, span, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
    ],
)
def test_what_is_no_trace_context_is_none(header: str) -> None:
    assert parse(header) is None
