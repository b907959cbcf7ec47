"""A hand-off that does not fit the MTA, and one that would make an open relay: clients are told to come back, nobody's mail bounces.

Each is followed by the right setting, with which the mail that was turned away arrives.
"""

from collections.abc import Callable

import pytest
from harness.mail_network import PUBLIC, PUBLIC_MX, MailNetwork, mail_network
from harness.polling import poll
from harness.postfix import Postfix
from harness.sidecar import Sidecar, run, up
from harness.smtp import Client, send_with_swaks

__all__ = ["mail_network"]

StartPostfix = Callable[..., Postfix]


def policy(postfix: Postfix, handoff: str) -> str:
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: mail}}
spec:
  selector: {{}}
  access: {{myNetworks: []}}
  pregreet: {{banner: ""}}
  protocol: {{pipelining: {{enabled: false}}, nonSMTPCommand: {{enabled: false}}, bareNewline: {{enabled: false}}}}
  upstream: {{port: {postfix.port}, handoff: {handoff}}}
"""


def assert_told_to_come_back(sidecar: Sidecar) -> None:
    with Client(sidecar.host, sidecar.port) as client:
        assert str(client.reply()).startswith("421 4.3.2")
        assert client.rest() == b""


def send_when_the_handoff_is_proved(swaks: str, sidecar: Sidecar, postfix: Postfix, handoff: str) -> None:
    sidecar.wait_for_log(rf"hand-off {handoff} to {postfix.address}: Proved")
    send_with_swaks(swaks, sidecar.address, "bob@example.org")
    (mail,) = postfix.wait_for_mail("bob")
    assert mail["Delivered-To"] == "bob@example.org"
    poll(lambda: not postfix.queue(), 5, lambda: f"left in the queue: {postfix.queue()}")
    assert not [line for line in postfix.log() if "status=bounced" in line]


@pytest.mark.parametrize("wrong", ["ProxyV1", "ProxyV2"])
def test_a_proxy_header_for_an_mta_that_expects_none_turns_clients_away_until_the_policy_is_mended(
    wrong: str, start_postfix: StartPostfix, swaks: str
) -> None:
    postfix = start_postfix()
    with up(policy(postfix, wrong)) as sidecar:
        said = sidecar.wait_for_log(rf"hand-off {wrong} to {postfix.address}: WrongAnswer")[0]
        # Which of its replies is the first one too many is a matter of how they come in.
        assert "220 mail.example.com ESMTP Postfix" in said or "500 5.5.2 Error: bad syntax" in said
        assert_told_to_come_back(sidecar)
        session = send_with_swaks(swaks, sidecar.address, "bob@example.org", check=False)
        assert "<** 421 4.3.2" in session
        assert "<** 5" not in session
        assert not postfix.queue()
        sidecar.edit(policy(postfix, "Plain"))
        send_when_the_handoff_is_proved(swaks, sidecar, postfix, "Plain")


def test_no_proxy_header_for_an_mta_that_expects_one_turns_clients_away_until_the_policy_is_mended(
    start_postfix: StartPostfix, swaks: str
) -> None:
    postfix = start_postfix(handoff="proxy", settings={"smtpd_upstream_proxy_timeout": "1s"})
    with up(policy(postfix, "Plain")) as sidecar:
        with Client(sidecar.host, sidecar.port) as client:
            client.send(b"EHLO client.example\r\n")  # must not be taken for a header
            assert client.reply().code == 421
            assert client.rest() == b""
        said = sidecar.wait_for_log(f"hand-off Plain to {postfix.address}: ")[0]
        assert "421 4.3.0 mail.example.com Server local error" in said
        read = [line for line in postfix.log() if "haproxy" in line]
        assert read
        assert all("timeout error" in line for line in read), read  # it has got not a byte
        sidecar.edit(policy(postfix, "ProxyV2"))
        send_when_the_handoff_is_proved(swaks, sidecar, postfix, "ProxyV2")


def test_an_mta_that_stops_expecting_the_header_under_way_bounces_nothing(
    start_postfix: StartPostfix, swaks: str
) -> None:
    """The proof was right when it was made: what the MTA says to the next client withdraws it."""
    postfix = start_postfix(handoff="proxy")
    with up(policy(postfix, "ProxyV1")) as sidecar:
        sidecar.wait_for_log("hand-off ProxyV1 .*: Proved")
        postfix.handoff = "plain"
        postfix.reload()
        session = send_with_swaks(swaks, sidecar.address, "bob@example.org", check=False)
        assert "<** 421" in session
        assert "<** 5" not in session
        sidecar.wait_for_log("gave a wrong answer to a client|WrongAnswer")
        assert_told_to_come_back(sidecar)
        assert not postfix.queue()
        sidecar.edit(policy(postfix, "Plain"))
        send_when_the_handoff_is_proved(swaks, sidecar, postfix, "Plain")


def test_the_sidecar_refuses_to_make_an_open_relay_and_serves_once_the_mta_is_none(
    start_postfix: StartPostfix, swaks: str
) -> None:
    postfix = start_postfix(mynetworks=["127.0.0.0/8"])
    with run("--upstream", postfix.address, "--handoff", "plain") as sidecar:
        said = sidecar.wait_for_log("OpenRelay")[0]
        assert "mynetworks" in said
        assert_told_to_come_back(sidecar)
        assert "NOQUEUE" not in "\n".join(postfix.log())
        postfix.reload({"mynetworks": ""})
        send_when_the_handoff_is_proved(swaks, sidecar, postfix, "Plain")


def test_on_loopback_an_mta_that_would_relay_is_served_with_one_warning(
    start_postfix: StartPostfix, swaks: str
) -> None:
    postfix = start_postfix(mynetworks=["127.0.0.0/8"])
    with up(policy(postfix, "Plain")) as sidecar:
        for count in (1, 2):
            send_with_swaks(swaks, sidecar.address, "bob@example.org")
            postfix.wait_for_mail("bob", count)
        assert len([line for line in sidecar.log() if "OpenRelay" in line]) == 1


def test_on_other_addresses_an_mta_that_would_relay_is_refused(
    start_postfix: StartPostfix, mail_network: MailNetwork
) -> None:
    postfix = start_postfix(mynetworks=["127.0.0.0/8"], network=mail_network.mx)
    with up(policy(postfix, "Plain"), listen=f"{PUBLIC_MX}:0", network=mail_network.mx) as sidecar:
        sidecar.wait_for_log("WARNING .*OpenRelay.*mynetworks")
        with Client(PUBLIC_MX, sidecar.port, source=PUBLIC, network=mail_network.outside) as client:
            assert str(client.reply()).startswith("421 4.3.2")
        with Client(PUBLIC_MX, sidecar.port, source=PUBLIC, network=mail_network.outside) as client:
            client.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<x@relay-test.invalid>\r\n")
            assert client.reply().code == 421
        assert not postfix.queue()
