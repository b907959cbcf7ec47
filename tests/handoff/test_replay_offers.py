"""What our dialogue offered and this MTA does not: it is ours to answer for, with 450, and never with the MTA's 5xx."""

from __future__ import annotations

import pytest
from postwarden_sidecar.engine.actions import HandoverOutcome
from postwarden_sidecar.handoff.replay import NOT_TAKEN, NOT_TAKEN_TLS, MtaDialog
from replayed_mta import EHLO_REPLY, GREETING, HELLO, MAIL, OFFERED, OK, RCPT, TLS, Mta, mail

DONE, ANSWERED = HandoverOutcome.DONE, HandoverOutcome.ANSWERED


PARAMETERS = {
    b"SIZE=10": "SIZE",
    b"BODY=8BITMIME": "8BITMIME",
    b"body=7bit": "8BITMIME",
    b"SMTPUTF8": "SMTPUTF8",
    b"RET=FULL": "DSN",
    b"ENVID=1": "DSN",
    b"NOTIFY=NEVER": "DSN",
    b"ORCPT=rfc822;x@y": "DSN",
}


def test_a_client_that_may_send_chunks_the_mta_takes_none_of_is_asked_to_come_back() -> None:
    """It would hear 503 to BDAT in the relay, and bounce its mail."""
    mta = Mta(MtaDialog([*OFFERED, "CHUNKING"]))
    first = mta.ask(mail(), GREETING, EHLO_REPLY)
    assert (first.outcome, first.reply, first.wrong_answer) == (ANSWERED, NOT_TAKEN, "")
    assert not mta.dialog.alive
    assert mta.dialog.learned is not None
    assert "CHUNKING" not in mta.dialog.learned, "the next client is not offered it"
    assert mta.ask(mail(transaction=2)).reply == NOT_TAKEN
    assert mta.connections == 1


@pytest.mark.parametrize(
    ("offered", "hello", "ehlo"),
    [
        (OFFERED, HELLO, EHLO_REPLY),
        ((*OFFERED, "CHUNKING"), HELLO, b"250-mta.example\r\n250 chunking\r\n"),
        ((*OFFERED, "CHUNKING"), b"HELO client.example\r\n", OK),
    ],
    ids=["not offered", "taken", "HELO"],
)
def test_a_client_that_was_promised_no_chunks_in_vain_is_relayed(
    offered: tuple[str, ...], hello: bytes, ehlo: bytes
) -> None:
    mta = Mta(MtaDialog(offered))
    assert mta.ask(mail(hello=hello), GREETING, ehlo, OK, OK).outcome is DONE


@pytest.mark.parametrize("code", [b"504", b"555", b"501", b"503", b"550"])
@pytest.mark.parametrize("parameter", PARAMETERS)
@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize("at_rcpt", [True, False])
def test_a_parameter_that_we_offered_and_the_mta_does_not_is_ours_to_answer_for(
    parameter: bytes, code: bytes, offered: bool, still: bool, at_rcpt: bool
) -> None:
    keyword = PARAMETERS[parameter]
    mta = Mta(MtaDialog([keyword] if offered else []))
    ehlo = b"250-mta.example\r\n250 %s\r\n" % (keyword.encode() if still else b"HELP")
    refusal = code + b" 5.5.4 no such thing\r\n"
    if at_rcpt:
        result = mta.ask(mail(rcpt=RCPT[:-2] + b" " + parameter + b"\r\n"), GREETING, ehlo, OK, refusal)
    else:
        result = mta.ask(mail(line=MAIL[:-2] + b" " + parameter + b"\r\n"), GREETING, ehlo, refusal)
    ours = offered and not still and code != b"550"
    # A 503 to MAIL may also mean that the dialogue is out of step.
    ours |= code == b"503" and not at_rcpt
    assert result.reply == (NOT_TAKEN if ours else refusal)
    assert (result.outcome is DONE) == (at_rcpt and not ours)


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize("refusal", [b"502 5.5.1 not here\r\n", b"454 4.7.0 not now\r\n"])
def test_tls_that_we_offered_and_the_mta_does_not_is_ours_to_answer_for(still: bool, refusal: bytes) -> None:
    """A sender that insists on TLS bounces its mail at a 5xx to STARTTLS (measured: Postfix)."""
    mta = Mta(MtaDialog(["STARTTLS"]))
    ehlo = b"250-mta.example\r\n250 %s\r\n" % (b"STARTTLS" if still else b"HELP")
    result = mta.ask(TLS, GREETING, ehlo, refusal)
    ours = not still and refusal.startswith(b"502")
    assert (result.outcome, result.reply) == (ANSWERED, NOT_TAKEN_TLS if ours else refusal)
    assert result.kept


def test_after_helo_nothing_was_offered() -> None:
    mta = Mta(MtaDialog(OFFERED))
    line = MAIL[:-2] + b" SIZE=10\r\n"
    refusal = b"555 5.5.4 unsupported\r\n"
    assert mta.ask(mail(hello=b"HELO x\r\n", line=line), GREETING, OK, refusal).reply == refusal
    assert mta.dialog.learned is None
