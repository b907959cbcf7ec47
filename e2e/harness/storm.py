"""Very many clients at once from one thread, each with a script: what zombies, scanners and broken senders do, and good mail among them.

Contract: `Storm(address, kinds).run(count)` plays `count` connections, `concurrency` at a time, the kinds in turn, each from an address of
its kind's own network; it returns when the last has ended. Raises AssertionError for one that heard what it should not, TimeoutError
when nothing moves for STALL seconds. A connection costs some 100 us here: some thousand a second come.
"""

import errno
import ipaddress
import itertools
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h: the port is chosen by connect(2), so that all ports serve each destination."""

STALL = 30.0
"""Seconds without any event after which a storm has failed."""

_COME_AGAIN = (b"421 ", b"450 ")

RESET = struct.pack("ii", 1, 0)
"""struct linger: close(2) sends RST."""


@dataclass(frozen=True)
class Kind:
    """A client's script.

    name -- for what the storm tells. sources: its addresses, taken in turn
    said -- to say as soon as the connection is there
    answers -- for each whole reply that comes, what to say then
    teaser -- a reply's first line counts as a reply: the client acts before the greeting's end
    end -- once all is said and as many replies came: "fin", "reset", or "hear" to read up to the other side's end
    hears -- what all that it heard has to begin with, and to have in its last line, where it hears to the end
    """

    name: str
    sources: str
    said: bytes = b""
    answers: Sequence[bytes] = ()
    teaser: bool = False
    end: str = "fin"
    hears: tuple[bytes, bytes] = (b"", b"")


@dataclass
class _Client:
    kind: Kind
    socket: socket.socket
    step: int = -1
    """-1: not connected yet; else how many replies have come."""
    heard: bytearray = field(default_factory=bytearray)

    @property
    def replies(self) -> int:
        """Whole replies: lines whose fourth character is no hyphen."""
        lines = self.heard.split(b"\r\n")[:-1]
        return len(lines) if self.kind.teaser else sum(line[3:4] != b"-" for line in lines)


class Storm:
    """refusals: nobody may be listening, which is no error then. shortage: who is to hear something else may hear that there is no room,
    421 or 450, instead. check: what becomes of who heard all that it was to hear, or was cut off; in place of what the kind says.

    ended -- connections by kind. One that met a reset where it listened counts as `KIND, reset`
    heard -- of those who heard to the end: the first three characters
    """

    def __init__(
        self,
        host: str,
        port: int,
        kinds: Sequence[Kind],
        *,
        concurrency: int = 200,
        refusals: bool = False,
        shortage: bool = False,
        check: Callable[[Kind, bytes], None] | None = None,
    ) -> None:
        self._target = (host, port)
        self._kinds = itertools.cycle(kinds)
        self._sources = {kind.name: _addresses(kind.sources) for kind in kinds}
        self._concurrency = concurrency
        self._clients: dict[int, _Client] = {}
        self._refusals = refusals
        self._shortage = shortage
        self._look = check
        self.ended: Counter[str] = Counter()
        self.heard: Counter[bytes] = Counter()

    def run(self, count: int) -> None:
        """Raises AssertionError, TimeoutError."""
        left = itertools.repeat(True, count)
        self._run(lambda: next(left, False))

    def run_until(self, over: Callable[[], bool]) -> None:
        """Clients come until then. Raises AssertionError, TimeoutError."""
        self._run(lambda: not over())

    def _run(self, more: Callable[[], bool]) -> None:
        """more: asked before each client."""
        going = True
        moved = time.monotonic()
        with select.epoll() as epoll:
            while going or self._clients:
                while going and len(self._clients) < self._concurrency and (going := more()):
                    self._begin(epoll, next(self._kinds))
                events = epoll.poll(1.0)
                now = time.monotonic()
                if events:
                    moved = now
                elif now - moved > STALL:
                    stuck = Counter((client.kind.name, client.step) for client in self._clients.values())
                    raise TimeoutError(f"nothing has moved for {STALL:.0f} s: {stuck}")
                for fd, _ in events:
                    self._serve(epoll, self._clients[fd])

    def _begin(self, epoll: select.epoll, kind: Kind) -> None:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((next(self._sources[kind.name]), 0))
        code = made.connect_ex(self._target)
        if code not in (0, errno.EINPROGRESS):
            made.close()
            raise OSError(code, f"connect: {errno.errorcode[code]}")
        self._clients[made.fileno()] = _Client(kind, made)
        epoll.register(made.fileno(), select.EPOLLOUT)

    def _serve(self, epoll: select.epoll, client: _Client) -> None:
        if client.step < 0:
            if code := client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                if self._refusals:
                    self._end(client, reset=True)
                    return
                raise OSError(code, f"{client.kind.name}: connect: {errno.errorcode[code]}")
            client.step = 0
            if self._say(client, client.kind.said):
                epoll.modify(client.socket.fileno(), select.EPOLLIN)
            return
        try:
            data = client.socket.recv(65536)
        except ConnectionResetError:
            self._end(client, reset=True)
            return
        client.heard += data
        if not data:
            self._check(client)
            self._end(client)
            return
        while client.step < len(client.kind.answers) and client.replies > client.step:
            client.step += 1
            if not self._say(client, client.kind.answers[client.step - 1]):
                return

    def _say(self, client: _Client, data: bytes) -> bool:
        """Whether the client goes on."""
        if data:
            with suppress(
                BlockingIOError, ConnectionResetError, BrokenPipeError
            ):  # the other side may not listen
                client.socket.send(data, socket.MSG_NOSIGNAL)
        if client.step < len(client.kind.answers) or client.kind.end == "hear":
            return True
        self._end(client)
        return False

    def _check(self, client: _Client) -> None:
        self.heard[bytes(client.heard[:3])] += 1
        if self._look is not None:
            self._look(client.kind, bytes(client.heard))
            return
        begins, last = client.kind.hears
        lines = bytes(client.heard).splitlines()
        if self._shortage and lines and lines[-1][:4] in _COME_AGAIN:
            return
        assert client.heard.startswith(begins), f"{client.kind.name}: {bytes(client.heard)!r}"
        assert last in (lines[-1] if lines else b""), f"{client.kind.name}: {bytes(client.heard)!r}"

    def _end(self, client: _Client, *, reset: bool = False) -> None:
        del self._clients[client.socket.fileno()]
        if client.kind.end == "reset":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.socket.close()
        self.ended[client.kind.name + (", reset" if reset else "")] += 1


def _addresses(network: str) -> Iterator[str]:
    """For ever, in an order that jumps about."""
    whole = ipaddress.IPv4Network(network)
    first, count = int(whole.network_address), whole.num_addresses
    return (str(ipaddress.IPv4Address(first + number * 7919 % count)) for number in itertools.count(1))


def crowd(host: str, port: int, count: int, source: str) -> list[socket.socket]:
    """Clients that connect and then do nothing: not one of them waits to be accepted. The caller closes them."""
    found: list[socket.socket] = []
    try:
        for _ in range(count):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            found.append(made)
            made.settimeout(STALL)
            made.bind((source, 0))
            made.connect((host, port))
    except BaseException:
        disperse(found)
        raise
    return found


def disperse(clients: Sequence[socket.socket]) -> None:
    """All go, with RST."""
    for client in clients:
        if client.fileno() >= 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
