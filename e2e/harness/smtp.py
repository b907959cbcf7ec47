"""SMTP clients of the tests: one that does exactly what it is told, byte by byte, and two that are somebody else's work.

Contract: each can have any source address, and live in a `NetworkNamespace`. Every wait is bounded.
"""

import asyncio
import re
import socket
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage
from types import TracebackType
from typing import Self

import aiosmtplib

from harness.netns import NetworkNamespace

TIMEOUT = 15.0
"""Seconds to wait for a reply: replies take milliseconds, greeting waits of tests a second or two."""


@dataclass(frozen=True)
class Reply:
    """code: three digits. text: what follows code and separator, a line each; `str` is the last line whole."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {self.lines[-1]}"


class Client:
    """A connection, open from its making to the end of the `with` block. port: its own."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        source: str | None = None,
        network: NetworkNamespace | None = None,
    ) -> None:
        def connect() -> socket.socket:
            bound = None if source is None else (source, 0)
            return socket.create_connection((host, port), TIMEOUT, source_address=bound)

        self.socket = connect() if network is None else network.call(connect)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = int(self.socket.getsockname()[1])
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> str:
        """The next line. Raises EOFError where the connection ends before it, TimeoutError."""
        while b"\r\n" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the connection ended after {self._received!r}")
            self._received += data
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode()

    def reply(self) -> Reply:
        """The next reply, all its lines. Raises EOFError, TimeoutError."""
        lines: list[str] = []
        while True:
            line = self.line()
            found = re.fullmatch(r"(\d{3})(?:([- ])(.*))?", line)
            assert found, f"no line of a reply: {line!r}"
            lines.append(found[3] or "")
            if found[2] != "-":
                return Reply(int(found[1]), tuple(lines))

    def ask(self, command: str) -> Reply:
        """The reply to a command."""
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def expect(self, command: str, code: int) -> Reply:
        """The reply to a command, which must have this code."""
        reply = self.ask(command)
        assert reply.code == code, f"{command}: {reply}, not {code}"
        return reply

    def greeted(self) -> Self:
        """Wait for the 220 of whoever answers; then EHLO."""
        greeting = self.reply()
        assert greeting.code == 220, str(greeting)
        self.expect("EHLO client.example", 250)
        return self

    def amid_a_mail(self) -> Self:
        """Its data has begun, and there is more to come."""
        self.expect("MAIL FROM:<alice@client.example>", 250)
        self.expect("RCPT TO:<bob@example.org>", 250)
        self.expect("DATA", 354)
        self.send(b"Subject: cut off\r\n\r\nDear")
        return self

    def deliver(self, *recipients: str, subject: str = "hello") -> None:
        """A whole mail in a session that has been greeted. Raises AssertionError where it is not taken."""
        self.expect("MAIL FROM:<alice@client.example>", 250)
        for recipient in recipients:
            self.expect(f"RCPT TO:<{recipient}>", 250)
        self.expect("DATA", 354)
        self.expect(f"From: alice@client.example\r\nSubject: {subject}\r\n\r\nDear Bob\r\n.", 250)

    def rest(self) -> bytes:
        """All that comes until the other side closes; a reset counts as that. Raises TimeoutError if it doesn't."""
        try:
            while data := self.socket.recv(65536):
                self._received += data
        except ConnectionResetError:
            pass
        rest, self._received = self._received, b""
        return rest

    def close(self) -> None:
        """With a FIN."""
        self.socket.close()

    def reset(self) -> None:
        """With a RST: SO_LINGER of 0 s."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def mail_to(recipient: str, subject: str) -> EmailMessage:
    """A small mail with a line that SMTP must escape."""
    mail = EmailMessage()
    mail["From"] = "alice@client.example"
    mail["To"] = recipient
    mail["Subject"] = subject
    mail.set_content("Dear Bob,\n\n.a line that begins with a dot\n")
    return mail


def send_with_aiosmtplib(
    host: str,
    port: int,
    recipient: str,
    *,
    subject: str = "hello",
    source: str | None = None,
    network: NetworkNamespace | None = None,
) -> None:
    """Raises aiosmtplib.SMTPException where the mail is not taken."""

    async def send() -> None:
        await aiosmtplib.send(
            mail_to(recipient, subject),
            hostname=host,
            port=port,
            start_tls=False,
            timeout=TIMEOUT,
            source_address=None if source is None else (source, 0),
        )

    if network is None:
        # In a thread: asyncio.run would take the event loop of pytest's plugin from this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(send())).result()
    else:
        network.call(lambda: asyncio.run(send()))


def send_with_swaks(
    swaks: str,
    server: str,
    recipient: str,
    *options: str,
    source: str | None = None,
    network: NetworkNamespace | None = None,
    check: bool = True,
) -> str:
    """What swaks printed: the session. Raises RuntimeError, with that, where the mail is not taken and `check`."""
    argv: Sequence[str] = [
        *(swaks, "--server", server, "--from", "alice@client.example", "--to", recipient),
        *("--helo", "client.example", "--timeout", f"{TIMEOUT:g}", *options),
        *(() if source is None else ("--local-interface", source)),
    ]
    command = list(argv) if network is None else network.command(argv)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise RuntimeError(f"swaks: exit status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
