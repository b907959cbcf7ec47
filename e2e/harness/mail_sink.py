"""A small MTA in the test's process: it takes every mail for example.org and tells what came.

Contract: `with MailSink() as sink:` listens on a free port of loopback and expects plain SMTP. With `relays` it takes mail for the whole
world, as an MTA does that trusts the address of its sidecar. For what only a real MTA can show there is `harness.postfix`.
"""

import socket
from types import TracebackType
from typing import Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

GREETING = "mail.example.org ESMTP sink"
DOMAIN = "@example.org"


class MailSink:
    """`recipients`: of the mails that came, in their order."""

    def __init__(self, *, relays: bool = False) -> None:
        self.relays = relays
        self.recipients: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = int(taken.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        host, _, ident = GREETING.partition(" ")
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, server_hostname=host, ident=ident
        )

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not self.relays and not address.endswith(DOMAIN):
            return "554 5.7.1 Relay access denied"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.recipients += envelope.rcpt_tos
        return "250 2.0.0 Ok: queued"
