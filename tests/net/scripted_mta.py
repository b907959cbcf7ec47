"""An MTA that says what a test wants and remembers what it heard, on a loopback port or a unix socket.

A script is a function of one `Conversation`; it runs in a thread of its own for each connection. Nothing in it waits longer than TIMEOUT.
"""

from __future__ import annotations

import array
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

TIMEOUT = 10.0  # seconds; a test that gets here fails


class Conversation:
    """One connection, from the MTA's side. heard: all bytes of the other side so far."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.heard = bytearray()
        self._buffer = b""

    def say(self, data: bytes) -> None:
        """Whoever has gone hears nothing."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def hear(self, size: int = 65536) -> bytes:
        """What comes next; b"" at the end."""
        try:
            data = self.socket.recv(size)
        except ConnectionError:
            return b""
        self.heard += data
        return data

    def hear_line(self) -> bytes:
        """One line; what there is at the end."""
        while b"\n" not in self._buffer:
            data = self.hear()
            if not data:
                break
            self._buffer += data
        line, end, self._buffer = self._buffer.partition(b"\n")
        return line + end

    def hear_all(self) -> bytes:
        """All up to the end."""
        while self.hear():
            pass
        return bytes(self.heard)

    def waiting(self) -> bytes:
        """What is there now, without taking it."""
        try:
            return self.socket.recv(65536, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""

    def hear_passed(self) -> tuple[socket.socket, bytes]:
        """As Postfix's smtpd of a `pass` service: a descriptor with one byte, then the attributes."""
        payload, ancillary, _, _ = self.socket.recvmsg(1, socket.CMSG_SPACE(4))
        assert payload == b"\0"
        descriptors = array.array("i")
        descriptors.frombytes(ancillary[0][2])
        attributes = b""
        while not attributes.endswith(b"\0\0"):
            attributes += self.socket.recv(4096)
        passed = socket.socket(fileno=descriptors[0])
        passed.settimeout(TIMEOUT)
        return passed, attributes


Script = Callable[[Conversation], None]


class ScriptedMta:
    """Use as a context manager; its end waits for the scripts and raises what they raised."""

    def __init__(self, script: Script, path: Path | None = None) -> None:
        self._script = script
        self.conversations: list[Conversation] = []
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.target = f"unix:{path}"
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> ScriptedMta:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()
        if error is None and self._errors:
            raise self._errors[0]

    def heard(self) -> bytes:
        """All that the one connection said, once it is over."""
        (thread,) = self._threads
        thread.join()
        return bytes(self.conversations[0].heard)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(TIMEOUT)
            conversation = Conversation(connection)
            self.conversations.append(conversation)
            thread = threading.Thread(target=self._run, args=(conversation,))
            self._threads.append(thread)
            thread.start()

    def _run(self, conversation: Conversation) -> None:
        try:
            with conversation.socket:
                self._script(conversation)
        except BaseException as error:
            self._errors.append(error)


def serve_mail(conversation: Conversation, greeting: bytes = b"220 mta.example ESMTP\r\n") -> None:
    """A session of a well-behaved MTA that takes every mail."""
    conversation.say(greeting)
    while line := conversation.hear_line():
        match line[:4].upper():
            case b"EHLO":
                conversation.say(b"250-mta.example\r\n250 SIZE 1000\r\n")
            case b"DATA":
                conversation.say(b"354 go on\r\n")
                while conversation.hear_line() not in (b".\r\n", b""):
                    pass
                conversation.say(b"250 2.0.0 taken\r\n")
            case b"QUIT":
                conversation.say(b"221 2.0.0 bye\r\n")
                return
            case _:
                conversation.say(b"250 2.0.0 ok\r\n")
