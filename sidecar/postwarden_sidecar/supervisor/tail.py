"""Verdicts as they come, for those who watch: each reader has a filter and a bounded queue.

Contract: nobody is waited for and nothing is kept: a reader that is too slow loses records, and is told how many and where. With no reader
a batch of records costs one look at an empty list. Every record is offered, whatever is sampled; what is shown of it is what the policy
permits (`telemetry.privacy`). Of one event loop.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from postwarden_sidecar.checks import access, passes
from postwarden_sidecar.engine.alike import all_whole
from postwarden_sidecar.engine.record import Record, Recorded, Verdict
from postwarden_sidecar.telemetry import logs, privacy

MAX_READERS = 8  # a person or two, and a program; each may hold QUEUE_LIMIT records
QUEUE_LIMIT = 1000  # records that wait for one reader; a record is about 2 KiB, so 2 MiB
BATCH = (
    64  # records rendered in one turn of the loop: some 2 ms, so that a reader under a flood holds nobody up
)
CONTROL = "postwarden.tail"  # the key of lines that are no verdict: begins, alive, lost
TESTS = (access.TEST, *passes.TESTS)

_encoder = msgspec.json.Encoder()
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadQuery(ValueError):
    """What was asked can't be answered; the message says what, and what could be asked, in one sentence."""


class TooManyReaders(Exception):
    """MAX_READERS are there."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a reader wants; an empty one of the three means all. tests: that decided, or that the client failed."""

    verdicts: frozenset[Verdict] = frozenset()
    networks: tuple[_Network, ...] = ()
    tests: frozenset[str] = frozenset()

    @classmethod
    def of(cls, query: Mapping[str, Sequence[str]]) -> Filter:
        """From `verdict`, `address` and `test`, each any number of times. Raises BadQuery."""
        unknown = sorted(query.keys() - {"verdict", "address", "test"})
        if unknown:
            raise BadQuery(f"there is no filter {unknown[0]!r}; there are verdict, address and test")
        networks = []
        for text in query.get("address", ()):
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise BadQuery(
                    f"address: {text!r} is no address or network, as in 192.0.2.1 or 2001:db8::/32"
                ) from None
        return cls(
            frozenset(map(Verdict, _among("verdict", query, tuple(Verdict)))),
            tuple(networks),
            frozenset(_among("test", query, TESTS)),
        )

    def wants(self, record: Record) -> bool:
        """Whether the record passes all three."""
        if self.verdicts and record.verdict not in self.verdicts:
            return False
        if self.tests and record.test not in self.tests:
            failed = {result.test for result in record.tests if result.outcome == "fail"}
            if not failed & self.tests:
                return False
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address(record.client_address)
        except ValueError:  # an odd record must not end the others' way
            return False
        return any(address in network for network in self.networks)


class Reader:
    """One who watches. `next_lines` until the connection ends."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._queue: deque[Record | int] = deque()  # an int: so many were lost there
        self._lost = 0
        self._filled = asyncio.Event()
        self.ended = False

    def offer(self, records: Sequence[Record]) -> None:
        """Take what is wanted and has room; count the rest."""
        for record in records:
            if not self._wanted.wants(record):
                continue
            if len(self._queue) >= QUEUE_LIMIT:
                self._lost += 1
                continue
            if self._lost:
                self._queue.append(self._lost)
                self._lost = 0
            self._queue.append(record)
            self._filled.set()

    async def next_lines(self) -> bytes:
        """JSON lines of what waits, once there is something; BATCH records at most. Empty: this was all, the sidecar stops."""
        await self._filled.wait()
        lines = [self._line(self._queue.popleft()) for _ in range(min(BATCH, len(self._queue)))]
        if not self._queue:
            if not self.ended:
                self._filled.clear()
            if self._lost:
                lines.append(lost_line(self._lost))
                self._lost = 0
        return b"".join(line + b"\n" for line in lines)

    def end(self) -> None:
        """What waits is still given."""
        self.ended = True
        self._filled.set()

    @staticmethod
    def _line(waiting: Record | int) -> bytes:
        return lost_line(waiting) if isinstance(waiting, int) else logs.json_line(privacy.shown(waiting))


class Tail:
    """All readers."""

    def __init__(self) -> None:
        self._readers: list[Reader] = []

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """Connections have ended."""
        if not self._readers:
            return
        records = all_whole(recorded)
        for reader in self._readers:
            reader.offer(records)

    def open(self, wanted: Filter) -> Reader:
        """From now on; `close` it. Raises TooManyReaders."""
        if len(self._readers) >= MAX_READERS:
            raise TooManyReaders(f"{MAX_READERS} readers are there already: end one of them")
        reader = Reader(wanted)
        self._readers.append(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """It is gone."""
        self._readers.remove(reader)

    def end(self) -> None:
        """The sidecar stops: readers get what waits for them, and an end."""
        for reader in self._readers:
            reader.end()


def control_line(word: str) -> bytes:
    """`begins` or `alive`."""
    return _encoder.encode({CONTROL: word})


def lost_line(records: int) -> bytes:
    """So many verdicts came too fast for this reader, between the lines before and after."""
    return _encoder.encode({CONTROL: "lost", "records": records})


def _among(name: str, query: Mapping[str, Sequence[str]], known: Sequence[str]) -> list[str]:
    found = list(query.get(name, ()))
    for text in found:
        if text not in known:
            raise BadQuery(f"{name}: {text!r} is none of {', '.join(known)}")
    return found
