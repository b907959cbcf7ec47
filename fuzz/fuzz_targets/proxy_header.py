"""The reader of inbound PROXY headers: however a header is cut, it is read alike, within its bounds, and not a byte of what is behind it
is taken; where another reader (aiosmtpd's) accepts the same bytes, both name the same client."""

from __future__ import annotations

import ipaddress
from collections.abc import Generator
from typing import Any

from aiosmtpd.proxy_protocol import PROTO, ProxyData, get_proxy
from postwarden_sidecar.checks.facts import normalise
from postwarden_sidecar.engine.proxy_header import MAX_V2_LENGTH, Announced, BadHeader, HeaderParser
from postwarden_sidecar.engine.record import MAX_TEXT

from fuzz_targets.choices import Choices

LARGEST = 16 + MAX_V2_LENGTH
MAX_SENTENCE = MAX_TEXT  # characters of what is told to a person; the record repeats it


def fuzz(data: bytes) -> None:
    """The first bytes cut the others."""
    choices = Choices(data)
    cuts = [choices.byte() for _ in range(choices.byte() % 4)]
    header = choices.rest()
    whole = read(header, [])
    assert read(header, sorted(set(cuts))) == whole, "the cuts make a difference"
    assert read(header, list(range(1, min(len(header), LARGEST + 2)))) == whole, (
        "byte by byte it is another header"
    )
    if isinstance(whole, str):
        return
    announced, size = whole
    assert size <= LARGEST
    if announced is None:
        return
    for address, port in (announced[:2], announced[2:]):
        assert normalise(str(ipaddress.ip_address(address)))[0] == address
        assert 0 <= port <= 65535
    other = by_aiosmtpd(header)
    if other is not None and other.valid and other.protocol == PROTO.STREAM and other.src_addr is not None:
        assert announced == Announced(
            normalise(str(other.src_addr))[0],
            other.src_port or 0,
            normalise(str(other.dst_addr))[0],
            other.dst_port or 0,
        )
        assert len(other.whole_raw) == size or other.version == 1


def read(data: bytes, ends: list[int]) -> tuple[Announced | None, int] | str:
    """What a parser makes of growing views, as peeks at a socket are: (client, size), "more" or "bad"."""
    parser = HeaderParser()
    taken = 0
    for end in [*(end for end in ends if end < len(data)), len(data)]:
        while not parser.complete and taken < end:
            try:
                size = parser.receive(data[taken:end])
            except BadHeader as error:
                assert len(str(error)) < MAX_SENTENCE
                return "bad"
            assert 0 < size <= end - taken
            taken += size
    if not parser.complete:
        assert taken == len(data) <= LARGEST, "what is no whole header yet was not taken, or is too long"
        return "more"
    assert taken == parser.size
    return parser.announced, parser.size


class _Reader:
    """What aiosmtpd's reader awaits; all bytes are there, so that it never waits."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, n: int = -1) -> bytes:
        taken, self._data = self._data[:n], self._data[n:]
        return taken

    async def readexactly(self, n: int) -> bytes:
        if len(self._data) < n:
            raise EOFError
        return await self.read(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        end = self._data.find(separator)
        if end < 0:
            raise EOFError
        return await self.read(end + len(separator))


def by_aiosmtpd(data: bytes) -> ProxyData | None:
    """Its opinion, None if it has none (it raises at some bytes)."""
    waiting: Generator[Any, Any, ProxyData] = get_proxy(_Reader(data)).__await__()
    try:
        next(waiting)
    except StopIteration as done:
        result: ProxyData = done.value
        return result
    except Exception:  # its faults are not ours
        return None
    return None
