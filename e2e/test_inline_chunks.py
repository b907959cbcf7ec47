"""A session that is handed over in its middle and goes on with BDAT, of a client of IPv6, to a real Postfix that learns of it by a PROXY
header, in the clear and in TLS."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.postfix import Postfix
from harness.real_clients import unverified
from harness.sidecar import up
from harness.smtp import Client
from test_inline import POLICY, with_tls

CHUNKS = (b"Subject: chunks\r\n\r\n.\r\n", b"not the end\r\n.", b"\r\nstill not\r\n")


@pytest.fixture(scope="module")
def postfix(postfix_root: Path) -> Iterator[Postfix]:
    with Postfix(postfix_root, handoff="proxy", users=["bob", "carol"]) as running:
        with_tls(running)
        yield running


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("handoff", ["proxy-v1", "proxy-v2"])
def test_chunks_of_an_ipv6_client_arrive_byte_for_byte(handoff: str, tls: bool, postfix: Postfix) -> None:
    before = len(postfix.mailbox("bob"))
    with (
        up(POLICY, upstream=postfix.address, handoff=handoff, listen="[::1]:0") as sidecar,
        Client(sidecar.host, sidecar.port, source="::1") as client,
    ):
        assert client.reply().code == 220
        offered = client.expect("EHLO client.example", 250).lines
        assert {"CHUNKING", "STARTTLS"} <= set(offered), offered
        assert "PIPELINING" not in offered, "our dialogue's own answer"
        if tls:
            client.expect("STARTTLS", 220)
            client.socket = unverified().wrap_socket(client.socket)
            assert isinstance(client.socket, ssl.SSLSocket)
            client.expect("EHLO client.example", 250)
        client.expect("MAIL FROM:<alice@client.example> SIZE=100", 250)
        client.expect("RCPT TO:<bob@example.org>", 250)
        for number, chunk in enumerate(CHUNKS, 1):
            last = b" LAST" if number == len(CHUNKS) else b""
            client.send(b"BDAT %d%s\r\n" % (len(chunk), last) + chunk)
            assert client.reply().code == 250
        # A second mail of the session, its commands and its only chunk in one piece: the MTA has offered PIPELINING by now, if asked.
        client.send(
            b"MAIL FROM:<a@client.example>\r\nRCPT TO:<carol@example.org>\r\nBDAT 3 LAST\r\nx\r\nQUIT\r\n"
        )
        assert [client.reply().code for _ in range(4)] == [250, 250, 250, 221]
        sidecar.wait_for_log(r"PASS NEW \[::1\]:\d+")
    mail = postfix.wait_for_mail("bob", before + 1)[-1]
    assert mail.get_content() == ".\nnot the end\n.\nstill not\n"
    assert "[IPv6:::1]" in mail["Received"]
    assert ("ESMTPS" in mail["Received"]) == tls
    postfix.wait_for_mail("carol", before + 1)
