"""An MTA on the other side of a replay: it answers each command with the next reply of its script, in pieces of any size."""

from __future__ import annotations

from postwarden_sidecar.engine.actions import Replay
from postwarden_sidecar.handoff.replay import MtaDialog, ReplayResult

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\n"
RCPT = b"RCPT TO:<b@example.org>\r\n"
STARTTLS = b"STARTTLS\r\n"
OFFERED = ("SIZE", "8BITMIME", "SMTPUTF8", "DSN", "STARTTLS")
GREETING = b"220 mta.example ESMTP\r\n"
EHLO_REPLY = b"250-mta.example\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"
OK = b"250 2.1.0 Ok\r\n"


def mail(*, hello: bytes = HELLO, line: bytes = MAIL, rcpt: bytes = RCPT, transaction: int = 1) -> Replay:
    return Replay(hello, line, rcpt, b"DATA\r\n", transaction)


TLS = Replay(HELLO, b"", STARTTLS, b"", 0)


class Mta:
    """Answers each command in turn with the next of its replies; None: it closes; "silent": it says nothing."""

    def __init__(self, dialog: MtaDialog) -> None:
        self.dialog = dialog
        self.now = 0.0
        self.connections = 0
        self.heard: list[bytes] = []  # all, in the order in which it came

    def ask(self, replay: Replay, *replies: bytes | None, size: int = 0) -> ReplayResult:
        """Put replay to the MTA; its replies come in pieces of size bytes."""
        dialog, script = self.dialog, iter(replies)
        dialog.begin(replay, self.now)
        if dialog.wants_connection:
            self.connections += 1
            dialog.connected(b"", self.now)
            assert dialog.data_to_send() == b"", "nothing is said before the MTA's 220"
            self._say(next(script), size)
        while dialog.result is None:
            self.heard.append(dialog.data_to_send())
            assert self.heard[-1].count(b"\n") == 1, "one command at a time"
            self._say(next(script), size)
        assert list(script) == [], "the MTA was asked less than the test expects"
        assert dialog.data_to_send() == b""
        assert dialog.next_deadline() is None
        return dialog.result

    def _say(self, reply: bytes | None, size: int) -> None:
        if reply is None:
            self.dialog.receive_eof()
        elif reply == b"silent":
            deadline = self.dialog.next_deadline()
            assert deadline is not None
            self.dialog.handle_timer(deadline - 0.01)
            assert self.dialog.result is None
            self.dialog.handle_timer(deadline)
        else:
            size = size or len(reply)
            for start in range(0, len(reply), size):
                self.dialog.receive_bytes(reply[start : start + size], self.now)
