"""The demo's sample clients: one of every kind that a mail server meets. Each speaks real SMTP from a loopback address of its own.

A client returns the last reply that it saw. Clients take their time or not as the real ones do; each is bounded by CLIENT_TIMEOUT.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from postwarden_sidecar.engine.record import Verdict

CLIENT_TIMEOUT = 20.0  # seconds; the demo's greeting wait is 2 s, so that this is ample


class Session:
    """One client's connection, in whole replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.last = "(nothing)"

    async def reply(self) -> str:
        """The last line of the next reply, teaser lines included in it; "" at the end of the connection."""
        while True:
            line = (await self._reader.readline()).decode("latin-1").rstrip("\r\n")
            if not line:
                return ""
            self.last = line
            if line[3:4] != "-":
                return line

    async def first_line(self) -> None:
        """Wait for the first line only: all that an impatient client needs."""
        self.last = (await self._reader.readline()).decode("latin-1").rstrip("\r\n") or self.last

    async def say(self, text: str) -> None:
        """Send without waiting for an answer."""
        self._writer.write(text.encode("latin-1"))
        await self._writer.drain()

    async def ask(self, line: str) -> str:
        """Send one command and wait for its reply."""
        await self.say(line + "\r\n")
        return await self.reply()

    async def until_closed(self) -> None:
        """Read all replies that still come."""
        while await self.reply():
            pass


async def _mail(session: Session, helo: str, sender: str, recipient: str = "someone@example.org") -> None:
    """A well-behaved delivery of one message, up to the first refusal."""
    if not (await session.reply()).startswith("220"):
        return
    for line in (f"EHLO {helo}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
        if (await session.ask(line))[:1] not in ("2", "3"):
            refused = session.last
            await session.ask("QUIT")
            session.last = refused
            return
    await session.ask(f"From: {sender}\r\nTo: {recipient}\r\nSubject: Greetings\r\n\r\nHello!\r\n.")
    accepted = session.last
    await session.ask("QUIT")
    session.last = accepted


async def good_sender(session: Session) -> None:
    """Waits for the greeting and delivers."""
    await _mail(session, "mail.good.example", "friend@good.example")


async def partner(session: Session) -> None:
    """Permitted by address: no test, no wait."""
    await _mail(session, "mx.partner.example", "billing@partner.example")


async def listed(session: Session) -> None:
    """In a rejected network: hears it at RCPT, so that sender and recipient are logged."""
    await _mail(session, "bulk.listed.example", "offers@listed.example")


async def wrongly_listed(session: Session) -> None:
    """In a rejected network, and asks the postmaster why: everybody may write there."""
    await _mail(session, "mail.wrongly.example", "admin@wrongly.example", "postmaster@example.org")


async def early_talker(session: Session) -> None:
    """A zombie that does not wait for the greeting."""
    await session.first_line()
    for line in ("EHLO early.example", "MAIL FROM:<pills@early.example>", "RCPT TO:<someone@example.org>"):
        await session.ask(line)
    refused = session.last
    await session.ask("QUIT")
    session.last = refused


async def pipeliner(session: Session) -> None:
    """Waits for the greeting, then fires its whole session off, though nobody offered PIPELINING."""
    await session.reply()
    await session.say(
        "EHLO pipe.example\r\nMAIL FROM:<win@pipe.example>\r\nRCPT TO:<someone@example.org>\r\nQUIT\r\n"
    )
    refused = session.last
    while line := await session.reply():
        refused = line if line.startswith("5") else refused
    session.last = refused


async def http_prober(session: Session) -> None:
    """A web scanner that tries every port."""
    await session.say("GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n")
    await session.until_closed()


async def port_scanner(session: Session) -> None:
    """Looks at the first line and goes away."""
    await session.first_line()


@dataclass(frozen=True)
class SampleClient:
    """kind: what a person calls it. after: seconds from the demo's start. expected: the verdict that it is there to show."""

    kind: str
    address: str
    after: float
    behave: Callable[[Session], Awaitable[None]]
    expected: Verdict


SAMPLE_CLIENTS = (
    SampleClient("good sender, first visit", "127.0.1.10", 0.0, good_sender, Verdict.PASS_NEW),
    SampleClient("partner on the access list", "127.0.2.20", 0.4, partner, Verdict.ALLOWLISTED),
    SampleClient("listed spam source", "127.66.6.6", 0.8, listed, Verdict.REJECTED),
    SampleClient("listed, asks postmaster", "127.66.7.7", 1.0, wrongly_listed, Verdict.EXEMPTED),
    SampleClient("talks before the greeting", "127.0.3.30", 1.2, early_talker, Verdict.REJECTED),
    SampleClient("sends everything at once", "127.0.3.31", 1.6, pipeliner, Verdict.REJECTED),
    SampleClient("HTTP prober", "127.0.3.32", 2.0, http_prober, Verdict.DROPPED),
    SampleClient("port scanner", "127.0.3.33", 2.4, port_scanner, Verdict.HANGUP),
    SampleClient("good sender, again", "127.0.1.10", 3.2, good_sender, Verdict.PASS_OLD),
)


async def run_client(client: SampleClient, host: str, port: int) -> str:
    """Play one client; the last reply it saw, or what went wrong. Never raises but for cancellation."""
    try:
        async with asyncio.timeout(CLIENT_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port, local_addr=(client.address, 0))
            session = Session(reader, writer)
            try:
                await client.behave(session)
            except (ConnectionError, TimeoutError):
                pass  # a client that is cut off, or has no patience, has seen what it has seen
            finally:
                writer.close()
            return session.last
    except (OSError, TimeoutError) as error:
        return f"({error or 'timed out'})"
