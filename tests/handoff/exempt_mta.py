"""An MTA in virtual time behind a refused client: engine, replay and data, as the driver puts them together."""

from __future__ import annotations

from collections.abc import Callable

from engine.scene import Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import Replay
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.handoff.exempt_data import ExemptData
from postwarden_sidecar.handoff.replay import MtaDialog
from postwarden_sidecar.rules.settings import Action, Mode, Rules, Session

GREETING, DOT = b"", b"."  # what a script is asked for besides commands
HANG_UP = None
SILENCE = b"silence"
Script = Callable[[bytes], bytes | None]
CLIENT = "192.0.2.7"


def postfix(command: bytes) -> bytes:
    """One that takes all."""
    word = command[:4].upper().rstrip()
    replies = {
        GREETING: b"220 mta.example ESMTP\r\n",
        b"EHLO": b"250-mta.example\r\n250-SIZE 1000\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
        b"DATA": b"354 go on\r\n",
        DOT: b"250 2.0.0 queued\r\n",
    }
    return replies.get(word, b"250 2.1.0 Ok\r\n")


def but(**words: bytes | None) -> Script:
    """As `postfix`, but to these words; GREETING and DOT are "greeting" and "dot". A word in capitals."""
    names = {"greeting": GREETING, "dot": DOT}
    table = {names.get(word, word.encode()): reply for word, reply in words.items()}

    def script(command: bytes) -> bytes | None:
        word = command[:4].upper().rstrip()
        return table[word] if word in table else postfix(command)

    return script


class ExemptWire(Wire):
    """A client's connection whose exempt recipients are put to an MTA. heard: its command lines; data: what came after 354. size: of the
    pieces in which client's and MTA's bytes come; 0: whole. connections: how many were made."""

    def __init__(
        self, scene: Scene, rules: Rules, script: Script, *, size: int = 0, **context: object
    ) -> None:
        self.script = script
        self.size = size
        self.heard: list[bytes] = []
        self.data = b""
        self.connections = 0
        self.dialog = MtaDialog(("SIZE", "CHUNKING"))
        self.mail: ExemptData | None = None
        super().__init__(scene, make_context(rules), CLIENT, 40000, "198.51.100.25")
        scene.wires.append(self)

    def say(self, data: bytes) -> bytes:
        """What the client gets for it."""
        before = len(self.received)
        for piece in self._pieces(data):
            if self.mail is not None:
                self._feed_data(piece)
            else:
                self.send(piece)
        return self.received[before:]

    def mta_goes(self) -> None:
        """It closes the connection between two commands."""
        self.dialog.receive_eof()

    def _pieces(self, data: bytes) -> list[bytes]:
        size = self.size or len(data) or 1
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _hand_over(self, replay: Replay) -> None:
        assert replay.exempt, "a client that is refused never gets a relay"
        dialog, now = self.dialog, self._scene.now
        dialog.begin(replay, now)
        if dialog.wants_connection:
            self.connections += 1
            dialog.connected(b"", now)
            self._answer(GREETING)
        while dialog.result is None:
            line = dialog.data_to_send()
            assert line.count(b"\r\n") == 1, "one whole command at a time"
            self.heard.append(line)
            self._answer(line)
        if dialog.result.wants_data:
            self.mail = ExemptData(dialog.result.reply, dialog.result.rest, now, dialog._limits)
            self._give(dialog.result.reply)
            self.mail.to_client.clear()
            self._feed_data(b"")
        else:
            self.engine.receive_handover(dialog.result.outcome, dialog.result.reply, now)

    def _answer(self, command: bytes) -> None:
        dialog = self.dialog
        reply = self.script(command)
        if reply is HANG_UP:
            dialog.receive_eof()
        elif reply == SILENCE:
            deadline = dialog.next_deadline()
            assert deadline is not None
            self._scene.now = deadline
            dialog.handle_timer(deadline)
        else:
            assert reply is not None
            for piece in self._pieces(reply):
                if dialog.result is None:
                    dialog.receive_bytes(piece, self._scene.now)

    def _feed_data(self, piece: bytes) -> None:
        mail = self.mail
        assert mail is not None
        now = self._scene.now
        if piece and mail.wants_client:
            mail.receive_from_client(piece, now)
        self.data += bytes(mail.to_mta)
        mail.to_mta.clear()
        if mail.result is None and mail.ended:
            reply = self.script(DOT)
            if reply is HANG_UP:
                mail.receive_mta_eof()
            elif reply == SILENCE:
                mail.handle_timer(mail.next_deadline() - 1)
                assert mail.result is None
                mail.handle_timer(mail.next_deadline())
            else:
                assert reply is not None
                for part in self._pieces(reply):
                    mail.receive_from_mta(part, now)
        self.conclude()

    def conclude(self) -> None:
        """Tell the engine if the mail is over."""
        mail = self.mail
        if mail is not None and mail.result is not None:
            self.mail = None
            self.engine.receive_handover(mail.result.outcome, mail.result.reply, self._scene.now)
            self.pump()

    def lose(self) -> None:
        """The client goes within the data."""
        self.mail = None
        self.reset()


REFUSED = b"550 5.3.2 Service currently unavailable\r\n"
EHLO, MAIL = b"EHLO client.example\r\n", b"MAIL FROM:<a@example.com>\r\n"
EXEMPT, OTHER = b"RCPT TO:<Postmaster@example.org>\r\n", b"RCPT TO:<b@example.org>\r\n"
ABUSE = b"RCPT TO:<abuse@example.com>\r\n"
DATA, BODY = b"DATA\r\n", b"Subject: hello\r\n\r\n..dot\r\n\0\xff text\r\n.\r\n"
OK, QUEUED = b"250 2.1.0 Ok\r\n", b"250 2.0.0 queued\r\n"
NOOP = b"NOOP\r\n"
LAST = b"421 4.3.2 One mail a connection is taken from you\r\n"
LOST = b"421 4.3.2 Service currently unavailable\r\n"
EVERYBODY = ("postmaster@", "abuse@example.com", "@example.net")


LATER, NO = b"450 4.7.1 later\r\n", b"550 5.7.1 no\r\n"
UNAVAILABLE = b"450 4.3.2 Service currently unavailable\r\n"
NOT_READY = b"450 4.3.0 Error: the mail system is not ready for this session, try again later\r\n"
BYE = b"421 4.3.2 bye\r\n"
ODD = {"hang-up": HANG_UP, "silence": SILENCE, "garbage": b"SSH-2.0\r\n", "354": b"354 go on\r\n"}


def rules(
    session: Session = Session(),  # noqa: B008  (frozen)
    action: Action = Action.ENFORCE,
    mode: Mode = Mode.ENFORCE,
    exempt: tuple[str, ...] = EVERYBODY,
) -> Rules:
    """The client is on the deny list."""
    return make_rules(
        reject=("192.0.2.0/24",), reject_action=action, banner="", session=session, mode=mode, exempt=exempt
    )


def begun(script: Script = postfix, policy: Rules | None = None, *, size: int = 0) -> ExemptWire:
    """After EHLO and MAIL."""
    wire = ExemptWire(Scene(), policy or rules(), script, size=size)
    assert wire.say(EHLO).startswith(b"250")
    assert wire.say(MAIL) == OK
    return wire


def record_of(wire: ExemptWire) -> Record:
    assert wire.record is not None
    return wire.record


def taken(script: Script = postfix, policy: Rules | None = None, *, size: int = 0) -> ExemptWire:
    """After an exempt recipient that the MTA has taken."""
    wire = begun(script, policy, size=size)
    assert wire.say(EXEMPT) == OK
    return wire
