"""A server of a test's own in a thread: what stands between two programs.

Contract: a subclass says what it does with a connection; within `with` it listens at `port` of 127.0.0.1. Connections that are there at
the end of the block are the subclass's.
"""

import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class LoopbackServer(ABC):
    @abstractmethod
    def _accepted(self, client: socket.socket) -> None:
        """Called in the thread that accepts, so what takes time belongs in one of its own."""

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> Self:
        self._listener = self._listen()
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name=type(self).__name__, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone would not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._accepted(client)
