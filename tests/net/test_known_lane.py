"""Clients with a pass that go to smtpd at accept: without a session, with the same bytes, record and counts; with a session where that
takes more. Their descriptors stay until smtpd has taken them, and no longer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from net.bench import SHORT, TIMEOUT, Bench, make_rules
from net.scripted_mta import Conversation, Script, ScriptedMta, serve_mail
from net.test_descriptors_run_out import Watching
from net.test_express import sessions as sessions
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.ipc.page import UPSTREAM
from postwarden_sidecar.net.known_lane import RELEASE_PACE
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.rules.settings import Limits

GREETING = b"220 mta.example ESMTP\r\n"
RULES = make_rules(wait=60)
PATIENT = replace(SHORT, pass_control=TIMEOUT)


def take(conversation: Conversation) -> None:
    passed, _ = conversation.hear_passed()
    conversation.socket.close()
    with passed:
        serve_mail(Conversation(passed))


def bench(target: str, *, known: bool = True, handoff: str = "Pass", **settings: object) -> Bench:
    made = Bench(target, handoff, **{"rules": RULES, **settings})  # type: ignore[arg-type]  # as given
    if known:
        made.host.passes["127.0.0.1"] = {"pregreet": time.time() + 60}
    return made


def handed_over(path: Path, *, lane: bool) -> tuple[bytes, Record, list[int]]:
    """What a known client hears, its record less what is by chance, and what was counted."""
    with ScriptedMta(take, path) as mta, bench(mta.target) as it:
        if not lane:
            it.driver._known.take = lambda *_: False  # type: ignore[method-assign]
        before = it.cells.tolist()
        with it.connect() as client:
            greeting = client.hear_reply()
            client.say(b"QUIT\r\n")
            heard = greeting + client.hear_all()
        (record,) = it.host.records()
        assert (record.client_address, record.client_port) == client.address
        assert (record.server_address, record.server_port) == it.address
        it.await_idle()
        counted = [after - now for after, now in zip(it.cells.tolist(), before, strict=True)]
        assert it.driver.descriptors.opened == 0
        assert not it.driver._occupancy.clients
    record.started = 0.0
    record.client_port = record.server_port = record.peer_port = 0
    return heard, record, counted[1:]  # less the heartbeat


def test_a_known_client_gets_no_session_and_the_same_service(sessions: list[str], tmp_path: Path) -> None:
    without = handed_over(tmp_path / "a", lane=True)
    assert not sessions
    assert without[0] == GREETING + b"221 2.0.0 bye\r\n"
    assert handed_over(tmp_path / "b", lane=False) == without
    assert sessions == ["127.0.0.1"]


def test_smtpd_is_told_the_addresses(sessions: list[str], tmp_path: Path) -> None:
    """Where all addresses are listened on, too."""
    said: list[bytes] = []

    def script(conversation: Conversation) -> None:
        passed, attributes = conversation.hear_passed()
        said.append(attributes)
        conversation.socket.close()
        with passed:
            serve_mail(Conversation(passed))

    (listener,) = listen("0.0.0.0", 0, 1)
    with ScriptedMta(script, tmp_path / "smtpd") as mta, bench(mta.target) as it:
        it.call(lambda: it.driver.accept_also(7, listener))
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            assert client.recv(100).startswith(b"220 ")
            own = client.getsockname()[1]
        it.await_idle()
    fields = said[0].split(b"\0")
    assert dict(zip(fields[:-2:2], fields[1:-2:2], strict=True)) == {
        b"client_address": b"127.0.0.1",
        b"client_port": str(own).encode(),
        b"server_address": b"127.0.0.1",
        b"server_port": str(port).encode(),
    }
    assert not sessions


@pytest.fixture
def taken() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def take_when(taken: threading.Event) -> Script:
    def script(conversation: Conversation) -> None:
        passed, _ = conversation.hear_passed()
        assert taken.wait(TIMEOUT)
        conversation.socket.close()
        with passed:
            passed.sendall(GREETING)
            with suppress(ConnectionResetError):  # the client may leave without reading that
                while passed.recv(100):
                    pass

    return script


def test_until_smtpd_has_taken_it_a_client_counts_and_the_next_meets_the_limit(
    sessions: list[str], taken: threading.Event, tmp_path: Path
) -> None:
    rules = replace(RULES, limits=Limits(upstream=1))
    with (
        ScriptedMta(take_when(taken), tmp_path / "smtpd") as mta,
        bench(mta.target, rules=rules, timeouts=PATIENT) as it,
        it.connect() as first,
    ):
        # Within a turn one is counted after the other.
        it.wait_for(lambda: (it.page.total(UPSTREAM), it.gauge("handoff")) == (1, 1))
        assert it.driver.open_connections == 1
        assert not sessions
        with it.connect() as second:
            assert second.hear_all().startswith(b"421 4.3.2 ")
        assert sessions == ["127.0.0.1"]
        taken.set()
        assert first.hear_line() == GREETING
        it.wait_for(lambda: it.page.total(UPSTREAM) == 0)


def test_its_connections_count(sessions: list[str], taken: threading.Event, tmp_path: Path) -> None:
    rules = replace(RULES, limits=Limits(connections_per_client=1))
    with (
        ScriptedMta(take_when(taken), tmp_path / "smtpd") as mta,
        bench(mta.target, rules=rules, timeouts=PATIENT) as it,
        it.connect() as first,
    ):
        it.wait_for(lambda: it.driver.open_connections == 1)
        with it.connect() as second:
            assert second.hear_all() == b"421 4.7.0 Error: too many connections\r\n"
        taken.set()
        assert first.hear_line() == GREETING


def test_a_client_that_smtpd_does_not_take_is_let_go_in_time_and_told_nothing(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.hear_all()

    with ScriptedMta(script, tmp_path / "smtpd") as mta, bench(mta.target) as it:
        with it.connect() as client:
            assert client.hear_all() == b""
        (record,) = it.host.records()
        assert (record.verdict, record.handoff) == ("pass_old", "Pass")
        it.await_idle()
        assert it.driver.descriptors.opened == 0


@pytest.mark.parametrize("whose", ["the lane", "the loop"])
def test_a_control_socket_that_cannot_be_watched_is_closed_in_time_and_smtpd_has_the_client(
    whose: str, sessions: list[str], tmp_path: Path
) -> None:
    """And so has it the next one, which can."""
    with ScriptedMta(take, tmp_path / "smtpd") as mta, bench(mta.target) as it:
        Watching(it.loop if whose == "the loop" else it.driver._known).fail_at(1)
        for number in (1, 2):
            with it.connect() as client:
                assert client.hear_reply() == GREETING
                client.say(b"QUIT\r\n")
                client.hear_all()
            record = it.host.records(number)[-1]
            assert (record.verdict, record.handoff) == ("pass_old", "Pass")
            it.await_idle()
            assert it.driver.descriptors.opened == 0
    assert not sessions


def test_clients_that_smtpd_takes_one_after_the_other_are_released_in_turns_of_many(tmp_path: Path) -> None:
    with ScriptedMta(take, tmp_path / "smtpd") as mta, bench(mta.target) as it:
        began = time.monotonic()
        released: list[int] = []
        it.driver._known.handle_events = _counted(it.driver._known.handle_events, released)  # type: ignore[method-assign]
        clients = [it.connect() for _ in range(50)]
        for client in clients:
            assert client.hear_reply() == GREETING
            client.say(b"QUIT\r\n")
            client.hear_all()
            client.socket.close()
        it.await_idle()
        assert len(released) <= 1 + (time.monotonic() - began) / RELEASE_PACE


def _counted(call: Callable[[int, int], None], calls: list[int]) -> Any:
    def counted(fd: int, events: int) -> None:
        calls.append(events)
        call(fd, events)

    return counted


def test_a_drain_waits_for_smtpd_and_turns_new_clients_away(
    sessions: list[str], taken: threading.Event, tmp_path: Path
) -> None:
    drained = threading.Event()
    with (
        ScriptedMta(take_when(taken), tmp_path / "smtpd") as mta,
        bench(mta.target, timeouts=PATIENT) as it,
        it.connect() as first,
    ):
        it.wait_for(lambda: it.driver.open_connections == 1)
        it.call(lambda: it.driver.drain(TIMEOUT, drained.set))
        it.await_turn()
        with it.connect() as second:
            assert second.hear_all().startswith(b"421 4.3.2 ")
        assert sessions == ["127.0.0.1"]
        assert not drained.is_set()
        taken.set()
        assert first.hear_line() == GREETING
        assert drained.wait(TIMEOUT)


def test_at_the_end_of_the_drain_all_descriptors_are_closed(taken: threading.Event, tmp_path: Path) -> None:
    drained = threading.Event()
    with (
        ScriptedMta(take_when(taken), tmp_path / "smtpd") as mta,
        bench(mta.target, timeouts=PATIENT) as it,
        it.connect(),
    ):
        it.wait_for(lambda: it.driver.open_connections == 1)
        it.call(lambda: it.driver.drain(0.0, drained.set))
        assert drained.wait(TIMEOUT)
        assert it.driver.descriptors.opened == 0
        taken.set()


@pytest.mark.parametrize("why", ["smtpd is away", "its queue is full", "not proved", "a relay"])
def test_whom_the_lane_cannot_hand_over_the_session_does(
    why: str, sessions: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "smtpd"
    with socket.socket(socket.AF_UNIX) as full:
        if why == "its queue is full":
            full.bind(str(path))
            full.listen(0)
            waiting = socket.socket(socket.AF_UNIX)
            waiting.connect(str(path))
        handoff = "Plain" if why == "a relay" else "Pass"
        with bench(f"unix:{path}", usable=why != "not proved", handoff=handoff) as it, it.connect() as client:
            assert client.hear_all().startswith(b"421 4.3.2 ")
            (record,) = it.host.records()
            assert record.verdict == "deferred"
        assert it.driver.descriptors.opened == 0
        if why == "its queue is full":
            waiting.close()
    assert sessions == ["127.0.0.1"]


def test_a_client_without_a_pass_is_tested(sessions: list[str], tmp_path: Path) -> None:
    with ScriptedMta(take, tmp_path / "smtpd") as mta, bench(mta.target, known=False) as it:
        with it.connect() as client:
            assert client.hear_line().startswith(b"220-")
            client.reset()
        it.await_idle()
    assert sessions == ["127.0.0.1"]
