"""An MTA for floods, in a thread of its own: it says what an MTA says, keeps nothing, and costs next to nothing.

Contract: `with QuickMta() as mta:` listens on a free port of loopback and expects plain SMTP. It takes every mail but one that
asks whether it relays for the world. `harness.mail_sink` is a server of somebody else's making that tells what came.
"""

import select
import socket
import threading
from types import TracebackType
from typing import Self

GREETING = b"220 mail.example.org ESMTP quick\r\n"
_REPLIES = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 2.0.0 bye\r\n"}
_RELAY_TEST = b"@relay-test.invalid>"


class QuickMta:
    """open: connections now. taken: of all time."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.taken = 0
        self._sessions: dict[int, _Session] = {}
        self._ours, self._its = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="quick-mta")

    def __enter__(self) -> Self:
        self._listener.setblocking(False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._thread.join()
        for session in self._sessions.values():
            session.socket.close()
        self._listener.close()
        self._its.close()

    @property
    def open(self) -> int:
        return len(self._sessions)

    def hang_up(self) -> None:
        """On all, as an MTA does whose time limits are over."""
        self._ours.send(b".")

    def _end_all(self) -> None:
        while self._sessions:
            _, session = self._sessions.popitem()
            session.say(b"421 4.4.2 timeout exceeded\r\n")
            session.socket.close()

    def _serve(self) -> None:
        with select.epoll() as epoll:
            epoll.register(self._its.fileno(), select.EPOLLIN)
            epoll.register(self._listener.fileno(), select.EPOLLIN)
            while True:
                for fd, _ in epoll.poll():
                    if fd == self._its.fileno():
                        if not self._its.recv(1):
                            return
                        self._end_all()
                        break
                    if fd == self._listener.fileno():
                        self._accept(epoll)
                    elif not self._sessions[fd].serve():
                        self._sessions.pop(fd).socket.close()

    def _accept(self, epoll: select.epoll) -> None:
        try:
            while True:
                accepted, _ = self._listener.accept()
                accepted.setblocking(False)
                self.taken += 1
                self._sessions[accepted.fileno()] = session = _Session(accepted)
                epoll.register(accepted.fileno(), select.EPOLLIN)
                session.say(GREETING)
        except OSError:  # nobody waits
            return


class _Session:
    __slots__ = ("_in_data", "_rest", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._rest = b""
        self._in_data = False

    def say(self, reply: bytes) -> None:
        try:
            self.socket.send(reply, socket.MSG_NOSIGNAL)
        except OSError:  # it is gone, or does not read, which is its own affair
            return

    def serve(self) -> bool:
        """Whether it goes on."""
        try:
            data = self.socket.recv(65536)
        except OSError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if self._in_data:
                self._in_data = line != b"."
                if not self._in_data:
                    self.say(b"250 2.0.0 Ok: taken\r\n")
                continue
            verb = line[:4].upper()
            refused = verb == b"RCPT" and _RELAY_TEST in line
            self.say(
                b"554 5.7.1 Relay access denied\r\n" if refused else _REPLIES.get(verb, b"250 2.0.0 Ok\r\n")
            )
            self._in_data = verb == b"DATA"
            if verb == b"QUIT":
                return False
        return bool(data)
