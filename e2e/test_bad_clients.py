"""Clients that behave badly in every state: each is answered or let go, none leaves a descriptor behind, and good mail still flows."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.polling import poll
from harness.postfix import Postfix
from harness.postfix_configuration import Handoff
from harness.sidecar import Sidecar, up
from harness.smtp import Client, send_with_aiosmtplib

PERMITTED, REJECTED, BALANCER, TESTED = "127.0.1.1", "127.0.2.1", "127.0.3.1", "127.0.4.1"
POLICY = f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: mail}}
spec:
  selector: {{}}
  access:
    myNetworks: []
    rules:
    - {{action: Permit, cidrs: [{PERMITTED}]}}
    - {{action: Reject, cidrs: [{REJECTED}]}}
  pregreet: {{wait: 100ms}}
  listener: {{proxyProtocol: {{trusted: [{BALANCER}], timeout: 1s}}}}
"""
POSTFIX_OF: dict[str, Handoff] = {"plain": "plain", "proxy-v2": "proxy", "pass": "pass"}
EVERY_HANDOFF = pytest.mark.parametrize("served", POSTFIX_OF, indirect=True)


@dataclass
class Served:
    """A sidecar in front of a Postfix. idle: the descriptors of its worker when no client is there."""

    sidecar: Sidecar
    postfix: Postfix
    idle: list[int]

    def connect(self, source: str) -> Client:
        return Client(self.sidecar.host, self.sidecar.port, source=source)


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, postfix_root: Path) -> Iterator[Served]:
    """With the hand-off that the test is parametrized by."""
    handoff: str = getattr(request, "param", "proxy-v2")
    with Postfix(postfix_root, handoff=POSTFIX_OF[handoff]) as postfix:
        upstream = f"unix:{postfix.pass_socket}" if handoff == "pass" else postfix.address
        with up(POLICY, upstream=upstream, handoff=handoff) as sidecar:
            with Client(
                sidecar.host, sidecar.port, source=PERMITTED
            ) as first:  # what is opened once, is open
                first.greeted().expect("QUIT", 221)
            sidecar.wait_for_log("ALLOWLISTED")
            yield Served(sidecar, postfix, steady(sidecar))


def steady(sidecar: Sidecar) -> list[int]:
    """Its workers' descriptors once they have been as many for ten looks."""
    seen: list[list[int]] = []

    def look() -> list[int] | None:
        seen.append(sidecar.descriptors())
        return seen[-1] if len(seen) >= 10 and all(count == seen[-1] for count in seen[-10:]) else None

    return poll(look, 10, lambda: f"descriptors come and go: {seen[-10:]}")


@pytest.fixture(autouse=True)
def nothing_is_left_behind(served: Served) -> Iterator[None]:
    """After each test: no descriptor more than before any bad client, the same worker, and a good mail arrives."""
    workers = served.sidecar.workers()
    yield
    poll(
        lambda: served.sidecar.descriptors() == served.idle,
        10,
        lambda: f"{served.sidecar.descriptors()} descriptors are open, {served.idle} were",
    )
    assert served.sidecar.workers() == workers
    before = len(served.postfix.mailbox("bob"))
    send_with_aiosmtplib(served.sidecar.host, served.sidecar.port, "bob@example.org", source=PERMITTED)
    served.postfix.wait_for_mail("bob", before + 1)
    poll(lambda: served.sidecar.descriptors() == served.idle, 10, lambda: "the good mail's are open")


def before_the_teaser(served: Served) -> Client:
    return served.connect(REJECTED)


def after_the_teaser(served: Served) -> Client:
    client = served.connect(REJECTED)
    assert client.line().startswith("220-")
    return client


def in_the_dialogue(served: Served) -> Client:
    return served.connect(REJECTED).greeted()


def after_a_refusal(served: Served) -> Client:
    client = in_the_dialogue(served)
    client.expect("MAIL FROM:<alice@client.example>", 250)
    client.expect("RCPT TO:<bob@example.org>", 550)
    return client


def in_the_handoff(served: Served) -> Client:
    """Permitted: the MTA is being connected to while the client goes away."""
    return served.connect(PERMITTED)


def in_the_relay(served: Served) -> Client:
    return served.connect(PERMITTED).greeted()


def amid_a_mail(served: Served) -> Client:
    return in_the_relay(served).amid_a_mail()


def awaiting_the_proxy_header(served: Served) -> Client:
    return served.connect(BALANCER)


def half_a_proxy_header(served: Served) -> Client:
    client = served.connect(BALANCER)
    client.send(b"PROXY TCP4 192.0.2.1 ")
    return client


STATES: list[Callable[[Served], Client]] = [
    before_the_teaser,
    after_the_teaser,
    in_the_dialogue,
    after_a_refusal,
    in_the_handoff,
    in_the_relay,
    amid_a_mail,
    awaiting_the_proxy_header,
    half_a_proxy_header,
]


@EVERY_HANDOFF
def test_clients_that_hang_up_or_reset_in_any_state_leave_nothing_behind(served: Served) -> None:
    for ending in (Client.close, Client.reset):
        for state in STATES:
            for client in [state(served) for _ in range(2)]:
                ending(client)
    assert "cut off" not in [mail["Subject"] for mail in served.postfix.mailbox("bob")]


@EVERY_HANDOFF
def test_clients_that_shut_down_their_side_get_an_end_too(served: Served) -> None:
    for state in STATES:
        with state(served) as client:
            client.socket.shutdown(socket.SHUT_WR)
            client.rest()


@pytest.mark.parametrize("said", [b"", b"E"], ids=["nothing", "one byte"])
def test_a_client_that_says_next_to_nothing_is_let_wait_and_may_go(served: Served, said: bytes) -> None:
    for source in (REJECTED, PERMITTED, BALANCER):
        with served.connect(source) as client:
            if said:
                client.send(said)
            if source == BALANCER:  # its time for a header is 1 s here
                assert client.rest().startswith(b"421 4.3.2") or not said
                continue
            assert client.line().startswith("220")


def test_a_megabyte_without_a_line_end_is_not_kept_and_ends_the_session(served: Served) -> None:
    for source in (REJECTED, BALANCER):
        with served.connect(source) as client:
            with suppress(ConnectionResetError, BrokenPipeError):
                for _ in range(64):
                    client.send(b"x" * 16384)
            rest = client.rest()
            assert rest.splitlines()[-1].startswith(b"421"), rest
    resident = [
        int(line.split()[1])
        for pid in served.sidecar.workers()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    assert max(resident) < 100_000, "KiB of memory at its highest"


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234\r\n",  # a field is missing
        b"PROXY TCP4 192.0.2.1 2001:db8::1 1234 25\r\n",  # of two families
        b"PROXY TCP4 192.0.2.300 192.0.2.2 1234 25\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 65536\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY " + b"x" * 120 + b"\r\n",
        b"EHLO client.example\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c" + b"\0" * 12,  # version 3
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x02\0\0",  # too short for the addresses that it says it has
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + b"\0" * 65535,  # as long as can be said
    ],
)
def test_a_proxy_header_that_lies_is_answered_421_and_closed(served: Served, header: bytes) -> None:
    with served.connect(BALANCER) as client:
        with suppress(ConnectionResetError, BrokenPipeError):
            client.send(header)
        rest = client.rest()
        assert rest.startswith(b"421 4.3.2"), rest
    assert "192.0.2" not in served.sidecar.log_text()


@pytest.mark.parametrize(
    "part", [b"PROXY TCP4 192.0.2.1 192.0.2.2 12", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0"]
)
def test_a_proxy_header_that_never_ends_has_its_time_limit(served: Served, part: bytes) -> None:
    with served.connect(BALANCER) as client:
        client.send(part)
        assert client.rest().startswith(b"421 4.3.2")


def test_a_client_that_never_reads_does_not_hold_up_others(served: Served) -> None:
    with served.connect(REJECTED) as deaf:
        deaf.line()
        deaf.socket.settimeout(0.2)
        with suppress(OSError):
            for _ in range(1000):
                deaf.send(b"NOOP\r\n" * 500)
        with served.connect(PERMITTED) as other:
            other.greeted().expect("QUIT", 221)
