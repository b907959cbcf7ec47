"""Exim and OpenSMTPD behind the sidecar, in each hand-off that they know, configured as the documentation says: real clients, sessions
with all that the servers offer, and a sending Exim."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.documented import documented
from harness.exim import Exim
from harness.mail_server import MailServer
from harness.opensmtpd import OpenSmtpd
from harness.real_clients import SENDERS
from harness.sidecar import Sidecar, up
from harness.tls_certificate import self_signed_pem

POLICY = """
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: mail}
spec:
  selector: {}
  access: {myNetworks: []}
  pregreet: {wait: 100ms}
  protocol:
    pipelining: {enabled: true, action: Enforce}
    nonSMTPCommand: {enabled: true, action: Drop}
    bareNewline: {enabled: true, action: Enforce}
"""
USERS = [*SENDERS, "bob", "carol", "dave"]


def exim(root: Path, *, proxy: bool) -> Exim:
    """The documentation's; its banner has three lines, which the hand-offs must count as one reply."""
    lines = [line for line in documented("exim") if proxy or not line.startswith("hosts_proxy")]
    lines += [r'smtp_banner = "$primary_hostname ESMTP here\nsecond line\nthird line"']
    return Exim(root, lines=lines, users=USERS, certificate=self_signed_pem())


def opensmtpd(root: Path, *, proxy: bool) -> OpenSmtpd:
    """The documentation's."""
    lines = [line if proxy else line.removesuffix(" proxy-v2") for line in documented("smtpd.conf")]
    return OpenSmtpd(root, lines=lines, users=USERS, certificate=self_signed_pem())


@pytest.fixture(scope="module")
def servers(exim_root: Path, opensmtpd_root: Path) -> Iterator[dict[str, MailServer]]:
    """Both programs, with and without PROXY headers, for all tests."""
    with ExitStack() as running:
        yield {
            name: running.enter_context(server)
            for name, server in {
                "exim": exim(exim_root, proxy=False),
                "exim-proxy": exim(exim_root, proxy=True),
                "opensmtpd": opensmtpd(opensmtpd_root, proxy=False),
                "opensmtpd-proxy": opensmtpd(opensmtpd_root, proxy=True),
            }.items()
        }


@dataclass(frozen=True)
class Served:
    """A sidecar in front of a server. seen: whether the server sees its clients' addresses."""

    sidecar: Sidecar
    server: MailServer
    seen: bool


@pytest.fixture(
    scope="module",
    params=[
        ("exim", "plain"),
        ("exim-proxy", "proxy-v1"),
        ("exim-proxy", "proxy-v2"),
        ("opensmtpd", "plain"),
        ("opensmtpd-proxy", "proxy-v2"),
    ],
    ids="-".join,
)
def served(request: pytest.FixtureRequest, servers: dict[str, MailServer]) -> Iterator[Served]:
    """Each server in each hand-off, once for all tests."""
    name, handoff = request.param
    server = servers[name]
    with up(POLICY, upstream=server.address, handoff=handoff) as sidecar:
        yield Served(sidecar, server, handoff != "plain")


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_real_clients_are_handed_over_in_the_middle(
    served: Served, tls: bool, swaks: str, msmtp: str
) -> None:
    sidecar, server = served.sidecar, served.server
    for number, (user, send) in enumerate(SENDERS.items()):
        before = len(server.mailbox(user))
        source = f"127.0.{4 + tls}.{number + 1}"
        send(sidecar.host, sidecar.port, source, tls)
        mail = server.wait_for_mail(user, before + 1)[-1]
        received = mail["Received"]
        assert f"[{source if served.seen else '127.0.0.1'}]" in received
        assert ("esmtps" in received.lower()) == tls
        assert mail.get_content().endswith(".a line that begins with a dot\n") or user == "swaks"
        sidecar.wait_for_log(rf"PASS NEW \[{source}\]:\d+")
