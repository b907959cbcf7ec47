"""An SMTP client as a program: `python3 -c` runs it in a pod, so that no image has to hold it.

Contract: `pod_client.py KIND HOST PORT [RECIPIENT [SUBJECT]]` speaks SMTP as KIND does and prints one JSON object:
{"replies": [every reply, whole], "ended": how the connection ended}. Kinds:

good       waits for each reply, delivers one mail
early      talks before the greeting has ended
malformed  sends an HTTP request after EHLO
held       as `good`, but waits for a line on stdin between the greeting and MAIL; prints `greeted` when it waits
flow       mail after mail, each on a connection of its own, until stdin ends; prints a JSON object for each:
           {"subject", "accepted": whether the whole mail was, "reply": the last that was heard or "",
           "kind": the error's class or "", "took": seconds}

Imports the standard library only. Every wait is bounded.
"""

import json
import select
import socket
import sys
import time

TIMEOUT = 30.0
"""Seconds for a reply: a greeting's wait is 6 s at most."""

PAUSE = 0.1
"""Seconds between two mails of a flow."""


class Session:
    """A connection; `replies` are all that were heard. accepted: whether the mail's end was answered with 250."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), TIMEOUT)
        self.replies: list[str] = []
        self.accepted = False
        self._received = b""

    def reply(self) -> str:
        """The next reply. Raises EOFError, OSError."""
        lines = []
        while True:
            while b"\n" not in self._received:
                data = self.socket.recv(65536)
                if not data:
                    raise EOFError("closed")
                self._received += data
            line, _, self._received = self._received.partition(b"\n")
            lines.append(line.decode(errors="replace").rstrip("\r"))
            if lines[-1][3:4] != "-":
                self.replies.append("\n".join(lines))
                return self.replies[-1]

    def ask(self, text: str) -> str:
        self.socket.sendall(text.encode() + b"\r\n")
        return self.reply()

    def mail(self, recipient: str, subject: str) -> None:
        """A whole mail, or up to the first refusal."""
        message = f"From: alice@client.example\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nDear Bob\r\n."
        for line in (
            "EHLO client.example",
            "MAIL FROM:<alice@client.example>",
            f"RCPT TO:<{recipient}>",
            "DATA",
            message,
        ):
            if self.ask(line)[:1] not in "23":
                return
        self.accepted = True
        self.ask("QUIT")


def play(kind: str, session: Session, recipient: str, subject: str) -> None:
    """Raises EOFError, OSError when the other side ends it."""
    if kind == "early":
        session.socket.sendall(b"EHLO client.example\r\n")
    if not session.reply().startswith("220"):
        return
    if kind == "held":
        print("greeted", flush=True)
        sys.stdin.readline()
    if kind == "malformed":
        session.ask("EHLO client.example")
        session.ask("GET / HTTP/1.1")
        session.reply()
    if kind == "early":
        # As postscreen: who talked early gets no second line of the greeting, but the answer to what it said.
        if "250" not in session.replies[0]:
            session.reply()
        session.ask("MAIL FROM:<alice@client.example>")
        session.ask(f"RCPT TO:<{recipient}>")
        session.ask("QUIT")
        return
    session.mail(recipient, subject)


def one(kind: str, host: str, port: int, recipient: str, subject: str) -> dict[str, object]:
    """One connection."""
    replies: list[str] = []
    ended = "by us"
    try:
        session = Session(host, port)
        replies = session.replies
        play(kind, session, recipient, subject)
        session.socket.close()
    except (EOFError, OSError) as error:
        ended = type(error).__name__
    return {"replies": replies, "ended": ended}


def flow(host: str, port: int, recipient: str, subject: str) -> None:
    """Until stdin ends."""
    number = 0
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        number += 1
        name = f"{subject}-{number}"
        start = time.monotonic()
        kind, session = "", None
        try:
            session = Session(host, port)
            if session.reply().startswith("220"):
                session.mail(recipient, name)
        except (EOFError, OSError) as error:
            kind = type(error).__name__ + (" at connect" if session is None else "")
        finally:
            if session is not None:
                session.socket.close()
        heard = [] if session is None else [each for each in session.replies if not each.startswith("221")]
        told = {
            "subject": name,
            # A mail whose 250 came is accepted, whatever became of QUIT; a recipient's 250 is no mail's.
            "accepted": session is not None and session.accepted,
            "reply": heard[-1] if heard else "",
            "kind": kind,
            "took": round(time.monotonic() - start, 2),
        }
        print(json.dumps(told), flush=True)


def main() -> None:
    kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    recipient = sys.argv[4] if len(sys.argv) > 4 else "bob@example.org"
    subject = sys.argv[5] if len(sys.argv) > 5 else "hello"
    if kind == "flow":
        flow(host, port, recipient, subject)
    else:
        print(json.dumps(one(kind, host, port, recipient, subject)), flush=True)


if __name__ == "__main__":
    main()
