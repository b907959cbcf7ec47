"""A resolver that takes its time: a relay in front of a name server, so that a look-up lasts as long as a test wants.

Contract: within `with late(server, delay) as address:` each question is passed on after `delay` seconds, however many come at once.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from harness.rbldnsd import Rbldnsd

ANSWER_TIMEOUT = 5.0
"""Seconds for the name server behind it; milliseconds are usual."""


@contextmanager
def late(server: Rbldnsd, delay: float) -> Iterator[str]:
    """The address to ask, HOST:PORT."""
    host, _, port = server.address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        near.bind(("127.0.0.1", 0))
        timers: list[threading.Timer] = []

        def ask(packet: bytes, client: tuple[str, int]) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
                far.settimeout(ANSWER_TIMEOUT)
                far.sendto(packet, (host, int(port)))
                near.sendto(far.recv(4096), client)

        def serve() -> None:
            while packet_from := near.recvfrom(4096):
                if packet_from[0] == b"end":
                    return
                timers.append(threading.Timer(delay, ask, packet_from))
                timers[-1].start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{near.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
                stop.sendto(b"end", near.getsockname())
            thread.join()
            for timer in timers:
                timer.join()
