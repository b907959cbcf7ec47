"""Mail for exempt recipients from a client that is refused, to a real Exim and a real OpenSMTPD."""

from collections.abc import Callable
from pathlib import Path

import pytest
from harness.mail_server import MailServer
from harness.senders import sending_postfix, submit
from harness.sidecar import up
from harness.smtp import Client
from test_exempt import POLICY, REFUSED
from test_other_mail_servers import exim, opensmtpd

MAKE: dict[str, Callable[[Path], MailServer]] = {
    "exim": lambda root: exim(root, proxy=True),
    "opensmtpd": lambda root: opensmtpd(root, proxy=True),
}
BOB_IS_EXEMPT = POLICY.replace("abuse@example.org", "bob@example.org")


@pytest.mark.parametrize("name", MAKE)
def test_an_exempt_recipient_gets_the_mail_and_nobody_else_does(
    name: str, request: pytest.FixtureRequest, postfix_root: Path
) -> None:
    with (
        MAKE[name](request.getfixturevalue(f"{name}_root")) as server,
        up(BOB_IS_EXEMPT, upstream=server.address, handoff="proxy-v2") as sidecar,
    ):
        with Client(sidecar.host, sidecar.port, source="127.0.6.1") as client:
            client.reply()
            offered = client.expect("EHLO client.example", 250).lines
            assert not {"STARTTLS", "CHUNKING", "PIPELINING"} & set(offered)
            client.expect("MAIL FROM:<alice@client.example>", 250)
            assert client.ask("RCPT TO:<carol@example.org>").lines == (REFUSED,)
            client.expect("RCPT TO:<bob@example.org>", 250)
            client.expect("RSET", 250)
            client.expect("EHLO other.example", 250)
            client.deliver("bob@example.org", subject="exact")
            assert client.ask("MAIL FROM:<alice@client.example>").code == 421
            assert client.rest() == b""
        (mail,) = server.wait_for_mail("bob")
        assert "other.example" in mail["Received"]
        assert "[127.0.6.1]" in mail["Received"]
        with Client(sidecar.host, sidecar.port, source="127.0.6.2") as client:
            client.greeted()
            client.expect("MAIL FROM:<smuggler@client.example>", 250)
            client.expect("RCPT TO:<bob@example.org>", 250)
            client.expect("DATA", 354)
            client.send(
                b"Subject: one\r\n\r\nx\n.\r\nMAIL FROM:<b@c>\r\nRCPT TO:<carol@example.org>\r\nDATA\r\ny\r\n.\r\n"
            )
            assert client.rest() == b"550 5.5.2 Error: bare <CR> or <LF> in the data\r\n"
        with sending_postfix(postfix_root, sidecar.address, "127.0.6.3") as sending:
            submit(sending, "carol@example.org", "bob@example.org")
            sending.wait_for_log(r"to=<carol@example.org>.* status=bounced .*5\.3\.2 ")
            sending.wait_for_log(r"to=<bob@example.org>.* status=sent \(250")
        server.wait_for_mail("bob", 2)
        assert len(server.mailbox("bob")) == 2
        assert server.mailbox("carol") == []
