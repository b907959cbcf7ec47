"""A milter that accepts everything and writes down whom the MTA believes to be talking to.

Contract: from `with` to the end of its block a `Milter` answers at the UNIX socket `path`; `connections` grows by one for each SMTP
client. The MTA waits for an answer to each event, and the event is written down before the answer: what the SMTP
client has had a reply to is in the list.

Built on kilter.protocol, which knows the messages and which answers they may get, and leaves the socket to its caller.
"""

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from kilter.protocol import messages
from kilter.protocol.buffer import SimpleBuffer
from kilter.protocol.core import FilterMessage, FilterProtocol

BUFFER_SIZE = 1 << 20
"""Bytes; the largest message of the milter protocol is a chunk of 64 KiB."""

_UNWANTED = (
    messages.ProtocolFlags.NO_DATA
    | messages.ProtocolFlags.NO_HEADERS
    | messages.ProtocolFlags.NO_END_OF_HEADERS
    | messages.ProtocolFlags.NO_BODY
    | messages.ProtocolFlags.NO_UNKNOWN
)


@dataclass
class Envelope:
    """One mail transaction: the sender and the recipients as the client wrote them, with their angle brackets."""

    sender: str
    recipients: list[str] = field(default_factory=list)


@dataclass
class MilterConnection:
    """One SMTP client as the MTA told it. `helo` is the last name given, empty before."""

    address: str
    port: int
    helo: str = ""
    mails: list[Envelope] = field(default_factory=list)


class Milter:
    """The recording milter. Its `path` is a socket in a folder of its own that every user may enter."""

    def __init__(self) -> None:
        self.connections: list[MilterConnection] = []
        self.faults: list[BaseException] = []
        """What went wrong in the milter itself; the end of the block raises the first."""
        self._directory = Path(tempfile.mkdtemp(prefix="postwarden-milter-"))
        self._directory.chmod(0o755)
        self.path = self._directory / "milter"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._streams: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen()
        self._start_thread(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # shutdown(), for a close() does not wake a thread in accept() or recv().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for stream in self._streams:
            stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for stream in self._streams:
            stream.close()
        shutil.rmtree(self._directory)
        if self.faults and error is None:
            raise self.faults[0]

    def _start_thread(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="milter", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            self._streams.append(stream)
            self._start_thread(self._serve, stream)

    def _serve(self, stream: socket.socket) -> None:
        protocol = FilterProtocol()
        received = SimpleBuffer(BUFFER_SIZE)
        # smtpd may open its connection long before it has anything to say of a client.
        record: MilterConnection | None = None
        try:
            while data := stream.recv(received.available):
                received[:] = data
                for message in protocol.read_from(received):
                    match message:
                        case messages.Connect(address=address, port=port):
                            record = MilterConnection(str(address), port)
                            self.connections.append(record)
                        case messages.Helo(hostname=name) if record:
                            record.helo = name
                        case messages.EnvelopeFrom(sender=sender) if record:
                            record.mails.append(Envelope(bytes(sender).decode()))
                        case messages.EnvelopeRecipient(recipient=recipient) if record:
                            record.mails[-1].recipients.append(bytes(recipient).decode())
                    if protocol.needs_response(message):
                        answer = SimpleBuffer(1024)
                        protocol.write_to(answer, _answer(message))
                        stream.sendall(bytes(answer[:]))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as fault:
            self.faults.append(fault)
            stream.shutdown(socket.SHUT_RDWR)


def _answer(message: object) -> FilterMessage:
    if isinstance(message, messages.Negotiate):
        return messages.Negotiate(6, messages.ActionFlags.NONE, _UNWANTED & message.protocol_flags)
    return messages.Continue()
