"""A TCP path between two programs that a test can make worse: dead connections, a partition, an end.

Contract: `with TcpGate(("127.0.0.1", 6443)) as gate:` forwards what comes to `gate.port` of loopback. It speaks no protocol, so TLS passes.
Its listening socket may be made in a network namespace: then programs in there reach what is outside of it.
"""

import socket
import threading
from types import TracebackType

from harness.loopback_server import LoopbackServer
from harness.netns import NetworkNamespace

CHUNK = 65536
"""Bytes that are forwarded at once."""


class _Path:
    """One connection, both ways. dead: what comes is thrown away, and neither side is told: a router that forgot it."""

    def __init__(self, client: socket.socket, server: socket.socket, open_: threading.Event) -> None:
        self.dead = False
        self._sockets = (client, server)
        self._open = open_
        self._threads = [
            threading.Thread(target=self._forward, args=pair, daemon=True)
            for pair in ((client, server), (server, client))
        ]
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._close, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK):
                self._open.wait()
                if not self.dead:
                    target.sendall(data)
            self._open.wait()
            if not self.dead:
                target.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()

    def _close(self) -> None:
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def cut(self) -> None:
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class TcpGate(LoopbackServer):
    """`target`: HOST, PORT. network: where it listens; None: where the test runs."""

    def __init__(self, target: tuple[str, int], network: NetworkNamespace | None = None) -> None:
        self._target = target
        self._network = network
        self._open = threading.Event()
        self._open.set()
        self._paths: list[_Path] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._open.set()
        self.cut()

    def kill_silently(self) -> None:
        """The connections there are stay open and carry nothing any more; new ones work."""
        for path in self._paths:
            path.dead = True

    def cut(self) -> None:
        """End the connections there are; new ones work."""
        for path in self._paths:
            path.cut()
        self._paths.clear()

    def shut(self) -> None:
        """Nothing passes, neither on the connections there are nor on new ones, and nobody is told."""
        self._open.clear()

    def open(self) -> None:
        """All passes again, what was held up too."""
        self._open.set()

    def _listen(self) -> socket.socket:
        listen = super()._listen
        return listen() if self._network is None else self._network.call(listen)

    def _accepted(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
        else:
            self._paths.append(_Path(client, server, self._open))
