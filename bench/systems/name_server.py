"""The name server of the DNSBL case: Debian's rbldnsd with three zones that list every client, in a control group of its own.

It answers at port 53 of a loopback address of its own: postscreen asks by libc's resolver, which knows no other port.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness.rbldnsd import Rbldnsd

from bench.control_group import ControlGroup
from bench.load_generator import FIRST_SOURCE
from bench.zones import ZONES

LISTED = f"{FIRST_SOURCE}/18"
"""16,384 addresses: all clients."""

PORT = 53


@contextmanager
def name_server() -> Iterator[tuple[str, ControlGroup]]:
    """Its address, without the port."""
    host = "127.53.{}.{}".format(*divmod(os.getpid() % 65536, 256))
    server = Rbldnsd({zone: [LISTED] for zone in ZONES}, listen=(host, PORT))
    with ControlGroup("name-server") as group, ExitStack() as running:
        with group.joined():
            running.enter_context(server)
        yield host, group
