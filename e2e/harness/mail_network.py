"""A network of a mail server and the outside world, so that clients have real addresses and none of them is loopback.

Contract: `mx` is where Postfix and the sidecar run, reached at three addresses; `outside` is where clients run, with the clients'
addresses. They are joined by a cable (veth) and see nothing else. The fixture lives as long as a module's tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.netns import NetworkNamespace

PRIVATE_MX, PUBLIC_MX, V6_MX = "192.168.255.25", "203.0.113.25", "2001:db8::25"
"""The mail server, in each network of the clients."""

PERMITTED, REJECTED, PUBLIC, V6 = "192.168.0.1", "192.168.7.7", "203.0.113.5", "2001:db8::5"
"""The clients. The first two are the article's: `192.168.0.1 permit` before `192.168.0.0/16 reject`."""

OTHERS = ("192.168.0.2", "192.168.254.254", "203.0.113.6", "203.0.113.7", "203.0.113.8", "203.0.113.9")
"""More clients, for tests that need one which is not known yet."""


@dataclass(frozen=True)
class MailNetwork:
    """Two joined network namespaces."""

    mx: NetworkNamespace
    outside: NetworkNamespace


@pytest.fixture(scope="module")
def mail_network() -> Iterator[MailNetwork]:
    """Made once for the tests of a module."""
    with NetworkNamespace() as mx, NetworkNamespace() as outside:
        clients = (PERMITTED, REJECTED, PUBLIC, V6, *OTHERS)
        mx.link(
            outside,
            here=[_with_length(address) for address in (PRIVATE_MX, PUBLIC_MX, V6_MX)],
            there=[_with_length(address) for address in clients],
        )
        yield MailNetwork(mx, outside)


def mx_for(client: str) -> str:
    """The mail server's address in the network of that client."""
    if ":" in client:
        return V6_MX
    return PRIVATE_MX if client.startswith("192.168.") else PUBLIC_MX


def _with_length(address: str) -> str:
    length = 64 if ":" in address else 16 if address.startswith("192.168.") else 24
    return f"{address}/{length}"
