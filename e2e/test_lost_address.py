"""Clients whose addresses are lost on their way: all come from one that is not theirs, as behind a proxy that says nothing of them."""

import re
import urllib.request
from collections.abc import Callable

from harness.mail_network import PRIVATE_MX, PUBLIC, PUBLIC_MX, MailNetwork, mail_network
from harness.postfix import Postfix
from harness.sidecar import Sidecar, up
from harness.smtp import Client, send_with_aiosmtplib

__all__ = ["mail_network"]

PROXY = "192.168.0.2"
ZOMBIES = 100  # as many as a suspicion needs
LIMIT = 4  # connections of a client
METRICS = "127.0.0.1:9464"  # in a network of its own
POLICY = f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: mail}}
spec:
  selector: {{}}
  pregreet: {{wait: 200ms}}
  limits: {{connectionsPerClient: {LIMIT}}}
"""


def talk_early(sidecar: Sidecar, outside: MailNetwork, name: str) -> None:
    with Client(PRIVATE_MX, sidecar.port, source=PROXY, network=outside.outside) as client:
        client.send(f"EHLO {name}\r\n".encode())
        client.line()  # of the greeting, which stays a teaser for it
        assert client.reply().code == 250
        client.expect("MAIL FROM:<spam@client.example>", 250)
        client.expect("RCPT TO:<bob@example.org>", 550)
        client.expect("QUIT", 221)


def greetings(sidecar: Sidecar, network: MailNetwork, server: str, source: str) -> list[int]:
    """What more connections than a client may have hear, all open at a time."""
    clients = [Client(server, sidecar.port, source=source, network=network.outside) for _ in range(LIMIT + 1)]
    try:
        return [client.reply().code for client in clients]
    finally:
        for client in clients:
            client.close()


def test_an_address_that_stands_for_many_has_no_limit_and_no_pass_and_is_told_of(
    mail_network: MailNetwork, start_postfix: Callable[..., Postfix]
) -> None:
    postfix = start_postfix(network=mail_network.mx)
    sidecar = up(
        POLICY,
        f"--metrics={METRICS}",
        upstream=postfix.address,
        handoff="plain",
        listen="0.0.0.0:0",
        network=mail_network.mx,
    )

    def lost() -> str:
        def get() -> str:
            with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=5) as response:
                return str(response.read().decode())

        found = re.search(r"^postwarden_client_address_lost (\S+)$", mail_network.mx.call(get), re.MULTILINE)
        assert found
        return found[1]

    with sidecar:
        assert lost() == "0.0"
        for number in range(ZOMBIES):
            talk_early(sidecar, mail_network, f"zombie-{number}.example")
        (said,) = sidecar.wait_for_log("clients' addresses seem to be lost: ")
        assert f"come from {PROXY}" in said
        assert lost() == "1.0"
        assert greetings(sidecar, mail_network, PRIVATE_MX, PROXY) == [220] * (LIMIT + 1)
        assert greetings(sidecar, mail_network, PUBLIC_MX, PUBLIC).count(421) == 1
        for _ in range(2):
            send_with_aiosmtplib(
                PRIVATE_MX, sidecar.port, "bob@example.org", source=PROXY, network=mail_network.outside
            )
        assert len(sidecar.wait_for_log(rf"PASS NEW \[{re.escape(PROXY)}\]", 2)) == 2, (
            "it is tested each time"
        )
        assert not [line for line in sidecar.log() if f"PASS OLD [{PROXY}]" in line]
