"""A Service of Kubernetes in front of several replicas: each connection goes to one that is there, by chance.

Contract: `with Service(ports) as service:` listens at `address`; a connection stays with its replica until either side ends it.
Replicas that refuse are passed over. `backends` may be changed at any time.
"""

import random
import selectors
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from harness.loopback_server import LoopbackServer

CHUNK = 64 * 1024


class Service(LoopbackServer):
    """backends: ports of 127.0.0.1. counts: connections that each backend has got."""

    def __init__(self, backends: Sequence[int], *, seed: int = 0) -> None:
        self.backends = list(backends)
        self.counts: dict[int, int] = {}
        self._random = random.Random(seed)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accepted(self, client: socket.socket) -> None:
        backend = self._connect()
        if backend is None:
            client.close()
        else:
            threading.Thread(target=_serve, args=(client, backend), daemon=True).start()

    def _connect(self) -> socket.socket | None:
        for port in self._random.sample(self.backends, len(self.backends)):
            with suppress(OSError):
                connected = socket.create_connection(("127.0.0.1", port), timeout=5)
                connected.settimeout(None)
                self.counts[port] = self.counts.get(port, 0) + 1
                return connected
        return None


def _serve(client: socket.socket, backend: socket.socket) -> None:
    """Until either side ends; then both are over."""
    other = {client: backend, backend: client}
    with client, backend, selectors.DefaultSelector() as selector, suppress(OSError):
        for each in other:
            selector.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(CHUNK)
                if not data:
                    return
                other[key.fileobj].sendall(data)
