"""Records over a real pair: size, batches, and drops that are counted instead of waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.alike import all_whole
from postwarden_sidecar.engine.record import (
    MAX_TEXT,
    Alike,
    Event,
    EventKind,
    Record,
    Recorded,
    TestResult,
    Verdict,
    Visit,
)
from postwarden_sidecar.ipc.messages import MAX_MESSAGE
from postwarden_sidecar.ipc.page import CELLS, RECORDS_DROPPED, Page
from postwarden_sidecar.ipc.pair import ChannelClosed, ChannelFault, make_pair
from postwarden_sidecar.ipc.records import (
    MAX_RECORD,
    MAX_VISIT,
    RecordSender,
    decode_batch,
    encode,
    receive_batch,
)
from record_strategies import groups, records


def decode(packet: bytes) -> Record:
    (record,) = decode_batch(b"\x92\x91" + packet + b"\x90")
    assert isinstance(record, Record)
    return record


def plain_record(text: str = "") -> Record:
    return Record(
        1.0, 0.5, Verdict.DROPPED, text, "192.0.2.1", 4711, "192.0.2.9", 25, "192.0.2.1", 4711, False
    )


@given(records())
def test_a_record_that_fits_decodes_to_itself(record: Record) -> None:
    packet = encode(record)
    assert len(packet) <= MAX_RECORD
    if len(msgspec.msgpack.encode(record)) <= MAX_RECORD:
        assert decode(packet) == record


@given(records(st.text(st.characters(), max_size=600), max_items=40))
def test_any_record_becomes_one_of_4_kib_that_keeps_what_it_can(record: Record) -> None:
    packet = encode(record)
    assert len(packet) <= MAX_RECORD
    kept = decode(packet)
    assert len(kept.events) + kept.events_lost == len(record.events) + record.events_lost
    assert (kept.verdict, kept.started, kept.client_port) == (
        record.verdict,
        record.started,
        record.client_port,
    )
    for name in ("reason", "helo", "sender", "recipient", "policy_name", "client_address"):
        bounded = getattr(record, name).encode("latin-1", "replace").decode("latin-1")
        assert bounded.startswith(getattr(kept, name)) or getattr(kept, name) == getattr(record, name)
    if record.events and kept.events:
        assert kept.events[0].kind is record.events[0].kind
    if len(kept.events) > 1:
        assert kept.events[-1].kind is record.events[-1].kind


def test_events_go_from_the_middle_and_texts_of_allowed_size_stay() -> None:
    text = "x" * MAX_TEXT
    record = plain_record(text)
    record.events = [Event(EventKind.REJECT, float(at), text, 0, text, text, text) for at in range(12)]
    kept = decode(encode(record))
    assert kept.reason == text
    assert [event.offset for event in kept.events] == [0.0, 1.0, 10.0, 11.0]
    assert kept.events_lost == 8


def test_the_worst_contents_still_fit() -> None:
    text = "\xff" * 5000
    record = Record(1.0, 1.0, Verdict.ERROR, text, text, 2**63, text, 2**63, text, 2**63, True)
    record.policy_name = record.policy_namespace = record.policy_revision = record.test = text
    record.helo = record.proto = record.sender = record.recipient = text
    record.tests = [TestResult(text, text, text, 1.0, 2.0, text)] * 100
    record.events = [Event(EventKind.COMMAND_LENGTH_LIMIT, 1.0, text, 2**63, text, text, text, text)] * 1000
    kept = decode(encode(record))
    assert len(encode(record)) <= MAX_RECORD
    assert kept.events_lost + len(kept.events) == 1000


@contextmanager
def page_and_pair() -> Iterator[tuple[RecordSender, socket.socket, memoryview]]:
    near, far = make_pair()
    page = Page.create()
    cells = page.slot(0)
    sender = RecordSender(near, cells)
    yield sender, far, cells
    sender.close()
    far.close()
    cells.release()
    page.close()
    os.close(page.descriptor)


@pytest.fixture
def pair() -> Iterator[tuple[RecordSender, socket.socket, memoryview]]:
    with page_and_pair() as made:
        yield made


def all_received(sender: RecordSender, far: socket.socket) -> list[Record]:
    """By a reader that reads at last."""
    got: list[Record] = []
    while (batch := receive_batch(far)) is not None or sender.pending:
        got += all_whole(batch or [])
        sender.flush()
    return got


def test_records_of_one_turn_arrive_in_one_packet(
    pair: tuple[RecordSender, socket.socket, memoryview],
) -> None:
    sender, far, _ = pair
    sent = [plain_record(str(number)) for number in range(20)]
    for record in sent:
        sender.send(record)
    assert receive_batch(far) is None
    sender.flush()
    assert receive_batch(far) == sent
    assert not sender.pending


def test_a_reader_that_sleeps_costs_records_that_are_counted_and_no_wait(
    pair: tuple[RecordSender, socket.socket, memoryview],
) -> None:
    sender, far, cells = pair
    sent = 8000
    for number in range(sent):
        sender.send(plain_record(f"{number} " + "x" * 190))
    sender.flush()
    dropped = cells[CELLS[RECORDS_DROPPED]]
    assert 0 < dropped < sent
    got = all_received(sender, far)
    assert [int(record.reason.split()[0]) for record in got] == list(range(sent - dropped))


def test_batches_are_bounded(pair: tuple[RecordSender, socket.socket, memoryview]) -> None:
    sender, far, _ = pair
    for _ in range(60):
        sender.send(plain_record("x" * 1000))
    sender.flush()
    sizes = []
    while True:
        try:
            sizes.append(len(far.recv(2 * MAX_MESSAGE)))
        except BlockingIOError:
            break
    assert len(sizes) > 1
    assert max(sizes) <= MAX_MESSAGE


def test_a_dead_reader_is_told(pair: tuple[RecordSender, socket.socket, memoryview]) -> None:
    sender, far, _ = pair
    far.close()
    sender.send(plain_record())
    with pytest.raises(ChannelClosed):
        sender.flush()


def visits(count: int, place: str = "spec.access.rules[0], line 7") -> list[Visit]:
    return [Visit(1.0 + number, "192.0.2.1", number, "192.0.2.9", 25, place) for number in range(count)]


@given(st.lists(records() | groups(), max_size=5))
def test_what_has_a_template_in_common_arrives_as_whole_as_what_has_not(recorded: list[Recorded]) -> None:
    with page_and_pair() as (sender, far, _):
        for each in recorded:
            if isinstance(each, Alike):
                for visit in each.visits:
                    sender.send_alike(each.template, visit)
            else:
                sender.send(each)
        sender.flush()
        got = all_received(sender, far)
    sent = [decode(encode(record)) for record in all_whole(recorded)]
    assert sorted(map(repr, got)) == sorted(map(repr, sent))


def test_visits_of_one_turn_arrive_as_one_group_for_each_template(
    pair: tuple[RecordSender, socket.socket, memoryview],
) -> None:
    sender, far, _ = pair
    first, second = plain_record(" is one"), plain_record(" is one")
    for visit in visits(20):
        sender.send_alike(first, visit)
        sender.send_alike(second, visit)
    sender.flush()
    assert receive_batch(far) == [Alike(first, visits(20)), Alike(second, visits(20))]
    assert not sender.pending


def test_full_batches_of_visits_are_sent_and_none_is_lost(
    pair: tuple[RecordSender, socket.socket, memoryview],
) -> None:
    sender, far, _ = pair
    template, packets = plain_record(" is rejected by "), []
    for visit in visits(3000):
        sender.send_alike(template, visit)
    sender.flush()
    while (batch := receive_batch(far)) is not None:
        packets.append(batch)
    assert len(packets) > 2
    assert [visit for (group,) in packets if isinstance(group, Alike) for visit in group.visits] == visits(
        3000
    )


def test_a_reader_that_sleeps_costs_visits_that_are_counted(
    pair: tuple[RecordSender, socket.socket, memoryview],
) -> None:
    sender, far, cells = pair
    template, sent = plain_record(" is rejected by "), 60_000
    for visit in visits(sent):
        sender.send_alike(template, visit)
    dropped = cells[CELLS[RECORDS_DROPPED]]
    assert 0 < dropped < sent
    got = all_received(sender, far)
    assert [record.client_port for record in got] == list(range(sent - dropped))


def test_a_place_of_any_length_comes_through(pair: tuple[RecordSender, socket.socket, memoryview]) -> None:
    sender, far, _ = pair
    template = plain_record(" is rejected by ")
    for place in ("x" * MAX_VISIT, "x" * 5000, "short"):
        for visit in visits(1, place):
            sender.send_alike(template, visit)
    sender.flush()
    got = [
        record.reason.removeprefix("192.0.2.1 is rejected by ")
        for record in all_whole(receive_batch(far) or [])
    ]
    assert got[0] == "x" * MAX_VISIT
    assert got[1].startswith("x" * 100)
    assert got[2] == "short"


@pytest.mark.parametrize(
    "packet", [b"\xc1", b"\x91\x80", b"\x91", b"\x92\x90", b"\x92\x90\x91\x80", b"\x92\xa2\xff\xff\x90"]
)
def test_what_is_no_batch_is_a_fault(packet: bytes) -> None:
    with pytest.raises(ChannelFault):
        decode_batch(packet)
