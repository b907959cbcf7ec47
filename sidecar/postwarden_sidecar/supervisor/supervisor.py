"""A sidecar as a whole: it starts the parts, joins them, and ends them.

Nothing is decided here: rules are `applied_rules`, the MTA `upstreams`, processes `workers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import BinaryIO

from postwarden_sidecar.controlclient.client import UPSTREAM_EXPOSED, ControlClient
from postwarden_sidecar.engine import alike
from postwarden_sidecar.engine.record import Record, Recorded, Verdict
from postwarden_sidecar.handoff.proof import PROVED, ProofResult
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.net.listener import ListenError, listen
from postwarden_sidecar.net.steering import Steering
from postwarden_sidecar.rules.settings import PolicyRef, Rules
from postwarden_sidecar.stores.store import PassStore
from postwarden_sidecar.supervisor import admin, prober
from postwarden_sidecar.supervisor.applied_rules import AppliedRules
from postwarden_sidecar.supervisor.closing import close_when_empty
from postwarden_sidecar.supervisor.dnsbl_health import DnsblHealth
from postwarden_sidecar.supervisor.endpoints import EndpointFailed, Endpoints
from postwarden_sidecar.supervisor.kept_tasks import keep
from postwarden_sidecar.supervisor.lost_address import LostAddress
from postwarden_sidecar.supervisor.questions import Questions
from postwarden_sidecar.supervisor.reporting import make_telemetry, state_of
from postwarden_sidecar.supervisor.settings import SidecarSettings, WithoutRules
from postwarden_sidecar.supervisor.state_directory import ADMIN_SOCKET, PASSES, Learned, StateDirectory
from postwarden_sidecar.supervisor.steering_report import SteeringReport
from postwarden_sidecar.supervisor.stored_passes import StoredPasses
from postwarden_sidecar.supervisor.tail import Tail
from postwarden_sidecar.supervisor.upstreams import Upstreams, choose
from postwarden_sidecar.supervisor.workers import Workers
from postwarden_sidecar.telemetry.own_log import STDOUT, LogStream
from postwarden_sidecar.telemetry.pipeline import PROMETHEUS_CONTENT_TYPE, Telemetry

FIRST_PROOF = 3.0  # seconds that wait_ready waits for the first proof's result (design)
NEWER_RULES = 0.5  # seconds; an operator that is there sends within tens of milliseconds
_NOT_HANDED_OVER = (Verdict.DEFERRED, Verdict.ERROR)

_log = logging.getLogger(__name__)


class StartFailed(Exception):
    """The sidecar can't be started; the message says what, why and what to do, in one sentence."""


class ListenFailed(StartFailed):
    """An address can't be listened on."""


class Supervisor:
    """`start`, then `drain` and `stop`, in one event loop."""

    def __init__(
        self,
        settings: SidecarSettings,
        *,
        log_stream: BinaryIO | None = None,
        on_records: Callable[[Sequence[Record]], None] | None = None,
        on_applied: Callable[[PolicyRef | None], None] | None = None,
    ) -> None:
        """log_stream: where verdicts are logged; None: stdout. on_records: sees every record besides
        telemetry. on_applied: called when a policy (None: no policy) came into force in every worker."""
        self._settings = settings
        self._log_stream = log_stream if log_stream is not None else LogStream(STDOUT)
        self._on_records = on_records
        self._on_applied = on_applied
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self._state: StateDirectory | None = None
        self._page: Page | None = None
        self._telemetry: Telemetry | None = None
        self._tail = Tail()
        self._passes: StoredPasses | None = None
        self._workers: Workers | None = None
        self._upstreams: Upstreams | None = None
        self._dnsbl: DnsblHealth | None = None
        self._seen: Callable[[Sequence[Recorded]], None] = lambda records: None
        self._rules: AppliedRules | None = None
        self._client: ControlClient | None = None
        self._endpoints: Endpoints | None = None
        self._draining: asyncio.Task[None] | None = None

    @property
    def listen_address(self) -> tuple[str, int]:
        """Where clients are accepted; the port that was taken, if any was asked for."""
        host, port = self._listeners[0].getsockname()[:2]
        return str(host), int(port)

    @property
    def policy(self) -> PolicyRef | None:
        """Whose rules every worker has applied."""
        return None if self._rules is None else self._rules.in_force

    @property
    def proof(self) -> ProofResult | None:
        """Of the last proof of the hand-off; None: none yet."""
        return None if self._upstreams is None else self._upstreams.result

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Of the running workers, by index."""
        return () if self._workers is None else self._workers.pids

    @property
    def connected(self) -> bool:
        """A stream to the operator stands."""
        return self._client is not None and self._client.connected

    @property
    def ready(self) -> bool:
        """Every worker accepts, and no drain has begun."""
        return self._workers is not None and self._workers.accepting and self._draining is None

    async def start(self) -> None:
        """Open the port and start all parts. Raises StartFailed (ListenFailed for an address); nothing is
        left running then."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def wait_ready(self) -> None:
        """Until clients are accepted, the rules are applied or none are expected, and the first proof of the
        hand-off has a result or FIRST_PROOF seconds went by."""
        assert self._rules is not None
        assert self._workers is not None
        assert self._upstreams is not None
        await self._rules.told.wait()
        if self._client is not None:  # after rules from disk: an operator with newer ones speaks at once
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NEWER_RULES):
                    await self._rules.spoken.wait()
        await self._workers.wait_accepting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PROOF):
                await self._upstreams.settled.wait()

    async def drain(self) -> None:
        """Not ready from now on; after the drain delay new clients are turned away and open sessions end;
        then the port closes. Called again, it waits for the same end."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        await asyncio.shield(self._draining)

    async def stop(self) -> None:
        """End all at once (within 2 s); after `drain` little is left. Safe to call twice."""
        ending = self._tasks | ({self._draining} if self._draining is not None else set())
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        self._tail.end()
        if self._endpoints is not None:
            await self._endpoints.close()
        if self._rules is not None:
            await self._rules.close()
        if self._dnsbl is not None:
            await self._dnsbl.close()
        if self._workers is not None:
            await self._workers.stop()
        close_when_empty(self._listeners)
        self._listeners = []
        if self._passes is not None:
            await self._passes.close()
        if self._telemetry is not None:
            await self._telemetry.close()
        if self._page is not None:
            self._page.close()
            os.close(self._page.descriptor)
            self._page = None

    async def _start(self) -> None:
        settings = self._settings
        if settings.state_dir is not None:
            try:
                self._state = StateDirectory(settings.state_dir)
            except OSError as error:
                raise StartFailed(
                    f"the state directory {settings.state_dir} can't be used: {error.strerror}; "
                    "give one that this user may write to"
                ) from error
        try:
            self._listeners = listen(
                *settings.listen,
                settings.workers,
                attach=lambda group: Steering(len(group)).attach(group[0]),
            )
        except ListenError as error:
            raise ListenFailed(str(error)) from error
        self._page = Page.create(settings.workers)
        steering = SteeringReport(self._page, lambda: self._client)
        if len(self._listeners) < settings.workers:
            steering.one_serves_all(settings.workers)
        self._telemetry = make_telemetry(
            settings,
            self._page,
            self._log_stream,
            lambda: state_of(self._rules, self._upstreams, self._client, self._dnsbl),
        )
        file = None if self._state is None else self._state.path / PASSES
        self._passes = passes = await StoredPasses.open(file, self._page.passes)
        self._workers = Workers(
            self._listeners,
            self._page,
            on_records=self._recorded,
            on_pass=passes.received,
            on_fault=lambda fault: upstreams.fault(fault),
            on_stress=self._telemetry.stress,
            on_probe_wanted=lambda zone: dnsbl.wanted(zone),
            on_steering=steering.tell,
            on_learned=lambda learned: upstreams.replay_learned(learned),
            proxy_trusted=settings.proxy_trusted,
        )
        self._dnsbl = dnsbl = DnsblHealth(self._workers, settings.resolver, lambda: self._client)
        dnsbl.begin()
        self._seen = LostAddress(self._workers, settings.node_ip, lambda: self._client).observe
        self._upstreams = upstreams = self._make_upstreams(self._workers)
        self._rules = AppliedRules(
            self._workers,
            self._state,
            defer=settings.without_rules is WithoutRules.DEFER,
            changed=self._rules_changed,
            trust=self._trust,
        )
        if settings.control is not None:
            trust = self._state.load_trust() if self._state is not None else b""
            self._client = ControlClient(
                settings.control, self._rules, extra_trust=trust, pushed=self._telemetry.policy_pushed
            )
            steering.tell_again()
        await self._open_endpoints(self._workers, upstreams, self._rules, passes.store)
        try:
            self._workers.start()
        except OSError as error:
            raise StartFailed(f"a worker can't be started: {error}") from error
        self._upstreams.want(choose(settings.flags, None, settings.bootstrap))
        await self._rules.begin(expect_operator=self._client is not None)
        keep(self._upstreams.run(), self._tasks)
        keep(dnsbl.run(), self._tasks)
        keep(passes.sweep(), self._tasks)
        if self._client is not None:
            keep(self._client.run(), self._tasks)

    def _make_upstreams(self, workers: Workers) -> Upstreams:
        return Upstreams(
            strict_relay=self._settings.strict_relay,
            try_unproved=self._settings.try_unproved,
            learned=self._state.load_learned() if self._state is not None else None,
            prove=prober.prove,
            announce=workers.set_upstream,
            report=self._report_handoff,
            learn=self._learn,
        )

    async def _open_endpoints(
        self, workers: Workers, upstreams: Upstreams, rules: AppliedRules, store: PassStore
    ) -> None:
        telemetry = self._telemetry
        assert telemetry is not None
        self._endpoints = Endpoints(
            ready=lambda: self.ready,
            upstream=upstreams.is_good,
            metrics=telemetry.prometheus,
            metrics_type=PROMETHEUS_CONTENT_TYPE,
            drain=self.drain,
        )
        questions = Questions(self._settings, rules, workers, upstreams, store, lambda: self.connected)
        asked = admin.routes(self._tail, questions.rules, questions.explain)
        try:
            await self._endpoints.open(self._settings.health, self._settings.metrics)
            await self._endpoints.open_questions(self._settings.admin, asked)
            if self._state is not None:
                await self._endpoints.open_drain(self._state.path / ADMIN_SOCKET)
        except EndpointFailed as error:
            raise ListenFailed(str(error)) from error

    async def _drain(self) -> None:
        assert self._workers is not None
        _log.info("draining: not ready, open sessions go on")
        await asyncio.sleep(self._settings.drain_delay)
        await self._workers.drain(self._settings.drain_timeout)
        close_when_empty(self._listeners)
        self._listeners = []
        _log.info("drained")

    def _rules_changed(self, rules: Rules | None) -> None:
        assert self._upstreams is not None
        assert self._telemetry is not None
        assert self._workers is not None
        assert self._dnsbl is not None
        assert self._passes is not None
        policy = None if rules is None else rules.upstream
        self._upstreams.want(choose(self._settings.flags, policy, self._settings.bootstrap))
        self._dnsbl.set_rules(rules)
        if rules is not None:
            limits, cache = rules.limits, rules.cache
            self._passes.retention = cache.retention
            self._workers.set_prefixes(
                min(limits.prefix_ipv4, cache.prefix_ipv4), min(limits.prefix_ipv6, cache.prefix_ipv6)
            )
        self._telemetry.set_sampling(rules.sampling if rules is not None else ())
        if self._settings.log_format is None and rules is not None:
            self._telemetry.set_log_format(rules.log_format.value)
        if self._on_applied is not None:
            self._on_applied(None if rules is None else rules.policy)

    def _recorded(self, records: Sequence[Recorded]) -> None:
        assert self._upstreams is not None
        assert self._telemetry is not None
        self._seen(records)
        if any(said.handoff and said.verdict not in _NOT_HANDED_OVER for said in map(alike.said, records)):
            self._upstreams.handed_over()
        self._telemetry.observe(records)
        self._tail.observe(records)
        if self._on_records is not None:
            self._on_records(alike.all_whole(records))

    async def _learn(self, learned: Learned) -> None:
        if self._state is not None:
            await asyncio.to_thread(self._state.save_learned, learned)

    def _trust(self, pem: bytes) -> None:
        if self._state is not None:
            self._state.save_trust(pem)

    async def _report_handoff(self, state: str, detail: str) -> None:
        assert self._upstreams is not None
        in_force, pod_ip = self._upstreams.in_force, self._settings.pod_ip
        redirected = self._settings.redirected_ports
        if state == PROVED and (exposed := await prober.exposed(in_force, pod_ip, redirected)):
            _log.warning("%s", exposed)
            state, detail = UPSTREAM_EXPOSED, exposed
        if self._client is not None:
            await self._client.report(state, detail)
