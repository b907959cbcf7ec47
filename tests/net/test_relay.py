"""The relay after its opening: byte-exact, bounded, half-closes passed on."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from dataclasses import replace

import pytest
from net.bench import FEW_TURNS, SHORT, Bench, Client
from net.scripted_mta import Conversation, ScriptedMta, serve_mail
from postwarden_sidecar.net.relay import MAX_BUFFER, READ_SIZE, Relay
from postwarden_sidecar.net.timeouts import Timeouts

GREETING = b"220 mta.example ESMTP\r\n"
OPENING = b"EHLO client.example\r\nGO\r\n"
MEGABYTE = 1_000_000


def open_relay(conversation: Conversation) -> None:
    """The MTA's part of an opening."""
    conversation.say(GREETING)
    assert conversation.hear_line() == b"EHLO client.example\r\n"
    conversation.say(b"250 mta.example\r\n")
    assert conversation.hear_line() == b"GO\r\n"


def enter_relay(client: Client) -> None:
    """The client's part."""
    assert client.hear_reply() == GREETING
    client.say(b"EHLO client.example\r\n")
    assert client.hear_reply() == b"250 mta.example\r\n"
    client.say(b"GO\r\n")


def say_in_pieces(speaker: Client | Conversation, data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    while data:
        size = rng.choice((1, 2, 100, 5_000, 70_000))
        speaker.say(data[:size])
        data = data[size:]


@pytest.mark.parametrize("seed", range(5))
def test_bytes_go_both_ways_as_they_are(seed: int) -> None:
    rng = random.Random(seed)
    upward, downward = rng.randbytes(MEGABYTE), rng.randbytes(MEGABYTE)
    received: list[bytes] = []

    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        speaker = threading.Thread(target=say_in_pieces, args=(conversation, downward, seed))
        speaker.start()
        while len(conversation.heard) < len(OPENING) + len(upward):
            conversation.hear()
        received.append(bytes(conversation.heard))
        speaker.join()

    with ScriptedMta(script) as mta, Bench(mta.target) as bench, bench.connect() as client:
        enter_relay(client)
        speaker = threading.Thread(target=say_in_pieces, args=(client, upward, seed + 1))
        speaker.start()
        assert client.hear_all() == downward
        speaker.join()
        client.end()
    assert received == [OPENING + upward]


def test_a_half_close_of_the_client_reaches_the_mta_and_the_answer_the_client() -> None:
    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        heard = conversation.hear_all()
        conversation.say(b"heard %d bytes\r\n" % len(heard))

    with ScriptedMta(script) as mta, Bench(mta.target) as bench, bench.connect() as client:
        enter_relay(client)
        client.say(b"x" * MEGABYTE)
        client.end()
        assert client.hear_all() == b"heard %d bytes\r\n" % (len(OPENING) + MEGABYTE)


def test_a_half_close_of_the_mta_reaches_the_client_and_the_rest_of_the_client_the_mta() -> None:
    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        conversation.say(b"last words\r\n")
        conversation.socket.shutdown(1)
        assert conversation.hear_all().endswith(b"the end")

    with ScriptedMta(script) as mta, Bench(mta.target) as bench, bench.connect() as client:
        enter_relay(client)
        assert client.hear_all() == b"last words\r\n"
        client.say(b"the end")
        client.end()


def test_a_client_that_stays_after_the_mta_has_gone_is_closed() -> None:
    with ScriptedMta(open_relay) as mta, Bench(mta.target) as bench, bench.connect() as client:
        enter_relay(client)
        assert client.hear_all() == b""
        bench.await_idle()


def test_a_client_that_does_not_read_stops_the_mta_from_being_read() -> None:
    """What is kept stays bounded, and nothing is lost."""
    total = 20 * MEGABYTE
    blocked = threading.Event()

    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        sent = 0
        conversation.socket.settimeout(0.3)
        piece = b"y" * 100_000
        while sent < total:
            try:
                sent += conversation.socket.send(piece)
            except TimeoutError:
                blocked.set()
                conversation.socket.settimeout(10)

    with ScriptedMta(script) as mta, Bench(mta.target) as bench, bench.connect() as client:
        enter_relay(client)
        assert blocked.wait(10)
        (relay,) = bench.driver._transfers
        assert isinstance(relay, Relay)
        assert 0 < len(relay._client.out) <= MAX_BUFFER + READ_SIZE
        received = 0
        while received < total:
            chunk = client.socket.recv(1 << 20)
            assert chunk.strip(b"y") == b""
            received += len(chunk)
        assert received == total
        client.end()


def test_an_mta_that_does_not_read_stops_the_client_from_being_read() -> None:
    go_on = threading.Event()
    total = 20 * MEGABYTE

    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        assert go_on.wait(10)
        assert len(conversation.hear_all()) == len(OPENING) + total

    with ScriptedMta(script) as mta, Bench(mta.target) as bench, bench.connect() as client:
        enter_relay(client)
        sent = 0
        client.socket.settimeout(0.3)
        piece = b"z" * 100_000
        while sent < total:
            try:
                sent += client.socket.send(piece)
            except TimeoutError:
                (relay,) = bench.driver._transfers
                assert isinstance(relay, Relay)
                assert relay._mta is not None
                assert 0 < len(relay._mta.out) <= MAX_BUFFER + READ_SIZE
                go_on.set()
                client.socket.settimeout(10)
        assert go_on.is_set(), "the buffers were never full"
        client.end()
        assert client.hear_all() == b""


def test_what_a_client_said_before_its_reset_reaches_the_mta() -> None:
    sent, gone = threading.Event(), threading.Event()
    heard: list[bytes] = []

    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        assert sent.wait(5)
        while not conversation.heard.endswith(b"QUIT\r\n"):
            conversation.hear()
        gone.set()
        heard.append(conversation.hear_all())

    with ScriptedMta(script) as mta, Bench(mta.target) as bench:
        client = bench.connect()
        enter_relay(client)
        client.say(b"QUIT\r\n")
        sent.set()
        assert gone.wait(5)
        client.reset()
        bench.await_idle()
    assert heard == [b"EHLO client.example\r\nGO\r\nQUIT\r\n"]


def test_an_opening_whose_bytes_to_the_mta_are_lost_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no memory for the client's first command. It would wait for the answer for an hour."""

    def lose(self: socket.socket, *_: object) -> int:
        if self.getpeername()[1] == int(mta.target.rpartition(":")[2]):
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return send(self, *_)  # type: ignore[arg-type]  # passed on

    with ScriptedMta(serve_mail) as mta:
        timeouts = replace(SHORT, half_closed=60.0)
        with Bench(mta.target, timeouts=timeouts) as bench, bench.connect() as client:
            assert client.hear_line().startswith(b"220 ")
            send = socket.socket.send
            monkeypatch.setattr(socket.socket, "send", lose)
            client.socket.sendall(b"EHLO client.example\r\n")
            assert client.hear_all().startswith(b"421 4.3.2 ")
            monkeypatch.undo()
            (record,) = bench.host.records()
            assert record.reason.endswith("the connection to the MTA broke")


def test_an_idle_relay_ends() -> None:
    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        conversation.hear_all()

    timeouts = replace(SHORT, relay_idle=0.2)
    with ScriptedMta(script) as mta, Bench(mta.target, timeouts=timeouts) as bench, bench.connect() as client:
        enter_relay(client)
        assert client.hear_all() == b""


def test_both_sockets_of_a_relay_are_kept_alive_and_undelayed() -> None:
    done = threading.Event()

    def script(conversation: Conversation) -> None:
        open_relay(conversation)
        assert done.wait(5)

    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, timeouts=Timeouts()) as bench,
        bench.connect() as client,
    ):
        enter_relay(client)
        bench.wait_for(lambda: bench.gauge("relay") == 1)
        (relay,) = bench.driver._transfers
        assert isinstance(relay, Relay)
        assert relay._mta is not None
        for side in (relay._client, relay._mta):
            assert side.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert side.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [side.socket.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 10, 6]
        done.set()
        client.hear_all()
        client.end()


def test_ended_sides_of_a_relay_do_not_make_the_loop_spin() -> None:
    def script(conversation: Conversation) -> None:
        conversation.say(GREETING)
        conversation.hear_line()
        conversation.say(b"250 mta.example\r\n")
        conversation.hear_all()
        ended.set()
        assert go_on.wait(5)

    ended, go_on = threading.Event(), threading.Event()
    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, timeouts=Timeouts()) as bench,
        bench.connect() as client,
    ):
        client.hear_reply()
        client.say(b"EHLO client.example\r\n")
        client.hear_reply()
        client.end()
        assert ended.wait(5)
        before = bench.turns
        passed = threading.Event()
        bench.call(passed.set)
        assert passed.wait(5)
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        assert bench.turns - before < FEW_TURNS
        client.reset()
        go_on.set()
