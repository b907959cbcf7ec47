"""OTLP log records as bytes of the wire, without the SDK's objects.

The SDK takes 70 us for a log record of ours: an object of its own, a copy of the attributes, and a protobuf object for each of their
values. Here it is a fifth of that (docs/performance.md), and most attributes are the same from record to record: they are kept as bytes.
The SDK's encoder is the oracle in the tests; it still makes the frame (resource and scope), and its exporters do the sending.

Field numbers are those of opentelemetry/proto/logs/v1/logs.proto and common/v1/common.proto (opentelemetry-proto 1.7).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

Value = str | int
# Tags: field number << 3 | wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes).
_TIMES = struct.Struct("<BQBQ")
_TIME, _OBSERVED = 1 << 3 | 1, 11 << 3 | 1
_SEVERITY_NUMBER = bytes((2 << 3,))
_SEVERITY_TEXT, _BODY, _ATTRIBUTES = 3, 5, 6
_FLAGS = struct.Struct("<BI")
_FLAGS_TAG = 8 << 3 | 5
_TRACE_ID, _SPAN_ID, _EVENT_NAME = 9, 10, 12
_KEY, _VALUE = 1, 2  # of KeyValue
_STRING = 1  # of AnyValue
_INT = bytes((3 << 3,))
_KEPT = 4096  # attributes as bytes, some 150 each


def log_record(
    attributes: Mapping[str, Value],
    *,
    body: str,
    severity: SeverityNumber,
    severity_text: str,
    event_name: str,
    moment: int,
    observed: int,
    trace: SpanContext | None,
) -> bytes:
    """A LogRecord. moment, observed: nanoseconds of the epoch. Texts hold no lone surrogates."""
    parts = [
        _TIMES.pack(_TIME, moment, _OBSERVED, observed),
        _head(severity.value, severity_text, event_name),
        _field(_BODY, _any_value(body)),
    ]
    parts += [_attribute(key, value) for key, value in attributes.items()]
    if trace is not None:
        parts.append(_field(_TRACE_ID, trace.trace_id.to_bytes(16, "big")))
        parts.append(_field(_SPAN_ID, trace.span_id.to_bytes(8, "big")))
        parts.append(_FLAGS.pack(_FLAGS_TAG, trace.trace_flags))
    return b"".join(parts)


class LogFrame:
    """What stands around log records in a request."""

    def __init__(self, resource: Resource, scope: InstrumentationScope) -> None:
        self._empty = encode_logs([ReadableLogRecord(LogRecord(), resource, scope)])
        del self._empty.resource_logs[0].scope_logs[0].log_records[:]

    def request(self, records: Sequence[bytes]) -> ExportLogsServiceRequest:
        """With these log records."""
        request = ExportLogsServiceRequest()
        request.CopyFrom(self._empty)
        found = request.resource_logs[0].scope_logs[0].log_records
        for record in records:
            found.add().MergeFromString(record)
        return request


@lru_cache(maxsize=64)
def _head(number: int, text: str, event_name: str) -> bytes:
    severity = _SEVERITY_NUMBER + _varint(number) + _field(_SEVERITY_TEXT, text.encode())
    return severity + _field(_EVENT_NAME, event_name.encode())


@lru_cache(maxsize=_KEPT)
def _attribute(key: str, value: Value) -> bytes:
    return _field(_ATTRIBUTES, _field(_KEY, key.encode()) + _field(_VALUE, _any_value(value)))


def _any_value(value: Value) -> bytes:
    if isinstance(value, str):
        return _field(_STRING, value.encode())
    return _INT + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)  # a negative one as its two's complement


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    septets = []
    while number >= 0x80:
        septets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*septets, number))
