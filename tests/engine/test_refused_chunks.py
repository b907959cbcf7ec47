"""BDAT where no recipient is valid: the connection ends with its reply, and the chunk is never taken for commands."""

from __future__ import annotations

import pytest
from engine.scene import Scene, make_context, make_rules
from postwarden_sidecar.engine.actions import HandOver, HandoverOutcome
from postwarden_sidecar.rules.settings import Action, Protocol, ProtocolTest

EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\n"
RCPT = b"RCPT TO:<b@example.org>\r\n"
CHUNK = b"RSET\r\nMAIL FROM:<injected@example.com>\r\nRCPT TO:<c@example.org>\r\nNOOP\r\n"
BDAT = b"BDAT %d LAST\r\n" % len(CHUNK)
NO_RECIPIENTS = b"554 5.5.1 Error: no valid recipients\r\n"
SAID_BEFORE = {
    "MAIL that is none": ([b"MAIL\r\n"], b"554 5.5.1 Error: need MAIL command\r\n"),
    "RCPT that is none": ([MAIL, b"RCPT TO\r\n"], NO_RECIPIENTS),
    "RCPT that the MTA refused": ([MAIL, RCPT], NO_RECIPIENTS),
}


@pytest.mark.parametrize("action", [Action.ENFORCE, Action.IGNORE])
@pytest.mark.parametrize("split", [None, 0, 1, 7, len(CHUNK) - 1])
@pytest.mark.parametrize("case", SAID_BEFORE)
def test_a_chunk_is_never_taken_for_commands(case: str, split: int | None, action: Action) -> None:
    """split: so many bytes of the chunk come with BDAT (None: all), the rest behind its reply."""
    before, reply = SAID_BEFORE[case]
    test = ProtocolTest(True, action)
    scene = Scene()
    scene.handover = (HandoverOutcome.ANSWERED, b"550 5.7.1 Not from you\r\n")
    wire = scene.connect(make_context(make_rules(banner="", protocol=Protocol(test, test, test))))
    for line in (EHLO, *before):
        wire.send(line)
    heard = len(wire.received)
    asked = [action for action in wire.actions if isinstance(action, HandOver)]
    assert len(asked) == (case == "RCPT that the MTA refused")
    wire.send(BDAT + CHUNK[:split])
    wire.send(CHUNK[len(CHUNK) if split is None else split :])
    assert wire.received[heard:] == reply
    assert wire.closed
    assert [action for action in wire.actions if isinstance(action, HandOver)] == asked
