"""A path to an MTA on which each client meets a fault of its own, until the MTA is `well`.

Contract: `with FaultyMta(("127.0.0.1", 2525), faults) as mta:` listens on `mta.port` of loopback, for connections that begin with a PROXY
header of version 1, and gives them on to the MTA, header and all. faults: by the client's address. Clients that have none meet the MTA
as it is.
"""

import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from harness.loopback_server import LoopbackServer

TIMEOUT = 20.0
"""Seconds; whoever waits so long for a byte is given up."""

GREETING, DOT = "the greeting", "the end of the data"
"""Steps besides commands."""

HANG_UP, SLOW = b"", b"slow"
"""Faults besides replies."""

_PAUSE = 0.005
"""Seconds between two bytes of a reply that is slow."""


@dataclass(frozen=True)
class Fault:
    """At a step (a command's first word in capitals, or GREETING or DOT) the client gets this in place of the MTA's reply, and the MTA
    hears nothing of it: a reply (421 ends the connection), or HANG_UP. SLOW is at all steps: the MTA's own replies, byte by byte."""

    step: str
    reply: bytes


class FaultyMta(LoopbackServer):
    """met: the clients that met their fault, in this order."""

    def __init__(self, target: tuple[str, int], faults: Mapping[str, Fault]) -> None:
        self._target = target
        self._faults = faults
        self.well = False
        self.met: list[str] = []

    def _accepted(self, client: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(TIMEOUT)
        try:
            with (
                client,
                socket.create_connection(self._target, TIMEOUT) as mta,
                client.makefile("rb") as said,
            ):
                header = said.readline()
                mta.sendall(header)
                words = header.decode().split()  # PROXY TCP4 CLIENT …
                source = words[2] if len(words) > 2 else ""
                fault = None if self.well else self._faults.get(source)
                if fault is not None:
                    self.met.append(source)
                _Session(client, said, mta, fault).run()
        except OSError:
            return


class _Session:
    """One connection, command by command: one that pipelines is answered in its order all the same."""

    def __init__(
        self, client: socket.socket, said: BinaryIO, mta: socket.socket, fault: Fault | None
    ) -> None:
        self._client = client
        self._said = said
        self._mta = mta
        self._replies = mta.makefile("rb")
        self._fault = fault

    def run(self) -> None:
        """To its end."""
        if not self._goes_on(GREETING):
            return
        self._answer()
        while line := self._said.readline():
            word = line.split()[0].decode().upper() if line.split() else ""
            if not self._goes_on(word):
                return
            self._mta.sendall(line)
            code = self._answer()
            if word == "STARTTLS" and code == b"220":
                self._relay()
                return
            if word == "DATA" and code == b"354":
                while (line := self._said.readline()) not in (b".\r\n", b""):
                    self._mta.sendall(line)
                if not line or not self._goes_on(DOT):
                    return
                self._mta.sendall(line)
                self._answer()

    def _goes_on(self, step: str) -> bool:
        """Whether the MTA is to hear of this step."""
        if self._fault is None or self._fault.step != step or self._fault.reply == SLOW:
            return True
        refusal = self._fault.reply
        self._client.sendall(refusal)
        if refusal and not refusal.startswith(b"421"):
            while line := self._said.readline():
                polite = {b"QUIT": b"221 2.0.0 bye\r\n", b"RSET": b"250 2.0.0 ok\r\n"}
                self._client.sendall(polite.get(line.strip().upper(), refusal))
        return False

    def _answer(self) -> bytes:
        """Give the MTA's reply on; its code."""
        while line := self._replies.readline():
            pieces = [line]
            if self._fault is not None and self._fault.reply == SLOW:
                pieces = [line[at : at + 1] for at in range(len(line))]
            for piece in pieces:
                self._client.sendall(piece)
                if len(pieces) > 1:
                    time.sleep(_PAUSE)
            if line[3:4] != b"-":
                return line[:3]
        return b""

    def _relay(self) -> None:
        """What is in TLS."""
        back = threading.Thread(target=_copy, args=(self._mta, self._client), daemon=True)
        back.start()
        _copy(self._client, self._mta)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
