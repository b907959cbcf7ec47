"""The demo's mail server: takes every mail for example.org and keeps it in memory. Wants a PROXY header, so that it sees real addresses."""

from __future__ import annotations

from dataclasses import dataclass

from aiosmtpd.controller import Controller
from aiosmtpd.proxy_protocol import ProxyData
from aiosmtpd.smtp import SMTP, Envelope, Session

PROXY_TIMEOUT = 5.0  # seconds to wait for the header; it is sent at once, with the connection


@dataclass(frozen=True)
class Delivery:
    """A mail that arrived, and whom the mail server took for its client."""

    client: str
    sender: str
    recipient: str


class Sink:
    """Callbacks of aiosmtpd."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    async def handle_PROXY(
        self, server: SMTP, session: Session, envelope: Envelope, proxy: ProxyData
    ) -> bool:
        """Any header that parses is believed: only the sidecar reaches this port."""
        return True

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """No relay: the sidecar's proof of the hand-off asks for one."""
        if not address.endswith("@example.org"):
            return "554 5.7.1 Relay access denied"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep it."""
        proxy = session.proxy_data
        client = (
            str(proxy.src_addr) if proxy is not None and proxy.src_addr is not None else str(session.peer)
        )
        for recipient in envelope.rcpt_tos:
            self.deliveries.append(Delivery(client, envelope.mail_from or "", recipient))
        return "250 2.0.0 Ok: queued"


def start_sink(sink: Sink, port: int) -> Controller:
    """Serve on loopback, in a thread; call stop() on the result at the end."""
    controller = Controller(
        sink,
        hostname="127.0.0.1",
        port=port,
        server_hostname="mail.example.org",
        ident="ESMTP demo",
        proxy_protocol_timeout=PROXY_TIMEOUT,
    )
    controller.start()
    return controller
