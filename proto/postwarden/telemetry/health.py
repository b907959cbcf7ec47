"""One warning, not thousands, when the OTLP endpoint does not take what it is sent.

The exporters log each failed attempt by themselves, for each signal. Here these logs are kept off the sidecar's, and the latest is
quoted in a warning of ours: at the first failure, then after a minute, and with doubling pauses up to an hour; one more line when
it works again. What sends to the same endpoint in one process (`postwarden up`'s operator and sidecar) shares one Health.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import ClassVar

from postwarden.telemetry.endpoint import FLAG
from postwarden.telemetry.escape import printable

FIRST_PAUSE = 60.0  # seconds between two warnings; short enough to be seen by who is setting it up
LONGEST_PAUSE = 3600.0  # seconds; a collector that is down for days makes a line an hour
_MAX_QUOTE = 300  # characters of an exporter's complaint
_SDK_LOGGER = logging.getLogger("opentelemetry")
_LOGGER = logging.getLogger("postwarden.telemetry")


class _Complaints(logging.Handler):
    """Keeps the latest complaint of the SDK and its exporters instead of showing it. listening: how many of them there are."""

    listening = 0

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.latest = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        # An attempt's own error says more than the later "failed due to timeout, max retries or shutdown".
        if "shutdown" not in text.lower() or not self.latest:
            self.latest = text


class Health:
    """Whether the endpoint takes what it is sent. Called by the exporters' threads. clock: seconds, never going back."""

    _shared: ClassVar[dict[str, Health]] = {}

    @classmethod
    def of(cls, endpoint: str, clock: Callable[[], float]) -> Health:
        """The one that others in this process have of the same endpoint, or a new one."""
        health = cls._shared.get(endpoint)
        if health is None:
            health = cls._shared[endpoint] = cls(endpoint, clock)
        health._users += 1
        return health

    def __init__(self, endpoint: str, clock: Callable[[], float]) -> None:
        self._url = endpoint
        self._endpoint = printable(endpoint)
        self._clock = clock
        self._lock = threading.Lock()
        self._complaints = _Complaints()
        self._pause = FIRST_PAUSE
        self._next_warning = float("-inf")
        self._lost = 0
        self._failing: set[str] = set()
        self._sources: dict[str, str] = {}
        self._given_up = False
        self._users = 0
        _Complaints.listening += 1
        _SDK_LOGGER.addHandler(self._complaints)
        _SDK_LOGGER.propagate = False

    def named(self, signal: str, source: str) -> None:
        """The flag or the variable that says that this signal goes here: what a person is to check."""
        self._sources[signal] = source

    def failed(self, signal: str, items: int, why: str = "") -> None:
        """So many items of a signal (`traces`, `metrics`, `logs`) could not be delivered and are lost. why: if the exporters do not say."""
        with self._lock:
            self._lost += items
            self._failing.add(signal)
            now = self._clock()
            if self._given_up or now < self._next_warning:
                return
            self._next_warning, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
            why = printable(why or self._complaints.latest, _MAX_QUOTE) or "no reason given"
            lost, signals = self._lost, ", ".join(sorted(self._failing))
            sources = sorted({self._sources.get(name, FLAG) for name in self._failing})
        _LOGGER.warning(
            "OTLP endpoint %s does not take %s (%d items lost so far): %s; mail goes on, check %s",
            self._endpoint,
            signals,
            lost,
            why,
            " and ".join(sources),
        )

    def worked(self, signal: str) -> None:
        """Something was delivered. A backend that takes traces may refuse logs for good: it is well when it takes all again."""
        if signal not in self._failing or self._given_up:
            return
        with self._lock:
            self._failing.discard(signal)
            if self._failing:
                return
            lost, self._lost = self._lost, 0
            self._pause, self._next_warning = FIRST_PAUSE, float("-inf")
            self._complaints.latest = ""
        _LOGGER.info("OTLP endpoint %s works again; %d items were lost", self._endpoint, lost)

    def give_up(self) -> None:
        """The process ends and the endpoint still owes answers: tell that, if no failure was told yet, and nothing from now on. The
        SDK's threads that hang stay silenced."""
        with self._lock:
            told, self._given_up = bool(self._failing) or self._given_up, True
            self._shared.pop(self._url, None)
        if not told:
            _LOGGER.warning(
                "OTLP endpoint %s did not answer in time; what waited for it is lost", self._endpoint
            )

    def close(self) -> None:
        """One user less. The last one leaves the SDK's logging as it was found."""
        self._users -= 1
        if self._users > 0:
            return
        self._shared.pop(self._url, None)
        _SDK_LOGGER.removeHandler(self._complaints)
        _Complaints.listening -= 1
        _SDK_LOGGER.propagate = not _Complaints.listening
