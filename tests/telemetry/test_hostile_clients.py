"""Whatever a client says, each signal of it is one line (or valid protobuf) of bounded length, without a control character.

The clients go through the engine itself, and their records through the worker's encoding: what is bounded there is bounded here. Besides,
records as no engine makes them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from engine.scene import Scene, make_context, make_rules
from hostile_strategies import hostile_bytes, hostile_texts
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext
from postwarden_cli.verdict_lines import json_line, text_line
from postwarden_sidecar.engine.record import MAX_EVENTS, Record
from postwarden_sidecar.ipc import records as wire
from postwarden_sidecar.rules.settings import Action, EnvelopeAddresses, Protocol, ProtocolTest, Session
from postwarden_sidecar.supervisor.tail import Filter, Tail
from postwarden_sidecar.telemetry import logs, postscreen, pretty, privacy, spans
from record_strategies import records

LONGEST_LINE = 16 * 1024  # bytes: container runtimes cut longer lines in two
LONGEST_TEXT = 4000  # characters of one attribute: our longest text, each character as `\u202e`

TALKATIVE = make_rules(
    reject=("192.0.2.0/24",),
    protocol=Protocol(
        ProtocolTest(True, Action.ENFORCE),
        ProtocolTest(True, Action.ENFORCE),
        ProtocolTest(True, Action.ENFORCE),
    ),
    session=Session(command_count_limit=1000, line_length_limit=4096),
)

places = st.sampled_from(
    [
        b"EHLO %s\r\n",
        b"HELO %s\r\n",
        b"MAIL FROM:<%s@client.example>\r\n",
        b"RCPT TO:<%s@example.org>\r\n",
        b"%s\r\n",
        b"%s\n",
        b"NOOP %s\r\n",
        b"DATA%s\r\n",
    ]
)
lines = st.lists(
    st.builds(lambda place, said: place.replace(b"%s", said), places, hostile_bytes()), max_size=8
)


def recorded(early: bytes, said: list[bytes], envelope: EnvelopeAddresses) -> Record:
    """Of a client that is denied and says all of that, or of one that talks early."""
    scene = Scene()
    client = scene.connect(make_context(TALKATIVE))
    if early:
        client.send(early)
    scene.wait(7.0)
    for line in said:
        client.send(line)
    client.reset()
    scene.wait(400.0)
    assert client.record is not None
    found = of_a_worker(client.record)
    found.envelope = "" if envelope is EnvelopeAddresses.FULL else envelope.value
    return found


def of_a_worker(record: Record) -> Record:
    """As the supervisor gets it: what is too much is cut."""
    (found,) = wire.decode_batch(b"\x92\x91" + wire.encode(record) + b"\x90")
    assert isinstance(found, Record)
    return found


def shown_lines(record: Record) -> Iterator[str]:
    """All that becomes lines."""
    record = privacy.shown(record)
    yield logs.json_line(record).decode()
    yield pretty.pretty_line(record, colour=False)
    for legacy in (False, True):
        yield from postscreen.lines(record, "mx", 1, legacy=legacy)


async def tailed(record: Record) -> bytes:
    tail = Tail()
    reader = tail.open(Filter())
    tail.observe([record])
    return await reader.next_lines()


def texts(value: AnyValue) -> Iterator[str]:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        yield value.string_value


def exported(record: Record) -> ExportTraceServiceRequest:
    """The spans as they are sent, and read again."""
    root = SpanContext(1, 2, False)
    found = spans.made(
        privacy.shown(record), root, lambda: 3, Resource.get_empty(), InstrumentationScope("test")
    )
    assert len(found) == spans.count(record)
    sent = encode_spans(found).SerializeToString()
    return ExportTraceServiceRequest.FromString(sent)


def is_well_formed(record: Record) -> None:
    """Every signal of it."""
    for line in shown_lines(record):
        assert line.isprintable()
        assert len(line.encode()) <= LONGEST_LINE
    (live,) = asyncio.run(tailed(record)).splitlines()
    verdict = json.loads(live)
    assert verdict["postwarden.verdict"] == record.verdict.value
    for colour in (False, True):
        assert text_line(verdict, "mta-0", 5, colour=colour).count("\x1b") == (2 if colour else 0)
    assert json_line(verdict, {}).isascii()
    for resource in exported(record).resource_spans:
        for span in resource.scope_spans[0].spans:
            assert len(span.events) <= MAX_EVENTS
            of_events = [attribute for event in span.events for attribute in event.attributes]
            for attribute in [*span.attributes, *of_events]:
                for text in texts(attribute.value):
                    assert text.isprintable()
                    assert len(text) <= LONGEST_TEXT


@given(st.just(b"") | hostile_bytes(), lines, st.sampled_from(EnvelopeAddresses))
@example(b"", [b"EHLO " + b"\xff" * 2048 + b"\r\n"], EnvelopeAddresses.FULL)
@example(
    b"",
    [b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", *[b"RCPT TO:<%s@x>\r\n" % (b"\x1b" * 900)] * 900],
    EnvelopeAddresses.FULL,
)
@example(b"\x1b[2J\r\n" * 2000, [], EnvelopeAddresses.HASHED)
def test_a_clients_words_are_harmless_in_every_signal(
    early: bytes, said: list[bytes], envelope: EnvelopeAddresses
) -> None:
    is_well_formed(recorded(early, said, envelope))


@given(records(hostile_texts()))
def test_so_is_any_record_that_comes_from_a_worker(made: Record) -> None:
    is_well_formed(of_a_worker(made))
