"""What waits to be sent to an OTLP endpoint, of one signal: a bounded queue, and a thread that sends it in batches.

The SDK's batch processors are not used: they drop the oldest item of a full queue and tell nobody how many, and they need spans and log
records that are made already, one by one, in whatever moment. Here a thunk waits, so that items are made when a batch is sent, all at
once (a third of what they cost one by one, with cold caches between), and never at all where the endpoint is down: what it would not
take is counted and not made.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from postwarden.telemetry.health import Health

QUEUE_LIMIT = 2048  # spans or log records that wait; the SDK's default. At 2 KiB each: 4 MiB a signal
BATCH_SIZE = 512  # items of a request; the SDK's default
# Seconds that a batch is waited for: the SDK's default for spans. A request costs some 2.5 ms of CPU however little is in it (measured):
# each second, it was two thirds of all that OTLP takes under a flood. Whoever looks at traces has the log line at once.
DELAY = 5.0
DELAY_VARIABLES = {"traces": "OTEL_BSP_SCHEDULE_DELAY", "logs": "OTEL_BLRP_SCHEDULE_DELAY"}  # milliseconds
LONGEST_PAUSE = 60.0  # seconds between two tries at an endpoint that does not work; they double from DELAY
TRIAL_SIZE = 16  # items of such a try: exporters encode them anew for each of their own attempts

Item = TypeVar("Item")
Make = Callable[[], Sequence[Item]]


def batch_delays(environ: Mapping[str, str]) -> dict[str, float]:
    """Seconds that a batch of spans or log records is waited for, by signal: what the SDK's own variables say, else DELAY. Raises
    ValueError."""
    delays = dict.fromkeys(DELAY_VARIABLES, DELAY)
    for signal, variable in DELAY_VARIABLES.items():
        if told := environ.get(variable):
            if not told.isascii() or not told.isdecimal() or int(told) == 0:
                raise ValueError(f"{variable}={told}: give milliseconds, a whole number above 0")
            delays[signal] = int(told) / 1000
    return delays


class Outlet(Generic[Item]):
    """One signal's items on their way out. Thread-safe. send: whether so many items were delivered; may take its time, and raise.
    health: of where they go. send or health None: nowhere; it admits nothing, and nothing counts as dropped."""

    def __init__(
        self,
        signal: str,
        send: Callable[[Sequence[Item]], bool] | None,
        health: Health | None,
        *,
        limit: int = QUEUE_LIMIT,
        delay: float = DELAY,
    ) -> None:
        self.signal = signal
        self.dropped = 0
        self._health = health
        self._send = send
        self._limit = limit
        self._delay = self._pause = delay
        self._admitted = 0
        self._queue: deque[tuple[Make[Item], int]] = deque()
        self._queued = 0
        self._lock = threading.Lock()
        self._filled = threading.Event()  # something waits, or it is the end
        self._due = threading.Event()  # a batch is full, or it is the end
        self._stopped = False
        self._thread: threading.Thread | None = None
        if send is not None:
            self._thread = threading.Thread(target=self._run, name=f"postwarden-otlp-{signal}", daemon=True)
            self._thread.start()

    def admit(self, items: int) -> bool:
        """Whether so many may be queued; if not, they count as dropped."""
        if self._thread is None:
            return False
        with self._lock:
            if self._stopped or self._admitted + items > self._limit:
                self.dropped += items
                return False
            self._admitted += items
            return True

    def queue(self, make: Make[Item], items: int) -> None:
        """Send these, which were admitted. make: gives so many; called by the outlet's thread, once, or never."""
        with self._lock:
            if self._stopped and not self._filled.is_set():  # its thread has ended
                self.dropped += items
                return
            self._queue.append((make, items))
            self._queued += items
            if not self._filled.is_set():
                self._filled.set()
            if self._queued >= BATCH_SIZE and self._working:
                self._due.set()

    def stop(self, timeout: float) -> None:
        """Send what waits, as long as the endpoint takes it, and end. Waits for so many seconds at most."""
        with self._lock:
            self._stopped = True
        self._due.set()
        self._filled.set()
        if self._thread is not None:
            self._thread.join(timeout)

    @property
    def _working(self) -> bool:
        return self._pause == self._delay

    def _run(self) -> None:
        while True:
            self._filled.wait()
            self._due.wait(self._pause)
            last = self._stopped
            while (batch := self._take()) and self._deliver(*batch):
                pass
            with self._lock:
                if last:
                    self._give_up()
                    return
                if not self._queue:
                    self._filled.clear()
                if not self._stopped:
                    self._due.clear()

    def _take(self) -> tuple[list[Make[Item]], int] | None:
        """The next batch, and how many items it has; None: nothing waits."""
        size = BATCH_SIZE if self._working else TRIAL_SIZE
        makes: list[Make[Item]] = []
        items = 0
        with self._lock:
            while self._queue and (not makes or items + self._queue[0][1] <= size):
                make, count = self._queue.popleft()
                makes.append(make)
                items += count
            self._queued -= items
        return (makes, items) if makes else None

    def _deliver(self, makes: list[Make[Item]], items: int) -> bool:
        assert self._send is not None
        assert self._health is not None
        delivered, why = False, ""
        try:
            delivered = self._send([item for make in makes for item in make()])
        except Exception as error:  # an exporter raises what it likes; the next batch may arrive
            why = f"{type(error).__name__}: {error}"
        with self._lock:
            self._admitted -= items
            if not delivered:
                self.dropped += items
        if delivered:
            self._pause = self._delay
            self._health.worked(self.signal)
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._health.failed(self.signal, items, why)
        return delivered

    def _give_up(self) -> None:
        """At the end; the lock is held."""
        self.dropped += self._queued
        self._admitted -= self._queued
        self._queue.clear()
        self._queued = 0
        self._filled.clear()
