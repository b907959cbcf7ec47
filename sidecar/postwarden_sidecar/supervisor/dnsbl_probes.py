"""Probes of block lists, one a zone for all workers: whether 127.0.0.1, which no list may hold, is listed (RFC 5782, section 5).

They are made on demand. A zone that was found unwell is looked at again from time to time, so that status says when it is well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode

from postwarden_sidecar.dns.message import UDP_PAYLOAD
from postwarden_sidecar.dns.outcome import is_listing
from postwarden_sidecar.dns.zone_health import Probe, ZoneState
from postwarden_sidecar.ipc.messages import ZoneProbed
from postwarden_sidecar.net.addresses import parse_host_port
from postwarden_sidecar.rules.settings import Dnsbl

QUERY_TIMEOUT = 2.0  # seconds for one resolver, as in a worker's look-up
REPEAT = 0.5  # seconds of silence after which a probe asks the same resolver again
RECHECK_INTERVAL = 60.0  # seconds between two looks at zones that are unwell

_NEVER_LISTED, _TEST_ENTRY = "1.0.0.127", "2.0.0.127"  # RFC 5782, section 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """detail: one sentence without the zone's key; "" if all is well. no_test_entry: 127.0.0.2 is not listed: a warning only."""

    state: ZoneState
    detail: str
    no_test_entry: bool = False


class DnsblProbes:
    """All zones of a sidecar. `wanted` and `set_rules` do not block; `run` looks after zones that are unwell."""

    def __init__(
        self,
        *,
        resolvers: Callable[[], tuple[str, ...]],
        announce: Callable[[ZoneProbed], None],
        report: Callable[[str, str, str], None],
    ) -> None:
        """resolvers: ADDRESS:PORT to ask now. announce: tells the workers. report: tells the operator: template, state, detail."""
        self._resolvers = resolvers
        self._announce = announce
        self._report = report
        self._templates: dict[str, str] = {}  # of the zones of the rules in force
        self._probes: dict[str, Probe] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._warned: set[str] = set()

    @property
    def usable(self) -> Mapping[str, bool]:
        """Whether a list's hits count, by template; of those that were looked at. Any thread may ask."""
        templates = self._templates
        return {
            templates[zone]: probe.state is ZoneState.HEALTHY
            for zone, probe in tuple(self._probes.items())
            if zone in templates
        }

    def set_rules(self, settings: Dnsbl | None) -> None:
        """These lists are in force."""
        sites = () if settings is None else settings.sites
        self._templates = {site.zone: site.template for site in sites}
        for known in (self._probes, self._warned):
            for zone in [zone for zone in known if zone not in self._templates]:
                known.pop(zone) if isinstance(known, dict) else known.discard(zone)

    def wanted(self, zone: str) -> None:
        """A worker has no probe that holds. It is told in any case."""
        probe = self._probes.get(zone)
        if probe is not None and probe.holds(time.monotonic()):
            self._announce(ZoneProbed(zone, probe.state.value))
        elif zone not in self._running:
            task = self._running[zone] = asyncio.create_task(self._probe(zone))
            task.add_done_callback(lambda _: self._running.pop(zone, None))

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(RECHECK_INTERVAL)
            for zone in self._templates:
                probe = self._probes.get(zone)
                if probe is not None and probe.state is not ZoneState.HEALTHY:
                    self.wanted(zone)

    async def close(self) -> None:
        """End what runs."""
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _probe(self, zone: str) -> None:
        try:
            result = await probe_zone(zone, self._resolvers())
        except Exception as error:  # a defect of ours: the hits that wait must not count
            _log.error("a zone can't be probed", exc_info=error)
            result = ProbeResult(ZoneState.UNREACHABLE, "a fault in the sidecar")
        before = self._probes.get(zone)
        self._announce(ZoneProbed(zone, result.state.value))
        template = self._templates.get(zone)
        if template is None:  # of rules that are not in force any more; open connections keep them
            return
        self._probes[zone] = Probe(result.state, time.monotonic())
        if before is None or before.state is not result.state:
            self._say(template, result, first=before is None)
            self._report(template, result.state.value, result.detail)
        if result.no_test_entry and zone not in self._warned:
            self._warned.add(zone)
            _log.warning("DNSBL %s does not list its test entry 127.0.0.2: is its name right?", template)

    def _say(self, template: str, result: ProbeResult, *, first: bool) -> None:
        if result.state is not ZoneState.HEALTHY:
            _log.warning("DNSBL %s counts for nothing, %s: %s", template, result.state, result.detail)
        elif not first:
            _log.info("DNSBL %s is well again", template)


async def probe_zone(zone: str, resolvers: tuple[str, ...]) -> ProbeResult:
    """Ask for both entries. Never raises for what resolvers do."""
    never, entry = await asyncio.gather(
        _ask_any(_NEVER_LISTED, zone, resolvers), _ask_any(_TEST_ENTRY, zone, resolvers)
    )
    if isinstance(never, str):
        return ProbeResult(ZoneState.UNREACHABLE, never)
    if never and all(is_listing(address) for address in never):
        return ProbeResult(ZoneState.LISTS_WORLD, "it lists 127.0.0.1, which no list may hold")
    for addresses in (never, () if isinstance(entry, str) else entry):
        for address in addresses:
            if not is_listing(address):
                shown = ".".join(str(octet) for octet in address)
                why = "it refuses the resolver, or the resolver makes answers up; use a resolver of your own"
                return ProbeResult(ZoneState.BLOCKED, f"it answers {shown}: {why}")
    return ProbeResult(ZoneState.HEALTHY, "", no_test_entry=not entry)


async def _ask_any(entry: str, zone: str, resolvers: tuple[str, ...]) -> tuple[bytes, ...] | str:
    """The first usable answer of a resolver, all asked at once, for hits wait; or why there is none."""
    try:
        name = dns.name.from_text(f"{entry}.{zone.removesuffix('.')}.")
    except dns.exception.DNSException:
        return "no name can be made of the zone"
    why = "no resolver is known"
    asked = [asyncio.create_task(_ask(name, resolver)) for resolver in resolvers]
    try:
        for next_answer in asyncio.as_completed(asked):
            answer = await next_answer
            if not isinstance(answer, str):
                return answer
            why = answer
    finally:
        for task in asked:
            task.cancel()
        if asked:
            await asyncio.wait(asked)
    return why


async def _ask(name: dns.name.Name, resolver: str) -> tuple[bytes, ...] | str:
    """The addresses that the resolver gives, or why none. It is asked again while it is silent: where a crowd of clients comes at once, the
    probe's datagram may be lost among theirs, and the list would count for nothing."""
    began = asyncio.get_running_loop().time()
    asked: set[asyncio.Task[tuple[bytes, ...] | str]] = set()
    try:
        while True:
            left = QUERY_TIMEOUT - (asyncio.get_running_loop().time() - began)
            pause = REPEAT if left > 2 * REPEAT else None
            asked.add(asyncio.create_task(_ask_once(name, resolver, left)))
            done, _ = await asyncio.wait(asked, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return done.pop().result()
    finally:
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)


async def _ask_once(name: dns.name.Name, resolver: str, timeout: float) -> tuple[bytes, ...] | str:
    host, port = parse_host_port(resolver)
    query = dns.message.make_query(name, "A", use_edns=0, payload=UDP_PAYLOAD)
    try:
        response, _ = await dns.asyncquery.udp_with_fallback(
            query, host, timeout, port, ignore_unexpected=True
        )
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return f"the resolver {resolver} answers {dns.rcode.to_text(response.rcode())}"
        assert isinstance(response, dns.message.QueryMessage)
        answer = response.resolve_chaining().answer
    except dns.exception.Timeout:
        return f"the resolver {resolver} does not answer within {QUERY_TIMEOUT} s"
    except (dns.exception.DNSException, EOFError, ValueError):  # its text would show the name, and so the key
        return f"the resolver {resolver} sends no answer that makes sense"
    except OSError as error:
        return f"the resolver {resolver} can't be reached: {error.strerror or type(error).__name__}"
    return () if answer is None else tuple(bytes(map(int, record.address.split("."))) for record in answer)
