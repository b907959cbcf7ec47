"""Log records as bytes are those that the SDK would send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from postwarden.telemetry.log_wire import LogFrame, log_record

RESOURCE = Resource({"service.name": "x", "k8s.pod.name": "mail-0"})
SCOPE = InstrumentationScope("scope", "1.2")

_texts = st.text(st.characters(codec="utf-8"), max_size=300)
_moments = st.integers(0, 2**63 - 1)
_keys = st.text(st.characters(codec="ascii"), min_size=1, max_size=200)
_values = _texts | st.integers(-(2**63), 2**63 - 1)
_traces = st.none() | st.builds(
    SpanContext,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    is_remote=st.just(False),
    trace_flags=st.sampled_from([TraceFlags(0), TraceFlags(1)]),
)
_records = st.tuples(
    st.dictionaries(_keys, _values, max_size=30), _texts, st.sampled_from(SeverityNumber), _texts, _texts, _moments, _moments,
    _traces,
)  # fmt: skip


@given(st.lists(_records, min_size=1, max_size=3))
def test_they_are_the_sdks(
    drawn: list[tuple[dict[str, str | int], str, SeverityNumber, str, str, int, int, SpanContext | None]],
) -> None:
    ours, theirs = [], []
    for attributes, body, severity, severity_text, event_name, moment, observed, trace in drawn:
        ours.append(
            log_record(
                attributes,
                body=body,
                severity=severity,
                severity_text=severity_text,
                event_name=event_name,
                moment=moment,
                observed=observed,
                trace=trace,
            )
        )
        made = LogRecord(
            timestamp=moment,
            observed_timestamp=observed,
            context=set_span_in_context(NonRecordingSpan(trace), Context()) if trace else Context(),
            severity_number=severity,
            severity_text=severity_text,
            body=body,
            attributes=attributes,
            event_name=event_name,
        )
        theirs.append(ReadableLogRecord(made, RESOURCE, SCOPE))
    frame = LogFrame(RESOURCE, SCOPE)
    assert frame.request(ours) == encode_logs(theirs)
    assert frame.request(ours) == encode_logs(theirs), "a frame is used many times"
