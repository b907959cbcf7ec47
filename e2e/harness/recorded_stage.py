"""What the recorded cases are played on: `postwarden up` for each profile, a name server that has all their block lists, and an MTA that is
well, stalled or down.

Contract: `with Stage(...) as stage: stage.problems` plays all cases, those of different profiles side by side. Of a profile that is
`serial` one case comes after the other: its clients take up room that the next ones are to find free.
"""

import asyncio
import itertools
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from dnsbl.name_server import NameServer, Zone
from engine.recorded_player import Case, compare_log, log_of

from harness.postfix import Postfix
from harness.postfix_configuration import join_address
from harness.recorded_cases import Played, play, stress_of
from harness.sidecar import Sidecar, up

STARTS = 4
"""Sidecars that start at a time: more are no faster on two cores."""

SETTLED = 0.5
"""Seconds until the log of what is over has been written, and stress is over, too."""

APART = 0.02
"""Seconds between the beginnings of two cases: all at once, their clients would be late to see what comes at once."""

MTA = {
    "smtpd_banner": "$myhostname ESMTP upstream",
    "relay_domains": "example.net",
    "smtpd_client_connection_count_limit": "0",  # all clients are the sidecar's address here
}


class Part(NamedTuple):
    """A case, and how many workers it is played with."""

    case: Case
    workers: int

    @property
    def name(self) -> str:
        """For the test's name."""
        several = f"-{self.workers}-workers" if self.workers > 1 else ""
        return f"{self.case['id']}-{self.case['title']}{several}"


Key = tuple[str, int]
"""A profile's name and the number of workers: what a sidecar is started for."""


class Stage:
    """problems: of each part, by its name, what was not as recorded."""

    def __init__(
        self, postfix_root: Path, corpus: dict[str, Any], parts: list[Part], other_log: dict[str, list[str]]
    ) -> None:
        """other_log: case -> what our log says where it deliberately differs."""
        self._root = postfix_root
        self._profiles: dict[str, Any] = corpus["profiles"]
        self._parts = parts
        self._other_log = other_log
        self._running = ExitStack()
        self._stress: dict[str, list[str]] = {}  # of a serial profile's parts
        self.problems: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        with self._running:
            enter = self._running.enter_context
            postfix = enter(Postfix(self._root, hostname="mx.oracle.test", settings=MTA))
            threads = enter(ThreadPoolExecutor(STARTS))  # they live as long as what they start
            nobody = enter(socket.socket())
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            stalled = enter(socket.create_server(("127.0.0.1", 0), backlog=64))
            lists = enter(NameServer(self._zones()))
            upstreams = {
                "down": f"127.0.0.1:{nobody.getsockname()[1]}",
                "stalled": f"127.0.0.1:{stalled.getsockname()[1]}",
            }
            keys = dict.fromkeys((part.case["profile"], part.workers) for part in self._parts)
            sidecars: dict[Key, Sidecar] = {}
            for name, workers in keys:
                profile = self._profiles[name]
                upstream = upstreams.get(profile.get("upstream", ""), postfix.address)
                sidecars[name, workers] = up(
                    profile["policy"].replace("{resolver}", lists.target),
                    *("--workers", str(workers)),
                    upstream=upstream,
                    handoff="plain",
                    listen=join_address(profile.get("listen", "127.0.0.1"), 0),
                )
            for sidecar in threads.map(Sidecar.__enter__, sidecars.values()):
                self._running.push(sidecar)
            played = threads.submit(lambda: asyncio.run(self._play_all(sidecars))).result()

            list(threads.map(Sidecar.stop, sidecars.values()))  # so that their logs are complete
            for part in self._parts:
                result = played[part.name]
                log = log_of(sidecars[part.case["profile"], part.workers].log())
                self.problems[part.name] = (
                    result.problems
                    + self._log_problems(part, result, log)
                    + _query_problems(part.case, result, lists)
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """All has ended before."""

    def _zones(self) -> dict[str, Zone]:
        zones: dict[str, Zone] = {}
        for name in {part.case["profile"] for part in self._parts}:
            for zone, served in self._profiles[name].get("dnsbl", {}).items():
                assert zone not in zones, f"two profiles have the list {zone}"
                listed = {_reversed(key): value for key, value in served.items() if isinstance(value, list)}
                ttl = served.get("ttl", 300)
                mode = {"timeout": "silent"}.get(served.get("mode", ""), served.get("mode", ""))
                zones[zone] = Zone(
                    listed, ttl, served.get("negative_ttl", ttl), mode, served.get("delay", 0.0)
                )
        return zones

    async def _play_all(self, sidecars: dict[Key, Sidecar]) -> dict[str, Played]:
        played: dict[str, Played] = {}

        async def one(part: Part, sidecar: Sidecar, delay: float = 0.0) -> None:
            await asyncio.sleep(delay)
            played[part.name] = await play(part.case, sidecar.host, sidecar.port)

        async def serial(parts: list[Part], sidecar: Sidecar) -> None:
            for part in parts:
                before = len(sidecar.log())
                await one(part, sidecar)
                await asyncio.sleep(SETTLED)
                self._stress[part.name] = stress_of(sidecar.log()[before:])

        delays = itertools.count()
        async with asyncio.TaskGroup() as group:
            for key, sidecar in sidecars.items():
                parts = [part for part in self._parts if (part.case["profile"], part.workers) == key]
                if self._profiles[key[0]].get("serial"):
                    group.create_task(serial(parts, sidecar))
                else:
                    for part in parts:
                        group.create_task(one(part, sidecar, next(delays) * APART))
        return played

    def _log_problems(self, part: Part, played: Played, log: dict[tuple[str, int], list[str]]) -> list[str]:
        case = part.case
        announced = {step.get("c", "a") for step in case["steps"] if "as" in step}
        got: dict[str, list[str]] = {}
        for name, client in played.clients:
            events = log.get(client, [])
            if name not in announced:  # the server's own address is compared where a header told it
                events = ["CONNECT" if event.startswith("CONNECT to ") else event for event in events]
            got.setdefault(name, []).extend(events)
        if "*" in case["log"]:
            got["*"] = self._stress[part.name]
        found = []
        for name, events in got.items():
            if name not in case.get("ignore", ()):
                want = self._other_log.get(case["id"], case["log"][name])
                found += compare_log(want, events, f"{case['id']} log of {name}")
        return found


def _query_problems(case: Case, played: Played, lists: NameServer) -> list[str]:
    """Look-ups of the case's clients, where the recording says how many there may be."""
    found = []
    for zone, most in case.get("queries_max", {}).items():
        names = {f"{_reversed(address)}.{zone}." for _, (address, _) in played.clients}
        asked = sum(query in names for query in lists.queries)
        if asked > most:
            found.append(f"{case['id']}: {asked} queries to {zone}, want at most {most}")
    return found


def _reversed(address: str) -> str:
    """As the name in a block list begins."""
    if address == "*":
        return address
    return ip_address(address).reverse_pointer.rpartition(".in-addr.arpa" if "." in address else ".ip6.arpa")[
        0
    ]
