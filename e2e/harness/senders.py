"""Mail servers as senders: each sends all mail to one address, from one of its own.

Contract: they take mail from loopback for the whole world, and are `client.example` themselves.
"""

from collections.abc import Sequence
from pathlib import Path

from harness.exim import Exim
from harness.postfix import Postfix
from harness.smtp import Client

EXIM_TLS = {False: "hosts_avoid_tls = *", True: "hosts_require_tls = *"}
"""Lines of its transport: without TLS, or not without."""

_NAME = "client.example"


def sending_postfix(
    root: Path, smarthost: str, source: str, *, services: Sequence[str] = (), **settings: str
) -> Postfix:
    """smarthost: `HOST:PORT`. source: the address it connects from. services: further lines of master.cf. settings: of main.cf."""
    host, _, port = smarthost.rpartition(":")
    return Postfix(
        root,
        hostname=_NAME,
        domain=_NAME,
        mynetworks=("127.0.0.0/8",),
        settings={
            "relayhost": f"[{host}]:{port}",
            "smtp_bind_address": source,
            "defer_transports": "",
            **settings,
        },
        services=services,
    )


def sending_exim(root: Path, smarthost: str, source: str, *transport: str) -> Exim:
    """smarthost: `HOST:PORT`. source: the address it connects from. transport: lines of the one that sends."""
    return Exim(
        root,
        hostname=_NAME,
        domain=_NAME,
        relays_for=["127.0.0.0/8"],
        smarthost=smarthost,
        transport=[f"interface = {source}", *transport],
    )


def submit(sending: Postfix | Exim, *recipients: str) -> None:
    """Give it one mail to all of them."""
    with Client(sending.host, sending.port) as client:
        client.greeted()
        client.deliver(*recipients)
        client.expect("QUIT", 221)
