"""All workers of a sidecar: the rules and the upstream that each is to have, restarts, heartbeats, drain.

A worker that dies is started again on the listener that the supervisor kept, so that clients in its queue
wait and are not lost; it gets what is in force before it accepts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from postwarden_sidecar.controlclient.stream import NotApplied
from postwarden_sidecar.engine.record import Recorded
from postwarden_sidecar.ipc.messages import (
    AcceptPaused,
    Applied,
    Drain,
    EhloLearned,
    NoRules,
    PassQuery,
    PassStored,
    ProbeWanted,
    Ready,
    Resolvers,
    RulesInForce,
    Stress,
    Suspect,
    ToSupervisor,
    UpstreamFault,
    UpstreamInForce,
    ZoneProbed,
)
from postwarden_sidecar.ipc.page import CELLS, HEARTBEAT, Page
from postwarden_sidecar.net.accept_pause import PACE
from postwarden_sidecar.supervisor.shares import Shares
from postwarden_sidecar.supervisor.worker_process import WorkerProcess

SILENCE = 10.0  # seconds without a heartbeat after which a worker is killed (design)
WATCH_INTERVAL = 1.0  # seconds between two looks at the heartbeats
APPLY_TIMEOUT = 30.0  # seconds for all workers to apply rules: a restart within is allowed for
# seconds before a restart, doubling with each death in DEATH_WINDOW
FIRST_RESTART, LARGEST_RESTART = 0.1, 5.0
DEATH_WINDOW = 60.0  # seconds (design: deaths in a minute)
MAX_DEATHS = 3  # in DEATH_WINDOW; then others have the clients of that worker (design)
LAST_WORD = 2.0  # seconds that a worker has to exit once it was told to end at once (design: within 2 s)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Rules:
    """image: a descriptor that is ours; None: no rules, and defer and proxy_trusted say what clients get."""

    serial: int
    image: int | None
    defer: bool
    proxy_trusted: tuple[str, ...] = ()

    def send_to(self, worker: WorkerProcess) -> None:
        if self.image is None:
            worker.send(NoRules(self.serial, self.defer, self.proxy_trusted))
        else:
            worker.send(RulesInForce(self.serial), [self.image])


@dataclass(frozen=True, slots=True)
class WorkerState:
    """ready: it accepts. in_force: it decides by the rules that were given last (or has none, where there are none)."""

    index: int
    pid: int
    ready: bool
    in_force: bool


class Workers:
    """The pool. Passes and faults go to the callbacks, on the event loop."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        page: Page,
        *,
        on_records: Callable[[Sequence[Recorded]], None],
        on_pass: Callable[[WorkerProcess, PassQuery | PassStored], None],
        on_fault: Callable[[UpstreamFault], None],
        on_stress: Callable[[bool, int], None] = lambda on, connections: None,
        on_probe_wanted: Callable[[str], None] = lambda _zone: None,
        on_steering: Callable[[str], None] = lambda _problem: None,
        on_learned: Callable[[EhloLearned], None] = lambda _learned: None,
        proxy_trusted: tuple[str, ...] = (),
    ) -> None:
        """on_steering: see Shares' on_problem. proxy_trusted: load balancers, while there are no rules."""
        self._proxy_trusted = proxy_trusted
        self._listeners = listeners
        self._page = page
        self._on_records = on_records
        self._on_pass = on_pass
        self._on_fault = on_fault
        self._on_stress = on_stress
        self._stress = False
        self._warn_of_pause_at = 0.0
        self._on_probe_wanted = on_probe_wanted
        self._on_learned = on_learned
        self._running: dict[int, WorkerProcess] = {}
        self._shares = Shares(listeners, self._running, page, on_steering)
        self._started: dict[int, float] = {}
        self._deaths: dict[int, deque[float]] = {index: deque() for index in range(len(listeners))}
        self._rules: _Rules | None = None
        self._serial = 0
        self._upstream: UpstreamInForce | None = None
        self._resolvers: Resolvers | None = None
        self._suspect = Suspect("")
        self._ending = False
        self._changed = asyncio.Event()
        self._refusal = ""
        self._restarts: set[asyncio.TimerHandle] = set()
        self._watch: asyncio.Task[None] | None = None

    @property
    def accepting(self) -> bool:
        """Every worker that clients are steered to has its rules and accepts."""
        return all(worker is not None and worker.ready for worker in self._steered_to())

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the running workers, by index."""
        return tuple(worker.pid for _, worker in sorted(self._running.items()))

    @property
    def states(self) -> tuple[WorkerState, ...]:
        """Of the running workers, by index."""
        serial = 0 if self._rules is None else self._rules.serial
        return tuple(
            WorkerState(index, worker.pid, worker.ready, worker.applied == serial)
            for index, worker in sorted(self._running.items())
        )

    @property
    def suspect(self) -> str:
        """The address that stands for many clients; "": none."""
        return self._suspect.address

    def start(self) -> None:
        """Start all. Raises OSError if a process can't be started."""
        for index in range(len(self._listeners)):
            self._spawn(index)
        self._watch = asyncio.create_task(self._watch_heartbeats())

    def set_prefixes(self, ipv4: int, ipv6: int) -> None:
        """Bits of an address that are one client: all its connections go to one worker."""
        self._shares.set_prefixes(ipv4, ipv6)

    def set_upstream(self, upstream: UpstreamInForce) -> None:
        """Tell all, and those to come."""
        self._upstream = upstream
        for worker in self._running.values():
            worker.send(upstream)

    def set_resolvers(self, resolvers: Resolvers) -> None:
        """Tell all, and those to come."""
        self._resolvers = resolvers
        for worker in self._running.values():
            worker.send(resolvers)

    def set_suspect(self, suspect: Suspect) -> None:
        """Tell all, and those to come."""
        self._suspect = suspect
        for worker in self._running.values():
            worker.send(suspect)

    def tell_probed(self, probed: ZoneProbed) -> None:
        """Tell all."""
        for worker in self._running.values():
            worker.send(probed)

    async def wait_accepting(self) -> None:
        """Until `accepting`."""
        while not self.accepting:
            self._changed.clear()
            await self._changed.wait()

    def name_zones(self, templates: Iterable[str]) -> None:
        """Rules with these DNSBL zones come next: their look-ups are to be counted by zone."""
        self._page.lookups.name_zones(templates)

    async def set_rules(self, image: int | None, *, defer: bool = False) -> None:
        """Put an image (None: no rules) in force in every worker; returns when all have applied it. The
        descriptor is taken over. Raises NotApplied if a worker refuses it or all is not done in
        APPLY_TIMEOUT; the previous rules are in force then. Not to be called twice at a time, nor
        cancelled."""
        previous, current = self._rules, self._distribute(_Rules(0, image, defer, self._proxy_trusted))
        try:
            async with asyncio.timeout(APPLY_TIMEOUT):
                while not self._refusal and not self._all_applied(current.serial):
                    self._changed.clear()
                    await self._changed.wait()
            problem = self._refusal
        except TimeoutError:
            problem = f"not every worker has applied the rules within {APPLY_TIMEOUT:.0f} s"
        outdated = current if problem else previous
        if problem:
            self._rules = None if previous is None else self._distribute(previous)
        if outdated is not None and outdated.image is not None:
            os.close(outdated.image)
        if problem:
            raise NotApplied(problem)

    async def drain(self, timeout: float) -> None:
        """Turn new clients away, let relays end within timeout, then end all workers. None is started
        again."""
        self._ending = True
        for worker in self._running.values():
            worker.send(Drain(timeout))
        if not await self._gone(timeout + LAST_WORD):
            await self.stop()

    async def stop(self) -> None:
        """End all workers within LAST_WORD seconds, whatever is open."""
        self._ending = True
        for restart in self._restarts:
            restart.cancel()
        for worker in self._running.values():
            worker.send(Drain(0.0))
        if not await self._gone(LAST_WORD):
            for worker in self._running.values():
                worker.kill()
            await self._gone(None)
        if self._watch is not None:
            self._watch.cancel()
        if self._rules is not None and self._rules.image is not None:
            os.close(self._rules.image)
        self._rules = None

    def received(self, worker: WorkerProcess, message: ToSupervisor) -> None:
        """See WorkerEvents."""
        match message:
            case Ready():
                worker.ready = True
                self._shares.accepts(worker)
                self._changed.set()
            case Applied(serial=serial, error=error):
                if not error:
                    worker.applied = serial
                elif self._rules is not None and serial == self._rules.serial:
                    self._refusal = f"worker {worker.index} can't use the rules: {error}"
                self._changed.set()
            case PassQuery() | PassStored():
                self._on_pass(worker, message)
            case UpstreamFault():
                self._on_fault(message)
            case Stress(on=on, connections=connections):
                if on is not self._stress:  # two workers may have seen it
                    self._stress = on
                    self._on_stress(on, connections)
            case EhloLearned():
                self._on_learned(message)
            case ProbeWanted(zone=zone):
                self._on_probe_wanted(zone)
            case AcceptPaused(why=why):
                self._warn_of_pause(worker, why)

    def _warn_of_pause(self, worker: WorkerProcess, why: str) -> None:
        """Of all workers together, and of what came late, at most once in PACE seconds."""
        now = time.monotonic()
        if now >= self._warn_of_pause_at:
            self._warn_of_pause_at = now + PACE
            _log.warning("clients wait to be accepted by worker %d: %s", worker.index, why)

    def recorded(self, records: Sequence[Recorded]) -> None:
        """See WorkerEvents."""
        self._on_records(records)

    def ended(self, worker: WorkerProcess, status: int) -> None:
        """See WorkerEvents."""
        index = worker.index
        del self._running[index]
        self._page.zero_gauges(index)
        self._changed.set()
        if self._ending:
            return
        self._shares.died(index)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        _log.error("worker %d (pid %d) %s; it is started again", index, worker.pid, how)
        self._restart(index)

    def _restart(self, index: int) -> None:
        now = time.monotonic()
        deaths = self._deaths[index]
        deaths.append(now)
        while deaths[0] < now - DEATH_WINDOW:
            deaths.popleft()
        if len(deaths) >= MAX_DEATHS:
            self._shares.give_up(index)
        delay = min(FIRST_RESTART * 2 ** (len(deaths) - 1), LARGEST_RESTART)

        def again() -> None:
            self._restarts.discard(timer)
            if self._ending:
                return
            try:
                self._spawn(index)
            except OSError as error:
                _log.error("worker %d can't be started now: %s", index, error)
                self._restart(index)

        timer = asyncio.get_running_loop().call_later(delay, again)
        self._restarts.add(timer)

    def _spawn(self, index: int) -> None:
        worker = WorkerProcess(index, self._listeners[index], self._page, self)
        self._running[index] = worker
        self._started[index] = time.monotonic()
        self._shares.started(worker)
        if self._resolvers is not None:
            worker.send(self._resolvers)
        worker.send(self._suspect)
        if self._upstream is not None:
            worker.send(self._upstream)
        if self._rules is not None:
            self._rules.send_to(worker)

    def _distribute(self, rules: _Rules) -> _Rules:
        self._serial += 1
        self._refusal = ""
        self._rules = replace(rules, serial=self._serial)
        for worker in self._running.values():
            self._rules.send_to(worker)
        return self._rules

    def _all_applied(self, serial: int) -> bool:
        return all(worker is not None and worker.applied == serial for worker in self._steered_to())

    def _steered_to(self) -> list[WorkerProcess | None]:
        """None: not running now."""
        return [
            self._running.get(index) for index in range(len(self._listeners)) if index not in self._shares.out
        ]

    async def _gone(self, timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while self._running:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _watch_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            now = time.monotonic()
            for index, worker in self._running.items():
                beat = self._page.slot(index)[CELLS[HEARTBEAT]] / 1000
                if now - max(beat, self._started[index]) > SILENCE:
                    _log.error("worker %d (pid %d) is silent for %.0f s", index, worker.pid, SILENCE)
                    worker.kill()
                elif index in self._shares.out and worker.ready and now - self._started[index] > DEATH_WINDOW:
                    self._shares.take_back(index)
