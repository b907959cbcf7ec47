"""The replay of a client's commands to the MTA: what the MTA hears, and what the client is answered, for every class of reply at every
step, under every split."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.actions import HandoverOutcome, Replay
from postwarden_sidecar.handoff.replay import (
    NOT_TAKEN,
    NOT_TAKEN_TLS,
    TALKED_BEHIND_STARTTLS,
    UNAVAILABLE,
    UNAVAILABLE_TLS,
    MtaDialog,
    ReplayResult,
)
from replayed_mta import (
    EHLO_REPLY,
    GREETING,
    HELLO,
    MAIL,
    OFFERED,
    OK,
    RCPT,
    STARTTLS,
    TLS,
    Mta,
    mail,
)

DONE, ANSWERED, CLOSE = HandoverOutcome.DONE, HandoverOutcome.ANSWERED, HandoverOutcome.CLOSE


@pytest.fixture
def mta() -> Mta:
    return Mta(MtaDialog(OFFERED))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(
    "answer", [b"250 2.1.5 Ok\r\n", b"550-5.1.1 no\r\n550 5.1.1 one\r\n", b"421 bye\r\n", b"503 x\r\n"]
)
def test_the_relay_begins_with_the_mtas_word_to_rcpt_whatever_it_is(
    mta: Mta, answer: bytes, size: int
) -> None:
    result = mta.ask(mail(), GREETING, EHLO_REPLY, OK, answer, size=size)
    assert result == ReplayResult(DONE, answer, rest=b"DATA\r\n")
    assert mta.heard == [HELLO, MAIL, RCPT]
    assert mta.dialog.learned == ("SIZE 1000", "8BITMIME", "STARTTLS")


@pytest.mark.parametrize(
    ("hello", "line", "rcpt"),
    [
        (b"HELO client\n", b"mail from:<>\n", b"rcpt TO:<x@y>\n"),
        (b"", b"MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n", b"RCPT TO:<x@y> NOTIFY=NEVER\r\n"),
        (b"  ehlo \xff\r\n", b"MAIL FROM:<a@b> RET=HDRS ENVID=x\r\n", b"RCPT TO:<x@y> ORCPT=rfc822;x@y\r\n"),
    ],
)
def test_the_mta_hears_the_clients_own_bytes(mta: Mta, hello: bytes, line: bytes, rcpt: bytes) -> None:
    commands = [command for command in (hello, line, rcpt) if command]
    mta.ask(mail(hello=hello, line=line, rcpt=rcpt), GREETING, *[OK for _ in commands])
    assert mta.heard == commands


# Classes of replies, and what becomes of each: at greeting, hello, MAIL; then at RCPT and STARTTLS.
REPLIES = {
    "421": b"421 4.3.2 shutting down\r\n",
    "450": b"450 4.7.1 later\r\n",
    "451": b"451 4.7.1 later\r\n",
    "454": b"454 4.7.0 no TLS now\r\n",
    "500": b"500 5.5.2 what\r\n",
    "501": b"501 5.5.4 syntax\r\n",
    "502": b"502 5.5.1 not here\r\n",
    "503": b"503 5.5.1 not now\r\n",
    "504": b"504 5.5.4 no such parameter\r\n",
    "550": b"550 5.7.1 never\r\n",
    "554": b"554 5.7.1 no, thanks\r\n",
    "554 too early": b"554 SMTP synchronization error\r\n",
    "555": b"555 5.5.4 unknown parameter\r\n",
    "354": b"354 go on\r\n",
    "two": b"250 ok\r\n250 ok\r\n",
    "garbage": b"SSH-2.0-x\r\n",
    "endless": b"2" * 5000,
    "mixed": b"250-a\r\n550 b\r\n",
    "hang-up": None,
    "silence": b"silent",
}
BEFORE: dict[str, tuple[bytes, ...]] = {
    "greeting": (),
    "hello": (GREETING,),
    "mail": (GREETING, EHLO_REPLY),
    "rcpt": (GREETING, EHLO_REPLY, OK),
    "starttls": (GREETING, EHLO_REPLY),
}
NOT_UNDERSTOOD = (
    "500",
    "502",
    "503",
    "554 too early",
)  # the last is Exim's to a PROXY header that it does not expect
BROKEN = ("two", "garbage", "endless", "mixed", "hang-up", "silence")


def expected(step: str, case: str, *, tls: bool) -> tuple[HandoverOutcome, bytes]:
    """The design's table, in words of its own."""
    reply = REPLIES[case]
    not_taken = NOT_TAKEN_TLS if tls else NOT_TAKEN
    unavailable = UNAVAILABLE_TLS if tls else UNAVAILABLE
    if case in BROKEN or reply is None:
        return ANSWERED, unavailable
    if step == "rcpt":
        return DONE, reply
    if case == "421":
        return CLOSE, reply
    if case == "354":
        return ANSWERED, unavailable
    if case in NOT_UNDERSTOOD and step != "starttls":
        return ANSWERED, not_taken
    return ANSWERED, reply


def table() -> Iterator[tuple[str, str, Replay]]:
    for case in REPLIES:
        for step in BEFORE:
            if step != "starttls":
                yield step, case, mail()
            if step in ("greeting", "hello", "starttls"):
                yield step, case, TLS


@pytest.mark.parametrize(("step", "case", "replay"), list(table()))
@pytest.mark.parametrize("size", [0, 1])
def test_every_reply_at_every_step(mta: Mta, step: str, case: str, replay: Replay, size: int) -> None:
    result = mta.ask(replay, *BEFORE[step], REPLIES[case], size=0 if case == "two" else size)
    tls = not replay.mail
    assert (result.outcome, result.reply) == expected(step, case, tls=tls)
    outright = case[0] in "45" and case != "421"
    assert (
        result.kept == mta.dialog.alive == (outright and step in ("mail", "starttls"))
        or result.outcome is DONE
    )
    spoke = case in ("two", "garbage", "endless", "mixed")
    misunderstood = case in NOT_UNDERSTOOD and step in ("greeting", "hello")
    odd = case == "354" and step != "rcpt"
    assert bool(result.wrong_answer) == (spoke or misunderstood or odd)
    assert result.reply[:1] != b"5" or result.reply == REPLIES[case], (
        "a 5xx is the MTA's word, or is not said"
    )


@pytest.mark.parametrize(("step", "case", "replay"), list(table()))
def test_what_answers_the_next_request(mta: Mta, step: str, case: str, replay: Replay) -> None:
    """The same client asks again: in the same transaction, in the next one, and, after STARTTLS was refused, in the clear."""
    first = mta.ask(replay, *BEFORE[step], REPLIES[case])
    if first.outcome is not ANSWERED:
        return
    heard = len(mta.heard)
    for_good = step in ("greeting", "hello") and case not in (*BROKEN, "354")
    again = mail(rcpt=b"RCPT TO:<c@example.org>\r\n", transaction=1)
    tls_first = not replay.mail
    said = REPLIES[case]
    if for_good:
        answer = NOT_TAKEN if case in NOT_UNDERSTOOD else said
        for transaction in (1, 2):
            assert mta.ask(mail(transaction=transaction)).reply == answer
        assert len(mta.heard) == heard
        assert mta.connections == 1
    elif not first.kept:
        assert mta.ask(again, GREETING, EHLO_REPLY, OK, OK).outcome is DONE
        assert mta.connections == 2
    elif tls_first:
        assert mta.ask(again, OK, OK).outcome is DONE
        assert mta.heard[heard:] == [MAIL, again.request]
    else:
        repeated = mta.ask(again)
        assert (repeated.reply, repeated.kept, repeated.outcome) == (first.reply, True, ANSWERED)
        assert len(mta.heard) == heard
        following = mail(transaction=2)
        assert mta.ask(following, OK, OK).outcome is DONE
        assert mta.heard[heard:] == [MAIL, RCPT], "the MTA's session is kept for the next MAIL"
        assert mta.connections == 1


def test_a_refused_mail_does_not_answer_the_same_line_in_another_transaction(mta: Mta) -> None:
    mta.ask(mail(transaction=1), GREETING, EHLO_REPLY, b"451 4.7.1 later\r\n")
    assert mta.ask(mail(transaction=2), b"550 5.7.1 never\r\n").reply == b"550 5.7.1 never\r\n"
    assert mta.ask(mail(transaction=2)).reply == b"550 5.7.1 never\r\n"


def test_a_new_hello_is_said_in_a_session_of_its_own(mta: Mta) -> None:
    """OpenSMTPD answers a second one with 503."""
    mta.ask(mail(), GREETING, EHLO_REPLY, b"550 5.7.1 never\r\n")
    other = b"HELO other.example\r\n"
    mta.ask(mail(hello=other, transaction=2), GREETING, OK, OK, OK)
    assert mta.heard == [HELLO, MAIL, other, MAIL, RCPT]
    assert mta.connections == 2


def test_a_first_hello_is_said_in_the_kept_session(mta: Mta) -> None:
    mta.ask(mail(hello=b""), GREETING, b"550 5.7.1 never\r\n")
    mta.ask(mail(transaction=2), EHLO_REPLY, OK, OK)
    assert mta.heard == [MAIL, HELLO, MAIL, RCPT]
    assert mta.connections == 1


@pytest.mark.parametrize("last_words", [None, b"421 4.4.2 idle for too long\r\n", b"whatever"])
def test_a_kept_session_that_the_mta_ends_is_made_anew(mta: Mta, last_words: bytes | None) -> None:
    mta.ask(mail(), GREETING, EHLO_REPLY, b"550 5.7.1 never\r\n")
    assert mta.dialog.alive
    if last_words is None:
        mta.dialog.receive_eof()
    else:
        mta.dialog.receive_bytes(last_words, 1.0)
    assert not mta.dialog.alive
    repeated = mta.ask(mail())
    assert repeated == ReplayResult(ANSWERED, b"550 5.7.1 never\r\n")
    assert mta.ask(mail(transaction=2), GREETING, EHLO_REPLY, OK, OK).outcome is DONE


@pytest.mark.parametrize("replay", [mail(), TLS])
def test_an_mta_that_cannot_be_reached_is_tried_again(replay: Replay) -> None:
    dialog = MtaDialog(OFFERED)
    for _ in range(2):
        dialog.begin(replay, 0.0)
        assert dialog.wants_connection
        dialog.unreachable()
        assert dialog.result == ReplayResult(ANSWERED, UNAVAILABLE if replay.mail else UNAVAILABLE_TLS)


def test_starttls_gives_the_mta_hello_and_starttls_and_nothing_else(mta: Mta) -> None:
    result = mta.ask(TLS, GREETING, EHLO_REPLY, b"220 2.0.0 Ready\r\n")
    assert result == ReplayResult(DONE, b"220 2.0.0 Ready\r\n", client_silent=True)
    assert mta.heard == [HELLO, STARTTLS]


def test_talk_behind_starttls_ends_both_sides(mta: Mta) -> None:
    mta.ask(TLS, GREETING, EHLO_REPLY, b"220 2.0.0 Ready\r\n")
    mta.dialog.client_spoke()
    assert mta.dialog.result == ReplayResult(CLOSE, TALKED_BEHIND_STARTTLS)
    assert not mta.dialog.alive


def test_words_of_the_mta_behind_its_220_to_starttls_do_not_reach_the_client(mta: Mta) -> None:
    result = mta.ask(TLS, GREETING, EHLO_REPLY, b"220 2.0.0 Ready\r\n421 4.3.2 injected\r\n")
    assert (result.outcome, result.reply) == (ANSWERED, UNAVAILABLE_TLS)


@pytest.mark.parametrize("step", ["greeting", "hello", "mail"])
def test_a_421_that_comes_with_a_good_reply_is_the_answer_to_the_next_command(mta: Mta, step: str) -> None:
    farewell = b"421 4.3.2 shutting down\r\n"
    good = {"greeting": GREETING, "hello": EHLO_REPLY, "mail": OK}[step]
    dialog = mta.dialog
    dialog.begin(mail(), 0.0)
    dialog.connected(b"", 0.0)
    for before in BEFORE[step]:
        dialog.receive_bytes(before, 0.0)
    dialog.receive_bytes(good + farewell, 0.0)
    assert dialog.result is not None
    assert dialog.result.reply == farewell
    assert dialog.result.outcome is (DONE if step == "mail" else CLOSE)


@pytest.mark.parametrize(
    "line", [b"EHLO \xff\xfe\r\n", b"EHLO a\rb\r\n", b"EHLO " + b"x" * 600 + b"\r\n", b"EHLO @\r\n"]
)
def test_an_odd_hello_calls_no_hand_off_into_question(mta: Mta, line: bytes) -> None:
    assert mta.ask(mail(hello=line), GREETING, b"502 5.5.2 what\r\n") == ReplayResult(ANSWERED, NOT_TAKEN)


def test_an_odd_command_that_gets_two_replies_calls_no_hand_off_into_question(mta: Mta) -> None:
    odd = MAIL[:-2] + b"\rNOOP\r\n"
    result = mta.ask(mail(line=odd), GREETING, EHLO_REPLY, OK + OK)
    assert result == ReplayResult(ANSWERED, UNAVAILABLE)


def test_line_ends_of_a_refusal_are_mended(mta: Mta) -> None:
    result = mta.ask(mail(), GREETING, EHLO_REPLY, b"550-5.7.1 never\n550 5.7.1 ever\n")
    assert result.reply == b"550-5.7.1 never\r\n550 5.7.1 ever\r\n"


def test_the_proxy_header_goes_first() -> None:
    dialog = MtaDialog(OFFERED)
    dialog.begin(mail(), 0.0)
    dialog.connected(b"PROXY UNKNOWN\r\n", 0.0)
    assert dialog.data_to_send() == b"PROXY UNKNOWN\r\n"
    dialog.receive_bytes(GREETING, 0.0)
    assert dialog.data_to_send() == HELLO


@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([GREETING, EHLO_REPLY, OK, *filter(None, REPLIES.values())])
    )
)
def test_no_mta_can_break_it_nor_make_it_say_5xx_of_its_own(pieces: list[bytes]) -> None:
    dialog = MtaDialog(OFFERED)
    dialog.begin(mail(), 0.0)
    dialog.connected(b"", 0.0)
    for piece in pieces:
        if dialog.result is None:
            dialog.receive_bytes(piece, 0.0)
    said = b"".join(pieces)
    if dialog.result is None:
        dialog.receive_eof()
    assert dialog.result is not None
    reply = dialog.result.reply
    if reply[:1] == b"5":
        assert reply[:3] in said
    if dialog.result.outcome is DONE:
        assert said.count(b"\n") >= 4
