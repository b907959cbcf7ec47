"""An MTA that is broken, absent, slow or refuses while sessions are handed to it in their middle, and a sending Postfix in front: its mail
stays queued, is tried again, and is delivered once when the MTA is well. Each sender is a client of its own (an address), so that all
faults are met side by side, each in the middle of a session."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness.faulty_mta import DOT, GREETING, HANG_UP, SLOW, Fault, FaultyMta
from harness.postfix import Postfix
from harness.senders import sending_postfix, submit
from harness.sidecar import up
from test_inline import POLICY, with_tls

LATER, CLOSING = b"450 4.7.1 later\r\n", b"421 4.3.2 closing\r\n"
SMTP_STEPS = (GREETING, "EHLO", "MAIL", "RCPT")  # ours
RELAYED = ("DATA", DOT)
DEFERRED = [
    *(Fault(step, reply) for step in (*SMTP_STEPS, *RELAYED) for reply in (LATER, CLOSING, HANG_UP)),
    Fault("MAIL", b"503 5.5.1 out of step\r\n"),
    *(Fault("STARTTLS", reply) for reply in (b"454 4.7.0 no TLS now\r\n", CLOSING, HANG_UP)),
]
# These call the hand-off into question: everybody is told to come back until it is proved anew.
DOUBTFUL = [
    Fault("EHLO", b"502 5.5.2 what?\r\n"),
    Fault(GREETING, b"HTTP/1.1 400 Bad Request\r\n"),
    Fault("EHLO", b"\x16\x03\x01 this is no reply\r\n"),
    Fault("MAIL", b"250 2.1.0 Ok\r\n250 2.1.0 Ok\r\n"),
    Fault("RCPT", b"200 OK\r\nServer: none\r\n"),
]
USERS = [f"user{number}" for number in range(max(len(DEFERRED), len(DOUBTFUL)))]


def source_of(number: int) -> str:
    return f"127.0.11.{number + 1}"


def transports(faults: Sequence[Fault], address: str) -> tuple[list[str], str]:
    """One for each fault, with its own address: lines of master.cf, and transport_maps."""
    host, _, port = address.rpartition(":")
    services, maps = [], []
    for number, fault in enumerate(faults):
        tls = " -o smtp_tls_security_level=encrypt" if fault.step == "STARTTLS" else ""
        services.append(f"via{number} unix - - n - - smtp -o smtp_bind_address={source_of(number)}{tls}")
        maps.append(f"{{user{number}@example.org=via{number}:[{host}]:{port}}}")
    return services, f"inline:{{{', '.join(maps)}}}"


def deliver(sending: Postfix, sent: str) -> None:
    """Run the queue until the log says so: a hand-off in doubt is taken up again once it is proved anew; till then clients hear 450."""
    for _ in range(20):
        sending.run(["postqueue", "-f"])
        with contextlib.suppress(TimeoutError):
            sending.wait_for_log(sent, timeout=2.0)
            return
    sending.wait_for_log(sent)


@pytest.mark.parametrize("faults", [DEFERRED, DOUBTFUL], ids=["faults", "wrong answers"])
def test_mail_stays_queued_until_the_mta_is_well_and_is_delivered_once(
    faults: list[Fault], postfix_root: Path
) -> None:
    sources = {source_of(number): fault for number, fault in enumerate(faults)}
    with Postfix(postfix_root, handoff="proxy", users=USERS) as receiving:
        with_tls(receiving)
        with (
            FaultyMta((receiving.host, receiving.port), sources) as mta,
            up(POLICY, upstream=f"127.0.0.1:{mta.port}", handoff="proxy-v1") as sidecar,
        ):
            services, maps = transports(faults, sidecar.address)
            with sending_postfix(
                postfix_root, sidecar.address, "127.0.0.1", services=services, transport_maps=maps
            ) as sending:
                for number in range(len(faults)):
                    submit(sending, f"user{number}@example.org")
                for number in range(len(faults)):
                    sending.wait_for_log(rf"to=<user{number}@example.org>.* status=deferred")
                if faults is DEFERRED:
                    assert set(mta.met) == set(sources)
                    for source in sources:
                        sidecar.wait_for_log(rf"PASS NEW \[{source}\]:\d+")
                mta.well = True
                for number in range(len(faults)):
                    deliver(sending, rf"to=<user{number}@example.org>.* status=sent")
                assert not [line for line in sending.log() if "status=bounced" in line]
                assert sending.queue() == []
        for number in range(len(faults)):
            assert len(receiving.wait_for_mail(f"user{number}")) == 1


def test_an_mta_that_is_slow_or_not_there(postfix_root: Path) -> None:
    """The slow one is waited for; the one that is not there is tried again."""
    slow, refused, gone = range(3)
    faults = {source_of(slow): Fault("", SLOW), source_of(refused): Fault(GREETING, b"554 5.7.1 never\r\n")}
    with (
        Postfix(postfix_root, handoff="proxy", users=USERS) as receiving,
        FaultyMta((receiving.host, receiving.port), faults) as mta,
        up(POLICY, upstream=f"127.0.0.1:{mta.port}", handoff="proxy-v1") as sidecar,
    ):
        services, maps = transports([Fault("", b"")] * 3, sidecar.address)
        with sending_postfix(
            postfix_root, sidecar.address, "127.0.0.1", services=services, transport_maps=maps
        ) as sending:
            for number in (slow, refused):
                submit(sending, f"user{number}@example.org")
            sending.wait_for_log(rf"to=<user{slow}@example.org>.* status=sent")
            # A greeting that refuses is the MTA's own word.
            sending.wait_for_log(rf"to=<user{refused}@example.org>.* status=bounced .*554 5.7.1 never")
            receiving.stop()
            submit(sending, f"user{gone}@example.org")
            sending.wait_for_log(rf"to=<user{gone}@example.org>.* status=deferred .*45[0-9] 4\.3\.2")
            receiving.start()
            sending.run(["postqueue", "-f"])
            sending.wait_for_log(rf"to=<user{gone}@example.org>.* status=sent")
        for number in (slow, gone):
            assert len(receiving.wait_for_mail(f"user{number}")) == 1
        assert receiving.mailbox(f"user{refused}") == []
