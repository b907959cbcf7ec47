"""All readers of an MTA's words: single replies, the opening of a relay, the replay of a session, the proof. Whatever an MTA says, in
whatever pieces: nothing of the client goes to it before its 220, one command at a time, no 5xx that it did not say, bounded memory."""

from __future__ import annotations

from postwarden_sidecar.engine.actions import HandoverOutcome, Replay
from postwarden_sidecar.handoff.proof import proofs
from postwarden_sidecar.handoff.replay import MtaDialog
from postwarden_sidecar.handoff.replies import MAX_LINE, MAX_LINES, BadReply, Reply, ReplyParser
from postwarden_sidecar.handoff.reply_watch import MAX_FIRST_LINE, Refused, ReplyWatch, Stage, WrongAnswer
from postwarden_sidecar.rules.settings import Handoff

from fuzz_targets.choices import Choices

OFFERED = ("SIZE", "8BITMIME", "DSN", "STARTTLS")
MAX_SENTENCE = 1000  # characters of what is told to a person
KEPT = MAX_LINE * (MAX_LINES + 1)  # bytes of one reply


def fuzz(data: bytes) -> None:
    """The first byte: which reader."""
    choices = Choices(data)
    reader = choices.pick((_replies, _watch, _replay, _proof))
    reader(choices)


# --- single replies


def _replies(choices: Choices) -> None:
    pieces = choices.pieces(b"")
    cuts = [len(piece) for piece in pieces]
    sizes = [choices.byte() for _ in range(choices.byte() % 6)]
    stream = b"".join(_chunks(choices))
    whole = _read([stream])
    cut, left = [], stream
    for size in sizes + cuts:
        cut.append(left[:size])
        left = left[size:]
    assert _read([*cut, left]) == whole, "the cuts make a difference"
    if len(stream) < 3000:
        assert _read([bytes((byte,)) for byte in stream]) == whole, "byte by byte it means something else"


def _chunks(choices: Choices) -> list[bytes]:
    chunks = []
    while not choices.over:
        chunks.append(choices.chunk())
    return chunks


def _read(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    """All replies, and whether it ended in what is none."""
    parser = ReplyParser()
    replies: list[Reply] = []
    fed = b""
    for piece in pieces:
        fed += piece
        parser.receive(piece)
        try:
            while (reply := parser.next_reply()) is not None:
                assert 200 <= reply.code <= 599
                assert str(reply).isprintable()
                assert len(reply.lines) <= MAX_LINES
                replies.append(reply)
        except BadReply as error:
            assert len(str(error)) < MAX_SENTENCE
            assert str(error).isprintable()
            return replies, True
        assert len(parser._buffer) - parser._parsed < MAX_LINE
        assert parser._parsed <= KEPT
    assert b"".join(reply.raw for reply in replies) + parser.take_rest() == fed
    return replies, False


# --- the opening of a relay


def _watch(choices: Choices) -> None:
    watch = ReplyWatch()
    said = to_mta = to_client = by_mta = b""
    try:
        while not choices.over:
            if choices.byte() % 2:
                piece = choices.chunk()
                by_mta += piece
                before = watch.stage
                output = watch.receive_from_mta(piece)
                to_client += output
                if before is Stage.GREETING and output:
                    assert output.startswith(b"220"), "the client hears of another greeting than 220"
            elif watch.wants_client:
                piece = choices.chunk()
                said += piece
                to_mta += watch.receive_from_client(piece)
            if watch.stage is Stage.GREETING:
                assert to_mta == b"", "the client's words went to the MTA before its 220"
            if watch.stage is not Stage.OVER:
                assert to_mta.count(b"\n") <= 1 or b"\n" not in to_mta[:-1], "more than the first command"
                assert len(watch._from_client) <= MAX_FIRST_LINE + 255 * 600
            if watch.stage is Stage.OVER:
                break
        for_mta, for_client = watch.take_rest()
        assert to_mta + for_mta == said, "bytes of the client are lost or changed"
        assert to_client + for_client == by_mta, "bytes of the MTA are lost or changed"
        assert watch.take_rest() == (b"", b"")
    except WrongAnswer as error:
        assert len(str(error)) < MAX_SENTENCE
        assert str(error).isprintable()
    except Refused as error:
        assert str(error)[:1] in "45"
        assert str(error).isprintable()
        assert str(error)[:3].encode() in by_mta, "a refusal that the MTA did not say"


# --- the replay of a session

_REQUESTS = (
    Replay(b"EHLO c.example\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", 1),
    Replay(b"EHLO c.example\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<e@d>\r\n", b"", 1),
    Replay(b"EHLO c.example\r\n", b"MAIL FROM:<a@b> SMTPUTF8\r\n", b"RCPT TO:<c@d> NOTIFY=NEVER\r\n", b"", 2),
    Replay(b"HELO c.example\n", b"mail from:<>\n", b"rcpt to:<c@d>\n", b"", 3),
    Replay(b"", b"MAIL FROM:<a\xff@b>\r\n", b"RCPT TO:<c@d>\r\n", b"", 4),
    Replay(b"EHLO c.example\r\n", b"", b"STARTTLS\r\n", b"", 4),
)


def _replay(choices: Choices) -> None:
    dialog = MtaDialog(OFFERED)
    now = 0.0
    by_mta = b""
    for _ in range(6):
        if choices.over:
            return
        replay = choices.pick(_REQUESTS)
        dialog.begin(replay, now)
        fresh = dialog.wants_connection
        if fresh:
            if choices.byte() % 16 == 15:
                dialog.unreachable()
            else:
                dialog.connected(b"", now)
                assert dialog.data_to_send() == b"", "words before the MTA's 220"
        heard: list[bytes] = []
        answered = 0
        while dialog.result is None:
            command = dialog.data_to_send()
            if command:
                assert command in (replay.hello, replay.mail, replay.request), (
                    "not the client's own bytes, or several"
                )
                heard.append(command)
            assert dialog.next_deadline() is not None, "a wait without an end"
            if choices.over:
                dialog.receive_eof()
                break
            event = choices.byte() % 16
            if event == 15:
                dialog.receive_eof()
            elif event == 14:
                now = dialog.next_deadline() or now
                dialog.handle_timer(now)
                assert dialog.result is not None
            else:
                piece = choices.chunk()
                by_mta += piece
                dialog.receive_bytes(piece, now)
                answered += 1
        _judge(dialog, replay, heard, by_mta)
        result = dialog.result
        assert result is not None
        if result.outcome is HandoverOutcome.DONE:
            if result.client_silent:
                dialog.client_spoke()
                assert dialog.result is not None
                assert dialog.result.outcome is HandoverOutcome.CLOSE
            return
        if result.outcome is HandoverOutcome.CLOSE:
            return
        if result.kept and choices.byte() % 4 == 3:  # what it says unasked
            dialog.receive_bytes(choices.chunk(), now)
            assert not dialog.alive


def _judge(dialog: MtaDialog, replay: Replay, heard: list[bytes], by_mta: bytes) -> None:
    result = dialog.result
    assert result is not None
    assert dialog.next_deadline() is None
    assert dialog.data_to_send() == b"", "words for an MTA that nobody listens to"
    assert len(result.wrong_answer) < MAX_SENTENCE
    assert len(result.reply) <= KEPT + MAX_LINE * 2
    order = [line for line in (replay.hello, replay.mail, replay.request) if line]
    assert heard == [line for line in order if line in heard], "commands in another order, or twice"
    assert result.reply.endswith(b"\n") or result.outcome is HandoverOutcome.DONE
    if result.outcome is HandoverOutcome.DONE:
        # A 421 that came with the reply to MAIL answers it unsaid.
        assert heard[-1:] == [replay.request] or result.reply.startswith(b"421"), (
            "handed over without its request"
        )
        assert result.rest == replay.rest
        assert replay.mail or result.reply[:3] == b"220"
    elif result.outcome is HandoverOutcome.CLOSE:
        assert result.reply.startswith(b"421")
    else:
        assert result.reply[:1] in (b"4", b"5")
    if result.reply[:1] == b"5":
        assert result.reply[:3] in by_mta, "a 5xx that the MTA did not say"


# --- the proof


def _proof(choices: Choices) -> None:
    handoff = choices.pick(tuple(Handoff))
    proof = choices.pick(proofs(handoff))
    proof.begin(choices.pick((None, ("192.0.2.1", 4000), ("2001:db8::1", 4000))), None)
    written = len(proof.data_to_send())
    while not choices.over and proof.result is None:
        piece = choices.chunk()
        proof.receive_bytes(piece)
        sent = proof.data_to_send()
        written += len(sent)
        assert sent.count(b"\n") <= 1, "one command at a time"
    if proof.result is None:
        proof.receive_eof() if written % 2 else proof.timed_out()
    result = proof.result
    assert result is not None
    assert len(result.detail) < MAX_SENTENCE
    assert result.detail == "" or result.detail.isprintable()
    assert all(line.isprintable() and len(line) <= 100 for line in result.ehlo)
    assert result.banner == "" or result.banner.isprintable()
    assert written < 1000
