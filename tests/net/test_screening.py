"""Sessions before the hand-off with real sockets: greeting test, drops, PROXY headers, clients of every bad kind, drain."""

from __future__ import annotations

import gc
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from net.bench import FEW_TURNS, Bench, make_rules
from net.scripted_mta import Conversation, ScriptedMta, serve_mail
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.ipc.page import CELLS, DURATION_BOUNDS, connections, duration_bucket
from postwarden_sidecar.ipc.page import tests as results
from postwarden_sidecar.net.connector import Connector
from postwarden_sidecar.net.relay import Relay
from postwarden_sidecar.net.session import Session
from postwarden_sidecar.net.timeouts import Timeouts
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Action

LOOPBACK = AddressTable.from_networks([("127.0.0.0/8", AccessAction.PERMIT, 1)])
LISTED = AddressTable.from_networks([("127.0.0.0/8", AccessAction.REJECT, 1)])
TEASER = b"220-mx.example ESMTP\r\n"
GREETING = b"220 mta.example ESMTP\r\n"


def test_a_silent_client_passes_once_and_is_known_the_second_time() -> None:
    with ScriptedMta(serve_mail) as mta, Bench(mta.target, rules=make_rules()) as bench:
        with bench.connect() as client:
            assert client.hear_reply() == TEASER + GREETING
            client.say(b"QUIT\r\n")
            assert client.hear_all() == b"221 2.0.0 bye\r\n"
        with bench.connect() as client:
            assert client.hear_reply() == GREETING
            client.say(b"QUIT\r\n")
            client.hear_all()
        assert [record.verdict for record in bench.host.records(2)] == ["pass_new", "pass_old"]


def test_passes_are_prepared_before_the_end_of_the_wait() -> None:
    with ScriptedMta(serve_mail) as mta, Bench(mta.target, rules=make_rules(wait=0.02)) as bench:
        with bench.connect() as client:
            assert client.hear_reply().startswith(b"220")
        assert bench.host.prepared == ["127.0.0.1"]


def test_a_permitted_client_sees_the_mta_at_once() -> None:
    rules = make_rules(permitted=LOOPBACK, wait=60)
    with ScriptedMta(serve_mail) as mta, Bench(mta.target, rules=rules) as bench, bench.connect() as client:
        assert client.hear_reply() == GREETING
        client.say(b"QUIT\r\n")
        client.hear_all()


def test_an_early_talker_gets_550_at_rcpt_and_never_reaches_the_mta() -> None:
    with ScriptedMta(serve_mail) as mta, Bench(mta.target, rules=make_rules(wait=60)) as bench:
        with bench.connect() as client:
            client.say(b"EHLO early.example\r\n")
            assert client.hear_line() == TEASER
            assert client.hear_reply().startswith(b"250")
            client.say(b"MAIL FROM:<a@b>\r\n")
            assert client.hear_reply().startswith(b"250")
            client.say(b"RCPT TO:<c@d>\r\n")
            assert client.hear_reply() == b"550 5.5.1 Protocol error\r\n"
            client.say(b"QUIT\r\n")
            assert client.hear_all().startswith(b"221")
        (record,) = bench.host.records()
        assert (record.verdict, record.helo, record.sender, record.recipient) == (
            "rejected", "early.example", "a@b", "c@d",
        )  # fmt: skip
        assert mta.conversations == []


def test_what_an_ignored_early_talker_said_reaches_the_mta() -> None:
    rules = make_rules(wait=60, action=Action.IGNORE)
    with ScriptedMta(serve_mail) as mta, Bench(mta.target, rules=rules) as bench, bench.connect() as client:
        client.say(b"EHLO early.example\r\nQUIT\r\n")
        said = client.hear_all()
        assert said == TEASER + GREETING + b"250-mta.example\r\n250 SIZE 1000\r\n221 2.0.0 bye\r\n"
        assert mta.heard() == b"EHLO early.example\r\nQUIT\r\n"


def test_a_listed_client_is_dropped_with_one_line_and_counted() -> None:
    with Bench(rules=make_rules(listed=LISTED, reject=Action.DROP)) as bench, bench.connect() as client:
        assert client.hear_all() == b"521 5.3.2 Service currently unavailable\r\n"
        bench.await_turn()
        counted = [connections(record.verdict) for record in bench.host.records()]
        counted.append(results("access", "fail", "Drop"))
        assert [bench.cells[CELLS[name]] for name in counted] == [1, 1]
        for verdict, count in ((Verdict.DROPPED, 1), (Verdict.REJECTED, 0)):
            buckets = [duration_bucket(verdict, index) for index in range(len(DURATION_BOUNDS) + 1)]
            assert sum(bench.cells[CELLS[bucket]] for bucket in buckets) == count


def test_the_reply_to_a_dropped_talker_is_not_lost_in_a_reset() -> None:
    rules = make_rules(wait=60, action=Action.DROP)
    with Bench(rules=rules) as bench, bench.connect() as client:
        client.say(b"x" * 5_000)
        assert client.hear_all() == TEASER + b"521 5.5.1 Protocol error\r\n"


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_proxy_header_in_pieces_is_taken_out_and_nothing_else(piece: int) -> None:
    stream = b"PROXY TCP4 203.0.113.5 192.0.2.25 54321 25\r\n" + b"EHLO early.example\r\n"
    rules = make_rules(wait=60, action=Action.IGNORE, proxy_trusted=LOOPBACK)
    with ScriptedMta(serve_mail) as mta, Bench(mta.target, rules=rules) as bench, bench.connect() as client:
        turn = threading.Event()
        for at in range(0, len(stream), piece):
            turn.clear()
            client.say(stream[at : at + piece])
            bench.call(turn.set)
            assert turn.wait(5)  # the driver sees each piece alone
        assert client.hear_reply().endswith(GREETING)
        assert client.hear_reply().startswith(b"250")
        client.say(b"QUIT\r\n")
        client.hear_all()
        (record,) = bench.host.records()
        assert (record.client_address, record.client_port) == ("203.0.113.5", 54321)
        assert (record.peer_address, record.proxied) == ("127.0.0.1", True)
        assert mta.heard() == b"EHLO early.example\r\nQUIT\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"PROXY TCP4 203.0.113.5",
        b"PROXY NONSENSE\r\n",
        b"EHLO x\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
    ],
)
@pytest.mark.parametrize("ends", [False, True])
def test_a_proxy_header_that_is_missing_cut_off_or_lies(said: bytes, ends: bool) -> None:
    with Bench(rules=make_rules(proxy_trusted=LOOPBACK)) as bench, bench.connect() as client:
        client.say(said)
        if ends:
            client.end()
        assert client.hear_all() == b"421 4.3.2 No system resources\r\n"


def test_a_proxied_client_is_passed_by_its_own_descriptor(tmp_path: Path) -> None:
    attributes: list[bytes] = []

    def script(conversation: Conversation) -> None:
        passed, said = conversation.hear_passed()
        attributes.append(said)
        conversation.socket.close()
        with passed:
            serve_mail(Conversation(passed))

    rules = make_rules(wait=60, action=Action.IGNORE, proxy_trusted=LOOPBACK)
    with (
        ScriptedMta(script, tmp_path / "smtpd") as mta,
        Bench(mta.target, "Pass", rules) as bench,
        bench.connect() as client,
    ):
        client.say(b"PROXY TCP4 203.0.113.5 192.0.2.25 54321 25\r\nEHLO client.example\r\nQUIT\r\n")
        assert client.hear_all().endswith(b"221 2.0.0 bye\r\n")
    assert len(attributes[0]) == 87
    assert b"client_address\x00203.0.113.5\x00" in attributes[0]


BAD_BYTES = {
    "nothing": b"",
    "one byte": b"E",
    "a megabyte without a line end": b"x" * 1_000_000,
    "binary": bytes(range(256)) * 20,
}
STATES = {
    "greeting wait": make_rules(wait=0.1),
    "dialogue": make_rules(wait=0.02, listed=LISTED),
    "proxy header": make_rules(proxy_trusted=LOOPBACK),
    "permitted, no MTA": make_rules(permitted=LOOPBACK),
    "drop": make_rules(listed=LISTED, reject=Action.DROP),
}


@pytest.mark.parametrize("ending", ["fin", "reset", "full close"])
@pytest.mark.parametrize("said", BAD_BYTES)
@pytest.mark.parametrize("state", STATES)
def test_a_bad_client_leaves_nothing_behind(state: str, said: str, ending: str) -> None:
    """The bench checks at its end that no connection is open and every gauge is zero."""
    with Bench(rules=STATES[state]) as bench:
        with bench.connect() as client:
            if state == "dialogue":
                client.hear_line()
            with suppress(OSError):  # closed on it already
                client.say(BAD_BYTES[said])
                if ending == "fin":
                    client.end()
                    client.hear_all()
            if ending == "reset":
                client.reset()
        bench.await_idle()
        assert bench.driver._descriptors.opened == 0


LARGE_BANNER = "mx.example " + "x" * 8_000_000  # no socket buffer takes it whole


def test_a_client_that_does_not_read_is_let_go() -> None:
    """What it does not take waits alone; nothing more is sent, and it does not reach the MTA."""
    with (
        ScriptedMta(serve_mail) as mta,
        Bench(mta.target, rules=make_rules(wait=0.05, banner=LARGE_BANNER)) as bench,
        bench.connect(),
    ):
        bench.await_idle()
        (record,) = bench.host.records()
        assert record.reason.endswith("it hung up before the upstream had it")
        assert mta.conversations == []


def test_a_slow_reader_gets_every_byte_in_order() -> None:
    with (
        ScriptedMta(serve_mail) as mta,
        Bench(mta.target, rules=make_rules(wait=0.05, banner=LARGE_BANNER), timeouts=Timeouts()) as bench,
        bench.connect() as client,
    ):
        expected = f"220-{LARGE_BANNER}\r\n".encode() + GREETING
        said = b""
        while len(said) < len(expected):
            said += client.socket.recv(1 << 20)
        assert said == expected
        client.say(b"QUIT\r\n")
        assert client.hear_all() == b"221 2.0.0 bye\r\n"


def test_clients_wait_in_the_queue_while_descriptors_are_few() -> None:
    """limit 40: a quarter stays free for hand-overs."""
    rules = make_rules(wait=60)
    with Bench(rules=rules, limit=len_open() + 20) as bench:
        clients = [bench.connect() for _ in range(20)]
        bench.wait_for(lambda: bench.driver._pause.active)
        taken = bench.driver.open_connections
        assert 0 < taken < 20
        clients[0].reset()
        bench.wait_for(lambda: bench.driver._pause.active and bench.host._records != [])
        for client in clients[1:]:
            client.reset()
        bench.host.records(taken)


def len_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_session_in_progress_survives_a_hundred_new_rules() -> None:
    with Bench(rules=make_rules(wait=0.3)) as bench, bench.connect() as early, bench.connect() as silent:
        early.say(b"EHLO early.example\r\n")
        assert early.hear_line() == TEASER
        assert early.hear_reply().startswith(b"250")
        assert silent.hear_line() == TEASER
        for push in range(100):
            reject = make_rules(listed=LISTED, reject=Action.DROP, wait=60 + push)
            bench.host.current = Context(reject, False, "other.example ESMTP", None)
            early.say(b"NOOP\r\n" if push < 15 else b"")
        for _ in range(15):
            assert early.hear_reply().startswith(b"250")
        early.say(b"QUIT\r\n")
        assert early.hear_all().startswith(b"221 ")
        assert silent.hear_line().startswith(b"220 mx.example"), "the wait is that of its own rules"
        with bench.connect() as later:
            assert later.hear_all().startswith(b"521 ")


def test_drain_turns_away_who_is_ours_and_lets_relays_end() -> None:
    drained = threading.Event()
    with (
        ScriptedMta(serve_mail) as mta,
        Bench(mta.target, rules=make_rules(wait=0.1)) as bench,
        bench.connect() as relayed,
    ):
        assert relayed.hear_reply() == TEASER + GREETING
        relayed.say(b"EHLO client.example\r\n")
        relayed.hear_reply()
        bench.host.passes.clear()
        bench.host.current = Context(make_rules(wait=60), False, "mx.example ESMTP", None)
        with bench.connect() as waiting:
            assert waiting.hear_line() == TEASER
            bench.call(lambda: bench.driver.drain(10.0, drained.set))
            assert waiting.hear_line().startswith(b"220 ")
            assert waiting.hear_all().startswith(b"421 4.3.2 ")
        with bench.connect() as newcomer:
            assert newcomer.hear_all().startswith(b"421 4.3.2 ")
        assert not drained.is_set()
        relayed.say(b"MAIL FROM:<a@b>\r\nQUIT\r\n")
        assert relayed.hear_all() == b"250 2.0.0 ok\r\n221 2.0.0 bye\r\n"
        relayed.end()
        assert drained.wait(5)


def test_a_drain_ends_relays_when_its_time_is_over() -> None:
    drained = threading.Event()
    with ScriptedMta(serve_mail) as mta, Bench(mta.target) as bench, bench.connect() as relayed:
        assert relayed.hear_reply() == GREETING
        bench.call(lambda: bench.driver.drain(0.1, drained.set))
        assert drained.wait(5)


def test_a_defect_of_ours_ends_one_connection_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with Bench(rules=make_rules()) as bench:
        lookup, bench.host.lookup_pass = bench.host.lookup_pass, None  # type: ignore[assignment, method-assign]  # calling it raises
        with bench.connect() as client:
            assert client.hear_all() == b""
        (record,) = bench.host.records()
        assert record.verdict == "error"
        bench.host.lookup_pass = lookup  # type: ignore[method-assign]
        with bench.connect() as client:
            assert client.hear_line() == TEASER
    assert "TypeError" in capsys.readouterr().err


def test_no_hand_off_begins_while_too_few_descriptors_are_free() -> None:
    with ScriptedMta(serve_mail) as mta, Bench(mta.target) as bench:
        bench.driver._descriptors._for_clients = 0
        bench.driver._descriptors.opened = bench.driver._descriptors.free - 2
        with bench.connect() as client:
            assert client.hear_all().startswith(b"421 4.3.2 ")
        assert mta.conversations == []
        (record,) = bench.host.records()
        assert "too few file descriptors are free" in record.reason


def test_finished_sessions_and_relays_leave_no_circles_in_memory() -> None:
    kinds = (Session, Relay, Connector, Connection)
    with ScriptedMta(serve_mail) as mta, Bench(mta.target, rules=make_rules(wait=0.02)) as bench:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                with bench.connect() as client:
                    client.hear_reply()
                    client.say(b"QUIT\r\n")
                    client.hear_all()
            bench.await_idle()
            bench.call(lambda: None)
            bench.wait_for(lambda: not [found for found in gc.get_objects() if isinstance(found, kinds)])
        finally:
            gc.enable()


def keep_silent(conversation: Conversation) -> None:
    conversation.hear_all()


def test_waiting_bytes_do_not_make_the_loop_spin() -> None:
    """A part of a PROXY header, that with FIN, and bytes that wait for a silent MTA: each waits 0.3 s."""
    for said, ends in ((b"PROXY TCP4 ", False), (b"PROXY TCP4 ", True)):
        with Bench(rules=make_rules(proxy_trusted=LOOPBACK)) as bench, bench.connect() as client:
            client.say(said)
            if ends:
                client.end()
            assert client.hear_all().startswith(b"421 ")
            assert bench.turns < FEW_TURNS
    for ends in (False, True):
        with (
            ScriptedMta(keep_silent) as mta,
            Bench(mta.target, rules=make_rules(permitted=LOOPBACK)) as bench,
            bench.connect() as client,
        ):
            client.say(b"EHLO client.example\r\n")
            if ends:
                client.end()
            assert client.hear_all().startswith(b"421 ")
            assert bench.turns < FEW_TURNS
