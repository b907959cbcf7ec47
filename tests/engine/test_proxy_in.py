"""Connections from trusted proxies: who is screened, and what a bad header leads to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine.scene import HOST, Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import Close, HandoffOutcome
from postwarden_sidecar.engine.context import PROXY_TIMEOUT, Context
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Action

PROXY = "10.0.0.1"
RULES = make_rules(
    permit=("198.51.100.1",),
    reject=("198.51.100.0/28", "2001:db8::/32"),
    reject_action=Action.DROP,
    trusted=("10.0.0.0/24",),
)
HEADER = b"PROXY TCP4 203.0.113.5 192.0.2.25 4001 25\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
BAD = b"421 4.3.2 No system resources\r\n"
TEASER = f"220-{HOST} ESMTP\r\n".encode()
MTA = f"220 {HOST} ESMTP upstream\r\n".encode()


def connect(scene: Scene, address: str = PROXY) -> Wire:
    return scene.connect(make_context(RULES), address)


def send_in_pieces(wire: Wire, data: bytes) -> None:
    for at in range(len(data)):
        wire.send(data[at : at + 1])


@pytest.mark.parametrize("pieces", [False, True])
def test_the_announced_client_is_screened(pieces: bool) -> None:
    scene = Scene()
    wire = connect(scene)
    assert wire.received == b""
    send_in_pieces(wire, HEADER) if pieces else wire.send(HEADER)
    assert wire.received == TEASER
    scene.wait(6.0)
    assert wire.received == TEASER + MTA
    assert list(scene.passes) == ["203.0.113.5"]
    record = wire.record
    assert record is not None
    assert record.proxied
    assert (record.client_address, record.client_port) == ("203.0.113.5", 4001)
    assert (record.server_address, record.server_port) == ("192.0.2.25", 25)
    assert record.peer_address == PROXY


def test_the_announced_client_is_dropped_before_what_it_says_is_looked_at() -> None:
    wire = connect(Scene())
    wire.send(HEADER.replace(b"203.0.113.5", b"198.51.100.9") + b"EHLO x\r\n")
    assert wire.received == b"521 5.3.2 Service currently unavailable\r\n"
    assert wire.close == Close(linger=True)


def test_words_behind_the_header_are_the_clients_early_talk() -> None:
    wire = connect(Scene())
    wire.send(HEADER + b"HELO x\r\n")
    assert wire.received == TEASER + f"250 {HOST}\r\n".encode()


def test_from_anyone_else_a_header_is_early_talk() -> None:
    wire = connect(Scene(), "10.0.1.1")
    wire.send(HEADER.replace(b"203.0.113.5", b"198.51.100.1"))
    assert not wire.handed_over
    assert wire.received.startswith(TEASER + b"502 5.5.2")


@pytest.mark.parametrize(
    "data", [b"EHLO x\r\n", b"PROXY UNKNOWN\r\n", HEADER.replace(b"4001", b"66000"), b"\x16\x03\x01"]
)
def test_a_bad_header_is_turned_away_for_now_and_no_client_is_logged(data: bytes) -> None:
    wire = connect(Scene())
    wire.send(data)
    assert wire.received == BAD
    record = wire.record
    assert record is not None
    assert (record.verdict, record.events, record.client_address) == (Verdict.ERROR, [], PROXY)
    assert record.reason.startswith("10.0.0.1 is a trusted proxy, but sent no usable header: ")
    assert wire.close == Close(linger=True)


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BODY4 = b"\xcb\0\x71\x05\xc0\0\x02\x19\x0f\xa1\0\x19"  # 203.0.113.5, as in HEADER
# Type-length-values: ALPN, SSL, one of a number that nobody has, one that is empty, one that says it is longer than the header.
TLVS = b"\x01\0\x02h2" + b"\x20\0\x05\0\0\0\0\0" + b"\xea\0\x03abc" + b"\xff\0\0" + b"\x04\xff\xff"


def version2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    announced = len(body) if length is None else length
    return SIGNATURE + bytes((command, family)) + announced.to_bytes(2) + body


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("tlvs", [b"", TLVS, b"\xff" * 500])
def test_what_a_header_carries_besides_addresses_is_passed_over(tlvs: bytes, pieces: bool) -> None:
    scene = Scene()
    wire = connect(scene)
    header = version2(0x21, 0x11, BODY4 + tlvs)
    send_in_pieces(wire, header) if pieces else wire.send(header)
    scene.wait(6.0)
    assert wire.received == TEASER + MTA
    assert wire.record is not None
    assert wire.record.client_address == "203.0.113.5"


def test_local_with_addresses_and_more_is_the_proxy_itself() -> None:
    scene = Scene()
    wire = connect(scene)
    wire.send(version2(0x20, 0x11, BODY4 + TLVS))
    scene.wait(6.0)
    assert wire.record is not None
    assert wire.record.client_address == PROXY


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"PROXY " + b"x" * 200, id="v1 without an end"),
        pytest.param(b"PROXY TCP4 " + b"1" * 5000 + b"\r\n", id="v1 far too long"),
        pytest.param(version2(0x21, 0x11, BODY4, 0xFFFF), id="v2 as long as can be said"),
        pytest.param(version2(0x21, 0x11, BODY4 + bytes(509)), id="v2 one byte too long"),
        pytest.param(version2(0x21, 0x11, BODY4, 11), id="v2 too short for its addresses"),
        pytest.param(version2(0x21, 0x21, BODY4), id="v2 too short for IPv6"),
        pytest.param(version2(0x21, 0x11, b""), id="v2 of no length"),
        pytest.param(version2(0x20, 0x00, b"", 0xFFFF), id="LOCAL as long as can be said"),
    ],
)
@pytest.mark.parametrize("pieces", [False, True])
def test_an_oversized_or_lying_header_is_turned_away_at_once(header: bytes, pieces: bool) -> None:
    wire = connect(Scene())
    send_in_pieces(wire, header) if pieces else wire.send(header)
    assert wire.received == BAD
    assert wire.record is not None
    assert wire.record.verdict is Verdict.ERROR


def test_a_header_that_announces_more_than_comes_ends_at_its_time_and_opens_nothing() -> None:
    """What the client says meanwhile is taken for the header's: it never reaches the MTA, nor is it answered."""
    scene = Scene()
    wire = connect(scene)
    wire.send(version2(0x21, 0x11, BODY4, 400) + b"EHLO x\r\nMAIL FROM:<a@b>\r\n")
    scene.wait(4.9)
    assert wire.received == b""
    scene.wait(0.2)
    assert wire.received == BAD
    assert not wire.handed_over


def test_a_header_that_announces_less_than_comes_leaves_the_rest_as_the_clients_early_talk() -> None:
    wire = connect(Scene())
    wire.send(version2(0x21, 0x11, BODY4 + TLVS, len(BODY4)))
    assert wire.received.startswith(TEASER)
    assert not wire.handed_over
    scene = Scene()
    wire = connect(scene)
    wire.send(version2(0x21, 0x11, BODY4 + b"\x04\0\x01x", len(BODY4)) + b"\r\nQUIT\r\n")
    scene.wait(6.0)
    assert wire.received.endswith(b"521 5.7.0 Error: only SMTP is spoken here. Goodbye.\r\n")
    assert wire.record is not None
    assert wire.record.verdict is Verdict.DROPPED


@pytest.mark.parametrize("size", [0, 1, 20, len(HEADER) - 1])
def test_a_header_that_does_not_come_in_time_is_turned_away(size: int) -> None:
    scene = Scene()
    wire = connect(scene)
    wire.send(HEADER[:size])
    scene.wait(4.9)
    assert wire.received == b""
    scene.wait(0.2)
    assert wire.received == BAD
    assert wire.record is not None
    assert wire.record.verdict is Verdict.ERROR


@pytest.mark.parametrize(("size", "verdict"), [(0, None), (1, Verdict.ERROR), (20, Verdict.ERROR)])
def test_a_proxy_that_closes_instead(size: int, verdict: Verdict | None) -> None:
    polite = connect(Scene())
    polite.send(HEADER[:size])
    polite.half_close()
    assert polite.received == BAD
    rude = connect(Scene())
    rude.send(HEADER[:size])
    rude.reset()
    assert rude.received == b""
    for wire in (polite, rude):
        assert wire.closed
        assert (wire.record and wire.record.verdict) == verdict


def test_local_is_screened_by_the_sockets_own_address() -> None:
    scene = Scene()
    wire = connect(scene)
    wire.send(LOCAL)
    scene.wait(6.0)
    assert wire.received == TEASER + MTA
    record = wire.record
    assert record is not None
    assert (record.client_address, record.proxied) == (PROXY, False)


@pytest.mark.parametrize("wait", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("how", ["half_close", "reset"])
def test_local_without_a_byte_behind_it_leaves_no_record(wait: float, how: str) -> None:
    scene = Scene(HandoffOutcome.UNREACHABLE)
    wire = connect(scene)
    send_in_pieces(wire, LOCAL)
    scene.wait(wait)
    wire.half_close() if how == "half_close" else wire.reset()
    assert wire.close is not None
    assert wire.record is None


def test_local_that_speaks_leaves_a_record() -> None:
    scene = Scene(HandoffOutcome.UNREACHABLE)
    wire = connect(scene)
    wire.send(LOCAL)
    scene.wait(6.0)
    wire.send(b"E")
    wire.half_close()
    assert wire.record is not None


def test_a_drain_in_the_middle_of_a_header() -> None:
    wire = connect(Scene())
    wire.send(HEADER[:9])
    wire.engine.shut_down(1.0)
    wire.pump()
    assert wire.received == b"421 4.3.2 Service currently unavailable\r\n"
    assert wire.record is not None
    assert (wire.record.verdict, wire.record.events) == (Verdict.DEFERRED, [])


WITHOUT_RULES = Context(
    None,
    False,
    "",
    None,
    bootstrap_proxies=AddressTable.from_networks([("10.0.0.0/24", AccessAction.PERMIT, 0)]),
)


@pytest.mark.parametrize("pieces", [False, True])
def test_without_rules_the_load_balancers_of_the_bootstrap_are_believed(pieces: bool) -> None:
    wire = Scene().connect(WITHOUT_RULES, PROXY)
    assert not wire.handed_over
    send_in_pieces(wire, HEADER) if pieces else wire.send(HEADER)
    assert wire.handed_over
    record = wire.record
    assert record is not None
    assert (record.verdict, record.client_address, record.peer_address) == (
        Verdict.UNSCREENED,
        "203.0.113.5",
        PROXY,
    )


def test_without_rules_a_load_balancer_that_says_nothing_is_turned_away_after_the_usual_time() -> None:
    scene = Scene()
    wire = scene.connect(WITHOUT_RULES, PROXY)
    scene.wait(PROXY_TIMEOUT + 0.1)
    assert wire.received == BAD


def test_without_rules_others_need_no_header() -> None:
    assert Scene().connect(WITHOUT_RULES, "10.0.1.1").handed_over


def test_rules_alone_say_who_is_a_load_balancer_once_there_are_any() -> None:
    context = replace(WITHOUT_RULES, rules=make_rules())
    assert Scene().connect(context, PROXY).received == TEASER
