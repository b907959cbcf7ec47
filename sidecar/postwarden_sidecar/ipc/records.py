"""Records of connections on their way from a worker to the supervisor: at most 4 KiB each, batches of at most
32 KiB a packet.

Screening never waits for telemetry: what does not fit the socket is dropped and counted in the page.
MessagePack by msgspec: a record is an array (`engine.record`). A batch is two arrays put together from encoded parts: records, and groups
of a template with what has it in common (`engine.alike`): a quarter of the bytes, and of the work on both sides.
"""

from __future__ import annotations

import socket
from collections.abc import Sized
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from postwarden_sidecar.engine.alike import whole
from postwarden_sidecar.engine.record import (
    MAX_TEXT,
    Alike,
    Event,
    Lookup,
    Record,
    Recorded,
    TestResult,
    Visit,
)
from postwarden_sidecar.ipc.messages import MAX_MESSAGE
from postwarden_sidecar.ipc.page import CELLS, RECORDS_DROPPED
from postwarden_sidecar.ipc.pair import ChannelFault, prepare, receive_packet, send_packet

MAX_RECORD = 4 * 1024  # bytes (design)
MAX_VISIT = 768  # bytes; one whose place takes more goes as a record, that is cut
MAX_TESTS = 12  # results of tests kept in a record that is too large; there are fewer tests than that
MAX_LOOKUPS = 8  # the same of look-ups, of 32 at most: at 100 bytes each they leave room for how the connection began and ended
# Bytes that wait in the pair for a supervisor that gets no CPU for a while: some 200 ms of a flood. With the 64 KiB of the control pair,
# 2 % of the records of 10,000 drops a second were lost on two busy cores.
BUFFER = 512 * 1024
_HEADER = 3  # bytes of a MessagePack array's header: 0xdc and its length in 16 bits
# Characters kept of each text, tried in this order; with the last any record fits.
_SHORT_TEXTS = (MAX_TEXT, 100, 50, 25, 12)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[list[Record], list[Alike]])
_PAIR = b"\x92"  # MessagePack's head of an array of two
_EMPTY = len(_PAIR) + 2 * _HEADER  # bytes of a batch of nothing

_Part = TypeVar("_Part", Record, Event, TestResult)


def encode(record: Record) -> bytes:
    """The record in at most MAX_RECORD bytes. One that is larger has its texts cut to MAX_TEXT characters and
    loses events from the middle, counted in `events_lost`; only then its texts are cut shorter. Characters
    that are no byte become `?`."""
    try:
        packet = _encoder.encode(record)
    except UnicodeEncodeError:  # a lone surrogate; an engine that keeps its contract makes none
        return _shrink(record)
    return packet if len(packet) <= MAX_RECORD else _shrink(record)


def _shrink(record: Record) -> bytes:
    for limit in _SHORT_TEXTS:
        bounded = _bound(record, limit)
        bounded.tests = [_bound(test, limit) for test in record.tests[:MAX_TESTS]]
        bounded.lookups = [
            Lookup(_cut(lookup.zone, limit), _cut(lookup.outcome, limit), lookup.start, lookup.end)
            for lookup in record.lookups[:MAX_LOOKUPS]
        ]
        bounded.events = []
        # The events' list and their count take a few bytes more than now, when both are empty.
        room = MAX_RECORD - len(_encoder.encode(bounded)) - 2 * _HEADER
        kept = _keep_ends([_bound(event, limit) for event in record.events], room)
        if room >= 0 and (len(kept) >= min(len(record.events), 2) or limit == _SHORT_TEXTS[-1]):
            break
    bounded.events = kept
    bounded.events_lost = record.events_lost + len(record.events) - len(kept)
    return _encoder.encode(bounded)


def _bound(part: _Part, limit: int) -> _Part:
    texts: dict[str, Any] = {
        name: _cut(value, limit)
        for name in part.__struct_fields__
        if type(value := getattr(part, name)) is str
    }
    return replace(part, **texts)


def _cut(text: str, limit: int) -> str:
    return text[:limit].encode("latin-1", "replace").decode("latin-1")


def _keep_ends(events: list[Event], room: int) -> list[Event]:
    """As many events as fit into room bytes, taken from the beginning and the end in turn: how a connection
    began and how it ended says most."""
    first: list[Event] = []
    last: list[Event] = []
    low, high = 0, len(events) - 1
    while low <= high:
        take_first = len(first) <= len(last)
        event = events[low] if take_first else events[high]
        room -= len(_encoder.encode(event))
        if room < 0:
            break
        if take_first:
            first.append(event)
            low += 1
        else:
            last.append(event)
            high -= 1
    return first + last[::-1]


def decode_batch(packet: bytes) -> list[Recorded]:
    """What a packet has. Raises ChannelFault if it is no batch."""
    try:
        records, alike = _decoder.decode(packet)
        return [*records, *alike]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ChannelFault(f"no batch of records: {error}") from error


def receive_batch(end: socket.socket) -> list[Recorded] | None:
    """The supervisor's side: what the next packet has; None if none waits. Raises ChannelClosed,
    ChannelFault."""
    received = receive_packet(end)
    return None if received is None else decode_batch(received[0])


class _Group:
    """Visits on their way. template is kept, so that its id is nobody else's meanwhile."""

    __slots__ = ("head", "template", "visits")

    def __init__(self, template: Record) -> None:
        self.template = template
        self.head = _PAIR + encode(template)
        self.visits: list[bytes] = []


class RecordSender:
    """The worker's side. `send` collects, `flush` sends: the driver calls it once a turn of its loop."""

    def __init__(self, end: socket.socket, cells: memoryview) -> None:
        """Take over the end. cells: the worker's slot of the page."""
        prepare(end, BUFFER)
        self._end = end
        self._cells = cells
        self._records: list[bytes] = []
        self._groups: dict[int, _Group] = {}  # by the template's id
        self._size = _EMPTY

    def fileno(self) -> int:
        """For the event loop: the end of the pair shows as a hang-up."""
        return self._end.fileno()

    @property
    def pending(self) -> bool:
        """Records wait; the next `flush` tries again."""
        return self._size > _EMPTY

    def send(self, record: Record) -> None:
        """Take a record into the batch; a full batch is flushed first. If the socket takes none, this record
        is dropped and counted. Raises ChannelClosed."""
        packet = encode(record)
        if self._make_room(len(packet)):
            self._records.append(packet)
            self._size += len(packet)

    def send_alike(self, template: Record, visit: Visit) -> None:
        """The same of a visit."""
        packet = _encoder.encode(visit)
        if len(packet) > MAX_VISIT:
            self.send(whole(template, visit))
            return
        group = self._groups.get(id(template))
        if group is None or self._size + len(packet) > MAX_MESSAGE:
            group = self._begin_group(template, len(packet))
            if group is None:
                return
        group.visits.append(packet)
        self._size += len(packet)

    def _begin_group(self, template: Record, size: int) -> _Group | None:
        """A group with room for size bytes; None: whoever they are of was dropped and counted."""
        group = _Group(template)
        head = len(group.head) + _HEADER
        if not self._make_room(head + size):
            return None
        self._groups[id(template)] = group
        self._size += head
        return group

    def _make_room(self, size: int) -> bool:
        if self._size + size > MAX_MESSAGE:
            self.flush()
            if self.pending:
                self._cells[CELLS[RECORDS_DROPPED]] += 1
                return False
        return True

    def flush(self) -> None:
        """Send the batch, if there is one and the socket takes it. Raises ChannelClosed."""
        if not self.pending:
            return
        parts = [_PAIR, _array(self._records), *self._records, _array(self._groups)]
        for group in self._groups.values():
            parts += (group.head, _array(group.visits), *group.visits)
        if send_packet(self._end, b"".join(parts)):
            self._records.clear()
            self._groups.clear()
            self._size = _EMPTY

    def close(self) -> None:
        """Close the end; what waits is lost."""
        self._end.close()


def _array(parts: Sized) -> bytes:
    """MessagePack's head of an array of these."""
    return b"\xdc" + len(parts).to_bytes(2, "big")
