"""The W3C trace context header `traceparent`, as Snapshots carry it."""

from __future__ import annotations

import re

from opentelemetry.trace import SpanContext, TraceFlags, format_span_id, format_trace_id

_HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")  # W3C Trace Context, section 3.2


def write(context: SpanContext, *, sampled: bool) -> str:
    """sampled: whether who reads it is to make spans of its own."""
    flags = int(TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT))
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{flags:02x}"


def parse(header: str) -> SpanContext | None:
    """None for what is no such header, or of a trace that can't be."""
    found = _HEADER.fullmatch(header)
    if found is None:
        return None
    trace, span, flags = (int(digits, 16) for digits in found.groups())
    context = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None
