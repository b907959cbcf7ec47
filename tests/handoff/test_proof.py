"""The proof of each hand-off: what is said to the MTA, and what its answers mean."""

from collections.abc import Sequence

import pytest
from postwarden_sidecar.handoff.proof import Proof, ProofResult, combined, proofs
from postwarden_sidecar.handoff.proxy_header import SIGNATURE_V2
from postwarden_sidecar.rules.settings import Handoff
from strategies import every_split

EHLO_REPLY = b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-ETRN\r\n250-AUTH PLAIN\r\n250-8bitmime\r\n250 SMTPUTF8\r\n"
GREETING = b"220 mx.example.org ESMTP Postfix (Debian)\r\n"
DENIED = b"454 4.7.1 <x@relay-test.invalid>: Relay access denied\r\n"
LOCAL, REMOTE = ("127.0.0.1", 40000), ("127.0.0.1", 25)


def converse(proof: Proof, replies: Sequence[bytes]) -> tuple[ProofResult | None, list[bytes]]:
    """What the proof says in answer to replies, each given once the proof has nothing more to send."""
    proof.begin(LOCAL, REMOTE)
    said = [proof.data_to_send()]
    for reply in replies:
        proof.receive_bytes(reply)
        said.append(proof.data_to_send())
    return proof.result, said


def the_proof(handoff: Handoff) -> Proof:
    return proofs(handoff)[0]


def test_plain_asks_whether_the_mta_would_relay() -> None:
    result, said = converse(
        the_proof(Handoff.PLAIN),
        [GREETING, EHLO_REPLY, b"250 2.1.0 Ok\r\n", DENIED, b"250 2.0.0 Ok\r\n", b"221 Bye\r\n"],
    )
    assert said == [
        b"",
        b"EHLO [127.0.0.1]\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<x@relay-test.invalid>\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
        b"",
    ]
    assert result == ProofResult(
        "Proved", "", "mx.example.org ESMTP", ("SIZE 10240000", "ETRN", "8bitmime", "SMTPUTF8")
    )


@pytest.mark.parametrize(
    ("handoff", "header"),
    [
        (Handoff.PROXY_V1, b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 25\r\n"),
        (Handoff.PROXY_V2, SIGNATURE_V2 + b"\x20\0\0\0"),
        (Handoff.PASS, b""),
    ],
)
def test_the_header_goes_first_and_no_mail_is_begun(handoff: Handoff, header: bytes) -> None:
    result, said = converse(the_proof(handoff), [GREETING, EHLO_REPLY, b"221 Bye\r\n"])
    assert said == [header, b"EHLO [127.0.0.1]\r\n", b"QUIT\r\n", b""]
    assert result is not None
    assert result.state == "Proved"


@pytest.mark.parametrize("offer", [b"PIPECONNECT", b"x_pipe_connect"])
def test_an_mta_that_invites_talk_before_the_greeting_is_proved_with_a_word_of_advice(offer: bytes) -> None:
    """Measured: an Exim with hosts_pipe_connect, offered it by an Exim behind the sidecar, bounced its mail when its pass had expired."""
    ehlo = b"250-mx.example.org\r\n250-%s\r\n250 DSN\r\n" % offer
    result, _ = converse(the_proof(Handoff.PROXY_V1), [GREETING, ehlo, b"221 Bye\r\n"])
    assert result is not None
    assert (result.state, result.ehlo) == ("Proved", ("DSN",))
    assert "pipelining_connect_advertise_hosts" in result.detail


def test_proxy_v2_is_proved_with_local_and_with_proxy() -> None:
    first, second = proofs(Handoff.PROXY_V2)
    for proof in (first, second):
        proof.begin(("::1", 40000), ("::1", 25))
    assert first.data_to_send()[12:14] == b"\x20\x00"
    assert second.data_to_send()[12:14] == b"\x21\x21"


@pytest.mark.parametrize(
    "rcpt",
    [
        b"250 2.1.5 Ok\r\n",
        b"550 5.1.2 Domain not found\r\n",
        b"450 4.1.2 No DNS\r\n",
        b"556 5.1.10 Null MX\r\n",
    ],
)
def test_an_mta_that_would_relay_or_might_is_an_open_relay(rcpt: bytes) -> None:
    result, said = converse(the_proof(Handoff.PLAIN), [GREETING, EHLO_REPLY, b"250 Ok\r\n", rcpt])
    assert result is not None
    assert result.state == "OpenRelay"
    assert b"DATA" not in b"".join(said)
    assert "another hand-off" in result.detail


@pytest.mark.parametrize(
    "rcpt", [DENIED, b"550 relay not permitted\r\n", b"550 5.7.1 no\r\n", b"550 5.1.20 no\r\n"]
)
def test_a_refused_recipient_is_no_open_relay(rcpt: bytes) -> None:
    replies = [GREETING, EHLO_REPLY, b"250 Ok\r\n", rcpt, b"250 Ok\r\n", b"221 Bye\r\n"]
    result, _ = converse(the_proof(Handoff.PLAIN), replies)
    assert result is not None
    assert result.state == "Proved"


@pytest.mark.parametrize(
    ("replies", "state", "words"),
    [
        ([b"421 4.3.2 busy\r\n"], "Unproved", "421 4.3.2 busy"),
        ([b"554 no SMTP here\r\n"], "Unproved", "554 no SMTP here"),
        ([b"554 SMTP synchronization error\r\n"], "WrongAnswer", "554 SMTP synchronization error"),
        ([b"500 what?\r\n"], "WrongAnswer", "500 what?"),
        ([b"250 hello\r\n"], "WrongAnswer", "250 hello"),
        ([b"SSH-2.0-OpenSSH_9\r\n"], "WrongAnswer", "SSH-2.0-OpenSSH_9"),
        ([GREETING, b"502 5.5.2 Error: command not recognized\r\n"], "WrongAnswer", "expects none"),
        ([GREETING, b"554 SMTP synchronization error\r\n"], "WrongAnswer", "expects none"),
        ([GREETING + b"502 5.5.2 Error\r\n"], "WrongAnswer", "a PROXY v1 header"),
        ([GREETING, EHLO_REPLY + b"250 x\r\n"], "WrongAnswer", "more than one reply"),
        ([GREETING, EHLO_REPLY, b"250 shifted\r\n"], "WrongAnswer", "shifted"),
        ([GREETING, b"421 4.3.2 later\r\n"], "Unproved", "421 4.3.2 later"),
        ([GREETING, b"550 5.7.1 go away\r\n"], "Unproved", "550 5.7.1 go away"),
    ],
)
def test_a_wrong_answer_is_told_with_the_words_of_the_mta(
    replies: list[bytes], state: str, words: str
) -> None:
    for chunks in every_split(b"".join(replies)) if len(replies) == 1 else [replies]:
        result, _ = converse(the_proof(Handoff.PROXY_V1), chunks)
        assert result is not None
        assert result.state == state
        assert words in result.detail
        assert result.detail.isprintable()


def test_mail_refused_leaves_the_question_open() -> None:
    result, _ = converse(
        the_proof(Handoff.PLAIN), [GREETING, EHLO_REPLY, b"530 5.7.0 Must issue STARTTLS\r\n"]
    )
    assert result is not None
    assert result.state == "Unproved"


@pytest.mark.parametrize("end", ["receive_eof", "timed_out"])
def test_an_end_before_the_answers_proves_nothing(end: str) -> None:
    for replies in ([], [GREETING]):
        proof = the_proof(Handoff.PROXY_V1)
        converse(proof, replies)
        getattr(proof, end)()
        assert proof.result is not None
        assert proof.result.state == "Unproved"


@pytest.mark.parametrize("end", ["receive_eof", "timed_out"])
def test_quit_needs_no_answer(end: str) -> None:
    proof = the_proof(Handoff.PASS)
    converse(proof, [GREETING, EHLO_REPLY])
    getattr(proof, end)()
    assert proof.result is not None
    assert proof.result.state == "Proved"


def test_a_silent_mta_in_plain_is_asked_about_a_proxy_header() -> None:
    proof = the_proof(Handoff.PLAIN)
    proof.begin(LOCAL, REMOTE)
    proof.receive_eof()
    assert proof.result is not None
    assert "PROXY header" in proof.result.detail


def test_a_unix_socket_has_no_addresses_of_its_own() -> None:
    proof = the_proof(Handoff.PROXY_V1)
    proof.begin(None, None)
    assert proof.data_to_send() == b"PROXY TCP4 127.0.0.1 127.0.0.1 0 25\r\n"


def test_of_several_proofs_the_worst_counts() -> None:
    proved, wrong = ProofResult("Proved", ""), ProofResult("WrongAnswer", "no")
    assert combined([proved, wrong, proved]) is wrong
    assert combined([proved, ProofResult("Proved", "", "b")]).banner == "b"
