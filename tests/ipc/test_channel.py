"""The control pair over real sockets: whole messages, descriptors, a bounded queue, faults and the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from postwarden_sidecar.ipc.channel import MAX_QUEUED, Channel, ChannelFull, Message
from postwarden_sidecar.ipc.messages import (
    MAX_MESSAGE,
    Applied,
    Drain,
    NoRules,
    PassAnswer,
    PassQuery,
    PassStored,
    Ready,
    RulesInForce,
    UpstreamFault,
    UpstreamInForce,
)
from postwarden_sidecar.ipc.pair import ChannelClosed, ChannelFault, make_pair

EVERY_MESSAGE: list[Message] = [
    RulesInForce(7),
    NoRules(8, defer=True),
    UpstreamInForce("[::1]:25", "ProxyV2", True, "", "mx.example ESMTP", ("SIZE 1000", "DSN")),
    UpstreamInForce("", "Plain", False, "no upstream is known", "", None),
    PassAnswer(1, {"192.0.2.1": {"pregreet": 1.5}}),
    Drain(20.0),
    Ready(4711),
    Applied(7, ""),
    PassQuery(1, ("192.0.2.1",)),
    PassStored("192.0.2.1", {"pregreet": 2.5}),
    UpstreamFault("wrong_answer", "502 what?", "127.0.0.1:25", "ProxyV1"),
]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    near, far = (Channel(end) for end in make_pair())
    yield near, far
    near.close()
    far.close()


def test_every_message_arrives_as_it_was_sent_and_in_order(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    for message in EVERY_MESSAGE:
        near.send(message)
    assert [far.receive() for _ in EVERY_MESSAGE] == [(message, ()) for message in EVERY_MESSAGE]
    assert far.receive() is None


def test_a_descriptor_arrives_and_is_closed_on_exec(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    file = os.memfd_create("content")
    os.write(file, b"rules")
    near.send(RulesInForce(1), [file])
    os.close(file)
    received = far.receive()
    assert received is not None
    _, (arrived,) = received
    assert os.pread(arrived, 10, 0) == b"rules"
    assert not os.get_inheritable(arrived)
    os.close(arrived)


def test_what_the_socket_does_not_take_waits_and_arrives_in_order(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    file = os.memfd_create("content")
    sent = 0
    while not near.wants_write:
        near.send(NoRules(sent, defer=False))
        sent += 1
    near.send(RulesInForce(sent), [file])  # queued, and its descriptor kept
    os.close(file)
    received = []
    while near.wants_write or len(received) <= sent:
        near.flush()
        while (message := far.receive()) is not None:
            received.append(message)
    assert [message.serial for message, _ in received] == list(range(sent + 1))
    os.close(received[-1][1][0])


def test_a_full_queue_is_an_exception_and_drops_nothing_already_taken(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    taken = 0
    with pytest.raises(ChannelFull):  # noqa: PT012  (how many are taken is the system's)
        while True:
            near.send(PassQuery(taken, ("k" * 1000,)))
            taken += 1
    assert taken > MAX_QUEUED
    seen: list[Message] = []
    while len(seen) < taken:
        near.flush()
        while (message := far.receive()) is not None:
            seen.append(message[0])
    assert [message.query for message in seen] == list(range(taken))  # type: ignore[union-attr]  # all have one


def test_the_largest_message_fits_and_a_larger_one_is_refused(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    room = MAX_MESSAGE - 50
    near.send(PassQuery(1, ("k" * room,)))
    assert far.receive() == (PassQuery(1, ("k" * room,)), ())
    with pytest.raises(ValueError, match=r"PassQuery of .* bytes is above 32768"):
        near.send(PassQuery(1, ("k" * MAX_MESSAGE,)))


def test_the_end_is_told_after_what_was_sent_before_it(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    near.send(Ready(1))
    near.close()
    assert far.receive() == (Ready(1), ())
    with pytest.raises(ChannelClosed):
        far.receive()
    with pytest.raises(ChannelClosed):
        far.send(Drain(0))


@pytest.mark.parametrize(
    "packet",
    [b"\xc1", b"hello", b"\x81\xa4type\xa7unknown", b"x" * (MAX_MESSAGE + 1)],
    ids=["never", "text", "tag", "long"],
)
def test_what_is_no_message_is_a_fault(packet: bytes) -> None:
    raw, end = make_pair()
    channel = Channel(end)
    raw.send(packet)
    with pytest.raises(ChannelFault):
        channel.receive()
    channel.close()
    raw.close()


def test_a_packet_that_lost_its_end_is_a_fault_even_if_the_rest_is_a_message() -> None:
    raw, end = make_pair()
    channel = Channel(end)
    whole = msgspec.msgpack.encode(PassQuery(1, ("k" * (MAX_MESSAGE - 50),)))
    whole = msgspec.msgpack.encode(PassQuery(1, ("k" * (MAX_MESSAGE - 50 + MAX_MESSAGE - len(whole)),)))
    assert len(whole) == MAX_MESSAGE
    raw.send(whole + b"\x00")
    with pytest.raises(ChannelFault, match="above 32768 bytes"):
        channel.receive()
    channel.close()
    raw.close()


def test_too_many_descriptors_are_a_fault_and_none_leaks() -> None:
    raw, end = make_pair()
    channel = Channel(end)
    before = len(list(Path("/proc/self/fd").iterdir()))
    socket.send_fds(raw, [b"x"], [0] * 9)
    with pytest.raises(ChannelFault):
        channel.receive()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    channel.close()
    raw.close()
