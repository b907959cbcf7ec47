"""One warning, not thousands, when the OTLP endpoint does not take what it is sent.

The exporters log each failed attempt by themselves, for each signal. Here these logs are kept off the sidecar's, and the latest is
quoted in a warning of ours: at the first failure, then after a minute, and with doubling pauses up to an hour; one more line when
it works again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from postwarden.telemetry.escape import printable

FIRST_PAUSE = 60.0  # seconds between two warnings; short enough to be seen by who is setting it up
LONGEST_PAUSE = 3600.0  # seconds; a collector that is down for days makes a line an hour
_MAX_QUOTE = 300  # characters of an exporter's complaint
_SDK_LOGGER = logging.getLogger("opentelemetry")
_LOGGER = logging.getLogger("postwarden.telemetry")


class _Complaints(logging.Handler):
    """Keeps the latest complaint of the SDK and its exporters instead of showing it."""

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

    def __init__(self, endpoint: str, clock: Callable[[], float]) -> None:
        self._endpoint = printable(endpoint)
        self._clock = clock
        self._lock = threading.Lock()
        self._complaints = _Complaints()
        self._pause = FIRST_PAUSE
        self._next_warning = float("-inf")
        self._lost = 0
        self._failing = False
        self._given_up = False
        self._propagated = _SDK_LOGGER.propagate
        _SDK_LOGGER.addHandler(self._complaints)
        _SDK_LOGGER.propagate = False

    def failed(self, signal: str, items: int) -> None:
        """So many items of a signal (`traces`, `metrics`, `logs`) could not be delivered and are lost."""
        with self._lock:
            self._lost += items
            self._failing = True
            now = self._clock()
            if self._given_up or now < self._next_warning:
                return
            self._next_warning, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
            why = printable(self._complaints.latest, _MAX_QUOTE) or "no reason given"
            lost = self._lost
        _LOGGER.warning(
            "OTLP endpoint %s does not take %s (%d items lost so far): %s; mail goes on, check --otlp-endpoint",
            self._endpoint,
            signal,
            lost,
            why,
        )

    def worked(self) -> None:
        """Something was delivered."""
        if not self._failing or self._given_up:
            return
        with self._lock:
            lost, self._lost = self._lost, 0
            self._failing = False
            self._pause, self._next_warning = FIRST_PAUSE, float("-inf")
            self._complaints.latest = ""
        _LOGGER.info("OTLP endpoint %s works again; %d items were lost", self._endpoint, lost)

    def give_up(self) -> None:
        """The process ends and the endpoint still owes answers: tell that, if no failure was told yet, and nothing from now on. The
        SDK's threads that hang stay silenced."""
        with self._lock:
            told, self._given_up = self._failing, True
        if not told:
            _LOGGER.warning(
                "OTLP endpoint %s did not answer in time; what waited for it is lost", self._endpoint
            )

    def close(self) -> None:
        """Leave the SDK's logging as it was found."""
        _SDK_LOGGER.removeHandler(self._complaints)
        _SDK_LOGGER.propagate = self._propagated
