"""What a policy keeps from being shown is in no signal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from postwarden_sidecar.engine.record import Event, EventKind, Record, TestResult
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.telemetry import privacy
from postwarden_sidecar.telemetry.pipeline import LineFormat, Telemetry
from telemetry.collector import grpc_collector, plain
from telemetry.samples import record

SENDER, RECIPIENT, HELO = "ann.secret@planted.example", "bob.secret@planted.example", "host.planted.example"
PLANTED = ("secret", "planted")
TEXTS = [f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>", f"EHLO {HELO}", RECIPIENT, "secret planted"]


def hidden(envelope: str, key: str = "uid-1") -> Record:
    """A record in which every text that can hold something of the client does."""
    found = record(
        envelope=envelope,
        envelope_key=key if envelope == "Hashed" else "",
        helo=HELO,
        sender=SENDER,
        recipient=RECIPIENT,
        reason=f"it was answered: 550 5.1.1 <{RECIPIENT}>: unknown, said {SENDER}",
        tests=[TestResult("access", "fail", "Enforce", 0.0, 0.0, "spec.access.rules[1] line 4")],
        events=[],
    )
    found.events = [
        Event(kind, 0.1, text, 0, SENDER, RECIPIENT, HELO, "ESMTP", text)
        for kind in privacy._SAID
        for text in TEXTS
    ]
    found.events.append(
        Event(EventKind.REJECT, 0.1, f"550 <{RECIPIENT}>: no", 0, SENDER, RECIPIENT, HELO, "SMTP")
    )
    return found


@pytest.mark.parametrize("envelope", ["Hashed", "Omitted"])
@pytest.mark.parametrize("log_format", ["JSON", "Postscreen", "PostscreenLegacy", "pretty"])
async def test_nothing_of_the_envelope_is_in_any_signal(envelope: str, log_format: LineFormat) -> None:
    page, stream = Page.create(), io.BytesIO()
    with grpc_collector() as collector:
        telemetry = Telemetry(
            page=page,
            log_format=log_format,
            log_stream=stream,
            hostname="mx",
            pid=1,
            otlp_endpoint=collector.url,
            environ={},
        )
        telemetry.observe([hidden(envelope)])
        await telemetry.close(10.0)
        everything = stream.getvalue().decode() + str(collector.spans()) + str(collector.log_records())
        everything += telemetry.prometheus().decode()
        (root,) = (span for span in collector.spans() if span.name == "smtp.screen")
    page.close()
    assert "192.168.7.9" in everything
    assert not [word for word in PLANTED if word in everything]
    said = plain(root.attributes)
    assert ("postwarden.recipient" in said) == (envelope == "Hashed")


def test_full_shows_a_record_as_it_is() -> None:
    for envelope in ("", "Full"):
        found = hidden(envelope)
        assert privacy.shown(found) is found


def test_a_hash_is_the_same_for_the_same_address_within_one_policy_only() -> None:
    one, other = privacy.shown(hidden("Hashed")), privacy.shown(hidden("Hashed", "uid-2"))
    assert one.sender == privacy.hashed(SENDER.upper(), b"uid-1") != one.recipient
    assert one.events[0].sender == one.sender != other.sender
    assert len(one.sender) == privacy.HASH_DIGITS
    null_sender = structs.replace(hidden("Hashed"), sender="")
    assert privacy.shown(null_sender).sender == ""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", ""),
        ("QUIT\r\n", "QUIT"),
        ("ehlo friend", "ehlo [...]"),
        ("GET / HTTP/1.1", "GET [...]"),
        ("RCPT TO:<a@b>", "RCPT [...]"),
        ("MAILBOX", "[...]"),
        ("bob", "[...]"),
    ],
)
def test_of_what_a_client_said_the_command_stays(said: str, shown: str) -> None:
    assert privacy.command_word(said) == shown


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_address_stays_in_a_sentence(text: str) -> None:
    assert (
        "@"
        not in privacy.without_addresses(f"550 {text}@{text} said <{text}>")
        .replace("<", "")
        .split("[...]")[0]
    )


def test_json_keeps_what_is_no_secret() -> None:
    shown = privacy.shown(hidden("Omitted"))
    assert (shown.client_address, shown.verdict, shown.tests) == (
        "192.168.7.9",
        hidden("").verdict,
        hidden("").tests,
    )
    assert "550 5.1.1 [...]: unknown" in json.dumps(shown.reason)
