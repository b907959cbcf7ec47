"""A mail goes from a client through the sidecar into a mailbox of a real Postfix, in each hand-off, and keeps its client's address."""

from collections.abc import Callable

import pytest
from harness.mail_network import PRIVATE_MX, PUBLIC, PUBLIC_MX, REJECTED, V6, V6_MX, MailNetwork, mail_network
from harness.milter import Milter
from harness.postfix import Postfix
from harness.sidecar import up
from harness.smtp import send_with_aiosmtplib, send_with_swaks

__all__ = ["mail_network"]

POLICY = """
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: mail}
spec:
  selector: {}
  pregreet: {wait: 200ms}
"""
POSTFIX_OF = {"plain": "plain", "proxy-v1": "proxy", "proxy-v2": "proxy", "pass": "pass"}

StartPostfix = Callable[..., Postfix]


def upstream_of(postfix: Postfix) -> str:
    return f"unix:{postfix.pass_socket}" if postfix.handoff == "pass" else postfix.address


@pytest.mark.parametrize("handoff", POSTFIX_OF)
def test_a_mail_arrives_and_shows_the_address_that_the_handoff_gives(
    handoff: str, start_postfix: StartPostfix, milter: Milter, swaks: str, mail_network: MailNetwork
) -> None:
    outside = mail_network.outside
    postfix = start_postfix(handoff=POSTFIX_OF[handoff], milters=[milter], network=mail_network.mx)
    sidecar = up(
        POLICY,
        upstream=upstream_of(postfix),
        handoff=handoff,
        listen="0.0.0.0:0",
        network=mail_network.mx,
    )
    with sidecar:
        server = f"{PUBLIC_MX}:{sidecar.port}"
        send_with_swaks(swaks, server, "bob@example.org", source=PUBLIC, network=outside)
        send_with_aiosmtplib(PRIVATE_MX, sidecar.port, "carol@example.org", source=REJECTED, network=outside)
        for client, user in ((PUBLIC, "bob"), (REJECTED, "carol")):
            seen = "127.0.0.1" if handoff == "plain" else client
            (mail,) = postfix.wait_for_mail(user)
            assert f"[{seen}]" in mail["Received"]
            postfix.wait_for_log(rf"smtpd\[\d+\]: [0-9A-F]+: client=unknown\[{seen}\]")
            assert any(
                connection.address == seen and envelope.recipients == [f"<{user}@example.org>"]
                for connection in milter.connections
                for envelope in connection.mails
            ), milter.connections
            sidecar.wait_for_log(
                rf"CONNECT from \[{client}\]:\d+ to \[{PRIVATE_MX if user == 'carol' else PUBLIC_MX}\]"
            )
            sidecar.wait_for_log(rf"PASS NEW \[{client}\]:\d+")
        (carol,) = postfix.mailbox("carol")
        assert carol.get_content() == "Dear Bob,\n\n.a line that begins with a dot\n"


@pytest.mark.parametrize("handoff", ["proxy-v1", "pass"])
def test_a_client_s_ipv6_address_reaches_the_mta(
    handoff: str, start_postfix: StartPostfix, milter: Milter, mail_network: MailNetwork
) -> None:
    postfix = start_postfix(handoff=POSTFIX_OF[handoff], milters=[milter], network=mail_network.mx)
    sidecar = up(
        POLICY, upstream=upstream_of(postfix), handoff=handoff, listen="[::]:0", network=mail_network.mx
    )
    with sidecar:
        send_with_aiosmtplib(V6_MX, sidecar.port, "bob@example.org", source=V6, network=mail_network.outside)
        (mail,) = postfix.wait_for_mail("bob")
        assert f"[IPv6:{V6}]" in mail["Received"]
        postfix.wait_for_log(rf"client=unknown\[{V6}\]")
        assert V6 in [connection.address for connection in milter.connections]
        sidecar.wait_for_log(rf"PASS NEW \[{V6}\]:\d+")
