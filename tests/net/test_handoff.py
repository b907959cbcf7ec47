"""Every way of handing over against every way an MTA may behave: what the client sees, and what the MTA hears before its 220."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from net.bench import Bench, Client, make_rules
from net.scripted_mta import Conversation, Script, ScriptedMta, serve_mail
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.timeouts import Timeouts

RELAYS = ("Plain", "ProxyV1", "ProxyV2")
GREETING = b"220 mta.example ESMTP\r\n"


def hear_header(conversation: Conversation, handoff: str) -> bytes:
    """The PROXY header, if the hand-off has one."""
    if handoff == "ProxyV1":
        return conversation.hear_line()
    if handoff == "ProxyV2":
        header = b""
        while len(header) < 28:
            header += conversation.hear(28 - len(header))
        return header
    return b""


def behind_header(handoff: str, script: Script) -> Script:
    def run(conversation: Conversation) -> None:
        hear_header(conversation, handoff)
        script(conversation)

    return run


@pytest.mark.parametrize("handoff", RELAYS)
def test_a_mail_goes_through(handoff: str) -> None:
    headers: list[bytes] = []

    def script(conversation: Conversation) -> None:
        headers.append(hear_header(conversation, handoff))
        serve_mail(conversation)

    with ScriptedMta(script) as mta, Bench(mta.target, handoff) as bench, bench.connect() as client:
        assert client.hear_reply() == GREETING
        client.say(b"EHLO client.example\r\n")
        assert client.hear_reply() == b"250-mta.example\r\n250 SIZE 1000\r\n"
        client.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
        assert [client.hear_reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        client.say(b"Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n")
        assert client.hear_all() == b"250 2.0.0 taken\r\n221 2.0.0 bye\r\n"
        client.end()
        (record,) = bench.host.records()
        assert (record.verdict, record.handoff) == ("unscreened", handoff)
    if handoff == "ProxyV1":
        host, port = client.address
        assert headers == [f"PROXY TCP4 {host} 127.0.0.1 {port} {bench.address[1]}\r\n".encode()]
    if handoff == "ProxyV2":
        assert int.from_bytes(headers[0][24:26], "big") == client.address[1]


@pytest.mark.parametrize("handoff", RELAYS)
def test_a_unix_socket_is_an_upstream_too(handoff: str, tmp_path: Path) -> None:
    script = behind_header(handoff, serve_mail)
    with (
        ScriptedMta(script, tmp_path / "mta") as mta,
        Bench(mta.target, handoff) as bench,
        bench.connect() as client,
    ):
        assert client.hear_reply() == GREETING
        client.say(b"QUIT\r\n")
        assert client.hear_all() == b"221 2.0.0 bye\r\n"


def say(data: bytes) -> Script:
    def run(conversation: Conversation) -> None:
        conversation.say(data)
        conversation.hear_all()

    return run


def hang_up(_: Conversation) -> None:
    """At once."""


def keep_silent(conversation: Conversation) -> None:
    conversation.hear_all()


# What an MTA may do in place of its 220, and what the client gets that has seen nothing yet.
BEFORE_220: dict[str, tuple[Script, bytes]] = {
    "silent": (keep_silent, b"421 "),
    "hangs up": (hang_up, b"421 "),
    "half a greeting": (say(b"220-mta"), b"421 "),
    "421": (say(b"421 4.3.2 mta.example busy\r\n"), b"421 4.3.2 mta.example busy\r\n"),
    "554": (say(b"554 5.3.2 mta.example says no\r\n"), b"554 5.3.2 mta.example says no\r\n"),
    "500": (say(b"500 5.5.2 what\r\n"), b"421 "),
    "garbage": (say(b"SSH-2.0-OpenSSH_9.2\r\n"), b"421 "),
    "endless": (say(b"2" * 100_000), b"421 "),
}


@pytest.mark.parametrize("case", BEFORE_220)
@pytest.mark.parametrize("handoff", RELAYS)
@pytest.mark.parametrize("speaks", [False, True])
def test_an_mta_that_does_not_greet(handoff: str, case: str, speaks: bool) -> None:
    script, expected = BEFORE_220[case]
    received: list[bytes] = []
    spoken = threading.Event()

    def watched(conversation: Conversation) -> None:
        assert spoken.wait(5)
        script(conversation)
        received.append(bytes(conversation.heard))

    with (
        ScriptedMta(behind_header(handoff, watched)) as mta,
        Bench(mta.target, handoff) as bench,
        bench.connect() as client,
    ):
        if speaks:
            client.say(b"EHLO too.early\r\nMAIL FROM:<a@b>\r\n")
        spoken.set()
        said = client.hear_all()
        assert said.startswith(expected)
        assert said.count(b"\r\n") == 1
        (record,) = bench.host.records()
        assert record.verdict == "deferred"
        wrong = [fault for fault in bench.host.faults if fault.outcome == "wrong_answer"]
        assert bool(wrong) == (case in ("500", "garbage", "endless"))
    header = {"Plain": 0, "ProxyV1": None, "ProxyV2": 28}[handoff]
    heard = received[0]
    assert b"EHLO" not in heard, "no byte of the client goes to the MTA before its 220"
    if header is not None:
        assert len(heard) == header


@pytest.mark.parametrize("case", BEFORE_220)
def test_after_a_teaser_the_greeting_is_ended_and_the_first_command_gets_the_answer(case: str) -> None:
    script, expected = BEFORE_220[case]
    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, rules=make_rules(wait=0.05)) as bench,
        bench.connect() as client,
    ):
        assert client.hear_line() == b"220-mx.example ESMTP\r\n"
        assert client.hear_line().startswith(b"220 ")
        client.say(b"EHLO client.example\r\n")
        assert client.hear_all().startswith(expected)


@pytest.mark.parametrize("handoff", [*RELAYS, "Pass"])
def test_an_mta_that_is_down(handoff: str, tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/nothing" if handoff == "Pass" else "127.0.0.1:1"
    with Bench(target, handoff) as bench, bench.connect() as client:
        assert client.hear_all().startswith(b"421 4.3.2 ")
        (record,) = bench.host.records()
        assert record.verdict == "deferred"
        assert "cannot be reached" in record.reason
        assert bench.host.faults == []


def test_an_unproved_hand_off_is_not_tried() -> None:
    with ScriptedMta(serve_mail) as mta:
        with Bench(mta.target, usable=False) as bench, bench.connect() as client:
            assert client.hear_all().startswith(b"421 4.3.2 ")
        assert mta.conversations == []


@pytest.mark.parametrize("handoff", ["ProxyV1", "ProxyV2"])
def test_an_mta_that_expects_no_header_bounces_nothing(handoff: str) -> None:
    """It greets at once, then complains of the header, before or after the client's first command."""

    def script(conversation: Conversation) -> None:
        conversation.say(GREETING)
        hear_header(conversation, handoff)
        conversation.say(b"502 5.5.2 Error: command not recognized\r\n")
        conversation.hear_all()

    with ScriptedMta(script) as mta, Bench(mta.target, handoff) as bench, bench.connect() as client:
        said = client.hear_all()
        assert said.startswith((GREETING + b"421 4.3.2 ", b"421 4.3.2 "))
        bench.host.records()
        (fault,) = bench.host.faults
        assert (fault.outcome, fault.target, fault.handoff) == ("wrong_answer", mta.target, handoff)
        assert "502 5.5.2" in fault.detail


def test_a_complaint_that_comes_after_the_first_command_bounces_nothing() -> None:
    def script(conversation: Conversation) -> None:
        conversation.say(GREETING)
        conversation.hear_line()  # the header
        conversation.hear_line()  # EHLO
        conversation.say(b"502 5.5.2 Error: command not recognized\r\n250-mta.example\r\n250 SIZE\r\n")
        assert b"MAIL" not in conversation.hear_all(), "later commands wait for the reply to the first"

    with ScriptedMta(script) as mta, Bench(mta.target, "ProxyV1") as bench, bench.connect() as client:
        assert client.hear_reply() == GREETING
        client.say(b"EHLO client.example\r\nMAIL FROM:<a@b>\r\n")
        assert client.hear_all().startswith(b"421 4.3.2 ")
        bench.host.records()
        assert len(bench.host.faults) == 1


def test_an_mta_that_waits_for_a_header_in_plain_gets_no_byte_of_the_client() -> None:
    with ScriptedMta(keep_silent) as mta:
        with Bench(mta.target, "Plain") as bench, bench.connect() as client:
            client.say(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\nMAIL FROM:<spammer@example>\r\n")
            assert client.hear_all().startswith(b"421 ")
        assert mta.heard() == b""


def hear_command(conversation: Conversation) -> None:
    conversation.hear_line()


# When the MTA hangs up, and what the client says by then: bytes that came after our close would be answered by RST.
STEPS: dict[str, tuple[Callable[[Conversation], None], bytes]] = {
    "after its greeting": (hang_up, b""),
    "after the first command": (hear_command, b"EHLO client.example\r\n"),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_mta_that_hangs_up_in_the_opening(step: str) -> None:
    act, said = STEPS[step]

    def script(conversation: Conversation) -> None:
        conversation.say(GREETING)
        act(conversation)

    with ScriptedMta(script) as mta, Bench(mta.target) as bench, bench.connect() as client:
        assert client.hear_reply() == GREETING
        client.say(said)
        assert client.hear_all().startswith(b"421 ")


def test_a_client_that_resets_before_the_greeting_leaves_the_mta_alone() -> None:
    connected = threading.Event()

    def script(conversation: Conversation) -> None:
        connected.set()
        conversation.hear_all()

    with ScriptedMta(script) as mta, Bench(mta.target, timeouts=Timeouts()) as bench:
        client = bench.connect()
        assert connected.wait(5)
        client.reset()
        bench.await_idle()
        assert mta.heard() == b""


@pytest.mark.parametrize("early", [b"", b"EHLO client.example\r\nQUIT\r\n"])
def test_a_client_that_ends_before_the_greeting(early: bytes) -> None:
    """One that has said something is served; one that has not is gone."""
    connected, go_on = threading.Event(), threading.Event()

    def script(conversation: Conversation) -> None:
        connected.set()
        assert go_on.wait(5)
        try:
            serve_mail(conversation)
        except ConnectionError:
            assert not early

    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, timeouts=Timeouts()) as bench,
        bench.connect() as client,
    ):
        assert connected.wait(5)
        assert bench.gauge("handoff") == 1
        client.say(early)
        client.end()
        if not early:
            bench.await_idle()
        go_on.set()
        said = client.hear_all()
        assert said == (GREETING + b"250-mta.example\r\n250 SIZE 1000\r\n221 2.0.0 bye\r\n" if early else b"")


def test_pass_gives_the_descriptor_away(tmp_path: Path) -> None:
    attributes: list[bytes] = []

    def script(conversation: Conversation) -> None:
        passed, said = conversation.hear_passed()
        attributes.append(said)
        conversation.socket.close()
        with passed:
            serve_mail(Conversation(passed))

    with (
        ScriptedMta(script, tmp_path / "smtpd") as mta,
        Bench(mta.target, "Pass") as bench,
        bench.connect() as client,
    ):
        assert client.hear_reply() == GREETING
        bench.await_idle()  # nothing of this session is in the sidecar any more
        client.say(b"EHLO client.example\r\n")
        assert client.hear_reply() == b"250-mta.example\r\n250 SIZE 1000\r\n"
        client.say(b"QUIT\r\n")
        assert client.hear_all() == b"221 2.0.0 bye\r\n"
        (record,) = bench.host.records()
        assert record.handoff == "Pass"
    fields = attributes[0].split(b"\0")
    assert dict(zip(fields[:-2:2], fields[1:-2:2], strict=False)) == {
        b"client_address": b"127.0.0.1",
        b"client_port": str(client.address[1]).encode(),
        b"server_address": b"127.0.0.1",
        b"server_port": str(bench.address[1]).encode(),
    }


def test_pass_after_a_teaser_lets_the_mta_end_the_greeting(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        passed, _ = conversation.hear_passed()
        conversation.socket.close()
        with passed:
            serve_mail(Conversation(passed))

    rules = make_rules(wait=0.05)
    with (
        ScriptedMta(script, tmp_path / "smtpd") as mta,
        Bench(mta.target, "Pass", rules) as bench,
        bench.connect() as client,
    ):
        assert client.hear_reply() == b"220-mx.example ESMTP\r\n" + GREETING
        client.say(b"QUIT\r\n")
        assert client.hear_all() == b"221 2.0.0 bye\r\n"


@pytest.mark.parametrize("script", [keep_silent, hang_up])
def test_an_smtpd_that_does_not_take_the_client(script: Script, tmp_path: Path) -> None:
    """Nothing is written to a client that smtpd may be serving: it sees FIN, or 421 if the descriptor did not go through."""
    with (
        ScriptedMta(script, tmp_path / "smtpd") as mta,
        Bench(mta.target, "Pass") as bench,
        Client(bench.address) as client,
    ):
        said = client.hear_all()
        assert said == b"" or (script is hang_up and said.startswith(b"421 "))


def test_of_several_addresses_of_a_name_the_first_that_accepts_is_taken() -> None:
    with ScriptedMta(serve_mail) as mta, Bench(mta.target) as bench:
        route = bench.host.route()
        refused = SocketAddress(socket.AF_INET6, ("::1", 1))
        bench.host.current_route = replace(route, addresses=(refused, refused, *route.addresses))
        with bench.connect() as client:
            assert client.hear_reply() == GREETING
            client.say(b"QUIT\r\n")
            client.hear_all()
