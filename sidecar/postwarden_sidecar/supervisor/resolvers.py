"""Which name servers the block lists are asked by: the policy's, else the pod's own of /etc/resolv.conf.

Workers can't look names up without blocking, so that is done here, and again from time to time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import dns.resolver

from postwarden_sidecar.ipc.messages import Resolvers
from postwarden_sidecar.net.addresses import SocketAddress, host_port, is_literal

RESOLV_CONF = Path("/etc/resolv.conf")
RENEW_INTERVAL = (
    60.0  # seconds between two looks at names and resolv.conf; a Service's address hardly ever changes
)
LOCAL = "127.0.0.1:53"  # without a nameserver line (resolv.conf(5))

_log = logging.getLogger(__name__)


class ResolverTable:
    """announce: tells the workers, whenever something is new."""

    def __init__(self, announce: Callable[[Resolvers], None], path: Path = RESOLV_CONF) -> None:
        self._announce = announce
        self._path = path
        self._wanted: tuple[str, ...] = ()
        self._changed = asyncio.Event()
        self.told = Resolvers((), {})

    def begin(self) -> None:
        """Read resolv.conf and tell the workers, before they accept."""
        self.told = Resolvers(read_nameservers(self._path), {})
        self._announce(self.told)

    def want(self, resolvers: tuple[str, ...]) -> None:
        """HOST:PORT of the policy in force; none: the pod's own."""
        if resolvers != self._wanted:
            self._wanted = resolvers
            self._changed.set()

    def in_force(self) -> tuple[str, ...]:
        """ADDRESS:PORT to be asked, in the order of preference."""
        if not self._wanted:
            return self.told.system
        found: list[str] = []
        for text in self._wanted:
            found += (text,) if is_literal(text) else self.told.named.get(text, ())
        return tuple(found)

    async def run(self) -> None:
        """For ever."""
        while True:
            named = {}
            for text in self._wanted:
                if not is_literal(text):
                    named[text] = await self._look_up(text)
            current = Resolvers(await asyncio.to_thread(read_nameservers, self._path), named)
            if current != self.told:
                self.told = current
                self._announce(current)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_INTERVAL):
                    await self._changed.wait()
            self._changed.clear()

    async def _look_up(self, text: str) -> tuple[str, ...]:
        host, _, port = text.rpartition(":")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
        except OSError as error:
            known = self.told.named.get(text, ())
            _log.warning(
                "the resolver %s can't be looked up, %s: %s",
                text,
                "its last address stays" if known else "it is left out",
                error,
            )
            return known
        return tuple(
            dict.fromkeys(
                str(SocketAddress(family, (str(address[0]), int(address[1]))))
                for family, _, _, _, address in found
            )
        )


def read_nameservers(path: Path) -> tuple[str, ...]:
    """ADDRESS:PORT of each nameserver line; where there is none, this machine's own."""
    configured = dns.resolver.Resolver(configure=False)
    try:
        configured.read_resolv_conf(str(path))
    except (OSError, dns.resolver.NoResolverConfiguration):
        return (LOCAL,)
    servers = [server for server in configured.nameservers if isinstance(server, str)]
    return tuple(host_port(server, 53) for server in servers) or (LOCAL,)
