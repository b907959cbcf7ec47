"""Accepting when the kernel has nothing to give: clients wait, the loop sleeps, who runs this is told, and all are served afterwards."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections import deque
from typing import Any

import msgspec
import pytest
from net.bench import Bench, make_rules
from net.scripted_mta import ScriptedMta, serve_mail
from postwarden_sidecar.engine.proxy_header import Announced
from postwarden_sidecar.ipc.pair import make_pair, send_packet
from postwarden_sidecar.net.accept_pause import CLIENT_GONE, PACE, AcceptPause
from postwarden_sidecar.net.deadlines import Handler
from postwarden_sidecar.net.listener import described
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.net.neighbours import Moved
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction

TEASER = b"220-mx.example ESMTP\r\n"
GREETING = b"220 mta.example ESMTP\r\n"
LOOPBACK = AddressTable.from_networks([("127.0.0.0/8", AccessAction.PERMIT, 1)])
WHILE = 0.5  # seconds of want: five pauses


class FailingListener(socket.socket):
    """In the place of the bench's own. always: what accept fails with until this is 0. once: these come first."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(fileno=bench.listener.detach())
        self.setblocking(False)
        self.always = 0
        self.once: deque[int] = deque()
        bench.listener = self
        bench.driver._listeners[0] = described(self)

    def _accept(self) -> Any:
        """What `accept` does in C."""
        if code := self.once.popleft() if self.once else self.always:
            raise OSError(code, os.strerror(code))
        return super()._accept()  # type: ignore[misc]  # typeshed leaves it out


@pytest.mark.parametrize(
    "code",
    [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM],
    ids=lambda code: errno.errorcode[code],
)
def test_clients_wait_while_accept_fails_and_are_served_afterwards(code: int) -> None:
    bench = Bench(rules=make_rules(wait=0.1))
    listener = FailingListener(bench)
    listener.always = code
    with bench:
        began = time.monotonic()
        clients = [bench.connect() for _ in range(5)]
        bench.wait_for(lambda: bench.host.pauses != [])
        before, processor = bench.turns, time.process_time()
        clients[0].socket.settimeout(WHILE)
        with pytest.raises(TimeoutError):
            clients[0].socket.recv(1)
        # The loop of a listening socket that is not let alone turns thousands of times a second.
        assert bench.turns - before < 100
        assert time.process_time() - processor < WHILE
        assert len(bench.host.pauses) <= 1 + (time.monotonic() - began) / PACE
        assert bench.host.pauses[0] == f"accept: {os.strerror(code)}"
        listener.always = 0
        clients[0].socket.settimeout(10)
        for client in clients:
            assert client.hear_line() == TEASER
            client.reset()


def test_a_client_that_is_gone_before_it_is_accepted_holds_up_nobody() -> None:
    bench = Bench(rules=make_rules(wait=0.1))
    FailingListener(bench).once.extend(CLIENT_GONE)
    with bench, bench.connect() as client:
        assert client.hear_line() == TEASER
        assert bench.host.pauses == []
        client.reset()


def test_clients_who_wait_while_the_worker_drains_get_an_answer() -> None:
    """The want begins before the drain or in it, and a relay that goes on does not keep them waiting up to the drain's end."""
    drained = threading.Event()
    rules = make_rules(permitted=LOOPBACK)
    with ScriptedMta(serve_mail) as mta:
        bench = Bench(mta.target, rules=rules)
        listener = FailingListener(bench)
        with bench, bench.connect() as relayed:
            assert relayed.hear_line() == GREETING
            relayed.say(b"EHLO client.example\r\n")
            relayed.hear_reply()
            listener.always = errno.ENFILE
            with bench.connect() as early:
                bench.wait_for(lambda: bench.driver._pause.active)
                bench.call(lambda: bench.driver.drain(60.0, drained.set))
                with bench.connect() as late:
                    bench.wait_for(lambda: len(bench.host.pauses) > 1)
                    listener.always = 0
                    for client in (early, late):
                        assert client.hear_all().startswith(b"421 4.3.2 ")
            relayed.say(b"QUIT\r\n")
            relayed.hear_all()
            relayed.end()
            assert drained.wait(10)


def test_a_drain_does_not_end_while_clients_may_wait_who_were_not_accepted() -> None:
    drained = threading.Event()
    bench = Bench(rules=make_rules())
    listener = FailingListener(bench)
    listener.always = errno.ENOBUFS
    with bench, bench.connect() as client:
        bench.call(lambda: bench.driver.drain(60.0, drained.set))
        bench.wait_for(lambda: bench.host.pauses != [])
        assert not drained.is_set()
        listener.always = 0
        assert client.hear_all().startswith(b"421 4.3.2 ")
        assert drained.wait(10)


def test_a_drain_that_cannot_accept_ends_with_its_time() -> None:
    drained = threading.Event()
    bench = Bench(rules=make_rules())
    listener = FailingListener(bench)
    listener.always = errno.ENOBUFS
    with bench, bench.connect():
        bench.call(lambda: bench.driver.drain(0.3, drained.set))
        assert drained.wait(10)


def test_clients_whom_another_worker_gives_wait_too_while_descriptors_are_few() -> None:
    """And once the pair is full, that worker keeps its clients."""
    bench = Bench(rules=make_rules(wait=0.1))
    with bench, socket.create_server(("127.0.0.1", 0)) as elsewhere:
        near, far = make_pair()
        bench.call(lambda: bench.driver.neighbours.connect(1, far))
        descriptors = bench.driver._descriptors
        taken_up = descriptors.free
        descriptors.opened += taken_up
        clients = []
        for number in range(2000):
            client = socket.create_connection(elsewhere.getsockname())
            moved, peer = elsewhere.accept()
            announced = Announced(f"192.0.2.{number % 250}", 1, "192.0.2.251", 25)
            message = msgspec.msgpack.encode(Moved(peer, elsewhere.getsockname(), announced, 0))
            with moved:
                if not send_packet(near, message, [moved.fileno()]):
                    client.close()
                    break
            clients.append(client)
        else:
            pytest.fail("the pair takes all")
        bench.wait_for(lambda: bench.host.pauses != [])
        assert bench.driver.open_connections == 0
        assert bench.turns < 100
        descriptors.opened -= taken_up
        for client in clients:
            client.settimeout(10)
            assert client.recv(len(TEASER)) == TEASER
            client.close()
        bench.host.records(len(clients))
        near.close()
    assert len(clients) > 10


def test_a_listening_socket_that_cannot_be_watched_again_is_tried_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(rules=make_rules(wait=0.1))
    listener = FailingListener(bench)
    listener.once.append(errno.EMFILE)
    refused = [3]
    watch = bench.loop.watch

    def short_of_memory(fd: int, handler: Handler, mask: int) -> None:
        if fd == listener.fileno() and mask and bench.host.pauses and refused[0]:
            refused[0] -= 1
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        watch(fd, handler, mask)

    monkeypatch.setattr(bench.loop, "watch", short_of_memory)
    with bench, bench.connect() as client:
        assert client.hear_line() == TEASER
        client.reset()
    assert refused == [0]
    assert "Cannot allocate memory" in capsys.readouterr().err


def test_of_many_pauses_one_a_second_is_told() -> None:
    loop = Loop()
    told: list[str] = []
    resumed: list[float] = []
    pause = AcceptPause(loop, 0.0, lambda: resumed.append(loop.now), told.append)
    begin = loop.now
    for tenth in range(25):
        loop.now = begin + tenth / 10
        pause.begin(f"{tenth}")
        assert pause.active
        pause.handle_deadline()
        assert not pause.active
    assert told == ["0", "10", "20"]
    assert len(resumed) == 25
    loop.release()
