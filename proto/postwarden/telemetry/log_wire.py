"""OTLP log records as bytes of the wire, without the SDK's objects.

The SDK takes 70 us for a log record of ours: an object of its own, a copy of the attributes, and a protobuf object for each of their
values. Here it is a quarter of that (docs/performance.md): what stands before a value is the same for all of its length, and is kept.
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
_TIME, _OBSERVED, _SEVERITY_NUMBER, _FLAGS = 1 << 3 | 1, 11 << 3 | 1, 2 << 3, 8 << 3 | 5
_SEVERITY_TEXT, _BODY, _ATTRIBUTES = 3 << 3 | 2, 5 << 3 | 2, 6 << 3 | 2
_TRACE_ID, _SPAN_ID, _EVENT_NAME = 9 << 3 | 2, 10 << 3 | 2, 12 << 3 | 2
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2  # of KeyValue
_STRING, _INT = 1 << 3 | 2, 3 << 3  # of AnyValue
_TIMES, _FLAG_BITS = struct.Struct("<BQBQ"), struct.Struct("<BI")
_UNSIGNED = 0xFFFF_FFFF_FFFF_FFFF  # a negative number goes as its two's complement
_KEPT = 8192  # beginnings of attributes, some 100 bytes each: of some 20 keys with texts of up to 400 bytes


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
    more: bytes = b"",
) -> bytes:
    """A LogRecord. moment, observed: nanoseconds of the epoch. more: attributes that are encoded already. Texts hold no lone surrogates."""
    parts = [
        _TIMES.pack(_TIME, moment, _OBSERVED, observed),
        _head(severity.value, severity_text, event_name),
        _field(_BODY, _field(_STRING, body.encode())),
        encoded(attributes),
        more,
    ]
    if trace is not None:
        parts.append(_field(_TRACE_ID, trace.trace_id.to_bytes(16, "big")))
        parts.append(_field(_SPAN_ID, trace.span_id.to_bytes(8, "big")))
        parts.append(_FLAG_BITS.pack(_FLAGS, trace.trace_flags))
    return b"".join(parts)


def encoded(attributes: Mapping[str, Value]) -> bytes:
    """Attributes as a LogRecord has them. Texts hold no lone surrogates."""
    parts: list[bytes] = []
    for key, value in attributes.items():
        if isinstance(value, str):
            content, tag = value.encode(), _STRING
        else:
            content, tag = _varint(value & _UNSIGNED), _INT
        parts += (_attribute_head(key, tag, len(content)), content)
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
    severity = bytes((_SEVERITY_NUMBER,)) + _varint(number) + _field(_SEVERITY_TEXT, text.encode())
    return severity + _field(_EVENT_NAME, event_name.encode())


@lru_cache(maxsize=_KEPT)
def _attribute_head(key: str, tag: int, size: int) -> bytes:
    """What stands before the size bytes of an attribute's value; tag: of AnyValue."""
    value = bytes((tag,)) + (_varint(size) if tag == _STRING else b"")
    value_size = len(value) + size
    pair = _field(_KEY, key.encode()) + bytes((_VALUE,)) + _varint(value_size) + value
    return bytes((_ATTRIBUTES,)) + _varint(len(pair) + size) + pair


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    septets = []
    while number >= 0x80:
        septets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*septets, number))
