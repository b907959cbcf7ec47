"""The supervisor's one entry to telemetry: records in; log lines, spans, log records and metrics out.

`observe` only queues: rendering and writing happen on a thread of their own, so that a log stream or a collector that blocks never
holds up the supervisor's loop. Everything is bounded; what does not fit is dropped and counted in `postwarden.telemetry.dropped`.
A worker never imports this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Literal, NamedTuple

from opentelemetry.trace import SpanContext, format_span_id, format_trace_id
from postwarden.telemetry import prometheus
from postwarden.telemetry.endpoint import OtlpProtocol, wanted_endpoints
from postwarden.telemetry.otlp_metrics import INTERVAL
from postwarden.telemetry.readings import Reading
from postwarden.telemetry.resource import resource as resource_of

from postwarden_sidecar.engine import alike
from postwarden_sidecar.engine.record import Alike, Record, Recorded, Verdict
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.rules.settings import LogFormat, PolicyRef, SampleRate
from postwarden_sidecar.telemetry import logs, metrics, postscreen, pretty, privacy
from postwarden_sidecar.telemetry.otlp import Otlp
from postwarden_sidecar.telemetry.policy_push import PolicyPush
from postwarden_sidecar.telemetry.sampling import Sampler
from postwarden_sidecar.telemetry.sidecar_state import SidecarState

LineFormat = LogFormat | Literal["JSON", "Postscreen", "PostscreenLegacy", "pretty"]
PROMETHEUS_CONTENT_TYPE = prometheus.CONTENT_TYPE
SERVICE_NAME = "postwarden-sidecar"
QUEUE_LIMIT = 4096  # records that wait to be rendered; a record is about 2 KiB here, so 8 MiB
_LOGGER = logging.getLogger(__name__)


class Stress(NamedTuple):
    """Stress mode began (on) or ended. moment: epoch seconds."""

    moment: float
    on: bool
    connections: int


class Telemetry:
    """Verdicts as traces, metrics and logs.

    page: the shared page that metrics are read from; it must outlive this object. state: called for metrics, by any thread. resource:
    attributes of the OpenTelemetry resource besides the service's own, such as k8s.pod.name (`resource.from_environment`). log_stream:
    an open binary stream, stdout or stderr; None: no log lines. hostname, pid: as shown in Postscreen lines. otlp_endpoint:
    `http://HOST:PORT` or https; None: as OTEL_EXPORTER_OTLP_ENDPOINT says, else no OTLP; signals may have their own
    (`endpoint.wanted_endpoints`). otlp_protocol: None chooses (`endpoint.parse_endpoint`). metrics_interval:
    seconds between two OTLP exports of metrics. clock: seconds, never going back, for sampling.
    environ: where the variables of `endpoint.wanted_endpoints` and NO_COLOR are looked up.

    An endpoint that is malformed or down is warned of (logger `postwarden_sidecar.telemetry`) and never raises.
    """

    def __init__(
        self,
        *,
        page: Page,
        log_format: LineFormat,
        log_stream: BinaryIO | None,
        hostname: str,
        pid: int,
        state: Callable[[], SidecarState] = SidecarState,
        resource: Mapping[str, str] | None = None,
        otlp_endpoint: str | None = None,
        otlp_protocol: OtlpProtocol | None = None,
        metrics_interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._page = page
        self._state = state
        self._format: LineFormat = log_format
        self._stream = log_stream
        self._colour = log_stream is not None and log_stream.isatty() and not environ.get("NO_COLOR")
        self._hostname = hostname
        self._pid = pid
        self._sampler = Sampler(clock)
        self._lost = {"record": 0, "line": 0}
        self._complained: set[str] = set()
        found = resource_of(SERVICE_NAME, resource or {})
        shown = {key: str(value) for key, value in found.attributes.items()}
        self._exposition = prometheus.Exposition(self._read, shown)
        self._otlp: Otlp | None = None
        try:
            if endpoints := wanted_endpoints(otlp_endpoint, otlp_protocol, environ):
                self._otlp = Otlp(
                    endpoints, found, self._read, clock=clock, metrics_interval=metrics_interval
                )
        except Exception as error:  # the SDK reads variables of its own and raises what it likes
            _LOGGER.warning("no OTLP: %s", error)

        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[LineFormat, Sequence[Recorded] | Stress | PolicyPush] | None] = (
            queue.SimpleQueue()
        )
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="postwarden-telemetry", daemon=True)
        self._thread.start()

    def observe(self, records: Sequence[Recorded]) -> None:
        """Take records that came from workers. Returns at once; never raises."""
        with self._lock:
            room = 0 if self._closed else QUEUE_LIMIT - self._waiting
            connections = alike.count(records)
            if connections > room:
                self._lost["record"] += connections - room
                records, connections = alike.first(records, room), room
            self._waiting += connections
        if connections:
            self._queue.put((self._format, records))

    def stress(self, on: bool, connections: int) -> None:
        """Stress mode began or ended, with so many connections in our hands. Returns at once; never raises."""
        self._queue.put((self._format, Stress(time.time(), on, connections)))

    def set_log_format(self, log_format: LineFormat) -> None:
        """Log lines of records observed from now on have this format."""
        self._format = log_format

    def set_sampling(self, rates: tuple[SampleRate, ...]) -> None:
        """Which connections get a trace from now on."""
        self._sampler.set_rates(rates)

    def policy_pushed(
        self, traceparent: str, start: float, end: float, policy: PolicyRef, refused: str
    ) -> None:
        """The operator sent a policy, which was applied or refused (why) at `end`; epoch seconds. Returns at once; never raises."""
        push = PolicyPush(traceparent, start, end, policy.namespace, policy.name, policy.revision, refused)
        if self._otlp is not None:
            self._queue.put((self._format, push))

    def prometheus(self) -> bytes:
        """The metrics in Prometheus' text format; serve them as PROMETHEUS_CONTENT_TYPE."""
        return self._exposition.text()

    async def close(self, timeout: float = 5.0) -> None:
        """Write and send what is queued, for `timeout` seconds at most, and end the threads that can be ended. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def work() -> None:
            end = time.monotonic() + timeout
            self._queue.put(None)
            self._thread.join(timeout / 2)
            if self._otlp is not None:
                self._otlp.close(max(0.0, end - time.monotonic()))
            with contextlib.suppress(RuntimeError):  # the loop did not wait for us
                loop.call_soon_threadsafe(done.set)

        # No executor: asyncio.run waits for its threads without a limit.
        threading.Thread(target=work, name="postwarden-telemetry-close", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), timeout)

    def _read(self) -> list[Reading]:
        lost = dict(self._lost)
        if self._otlp is not None:
            lost |= self._otlp.dropped()
        return metrics.read(self._page, lost, self._state())

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            log_format, records = batch
            if isinstance(records, Stress):
                self._write(self._render_stress(records, log_format))
                continue
            if isinstance(records, PolicyPush):
                if self._otlp is not None:
                    self._otlp.policy(records)
                continue
            lines = self._lines([each for each in records if isinstance(each, Record)], log_format)
            for each in records:
                if isinstance(each, Alike):
                    lines += self._lines_alike(each, log_format)
            self._write(lines)
            with self._lock:
                self._waiting -= alike.count(records)

    def _lines(self, records: Sequence[Record], log_format: LineFormat) -> list[bytes]:
        lines: list[bytes] = []
        for record in records:
            try:
                lines += self._render(privacy.shown(record), log_format)
            except Exception as error:  # one odd record must not end telemetry
                self._lose("record", 1, f"a record can't be shown: {error!r}")
        return lines

    def _lines_alike(self, group: Alike, log_format: LineFormat) -> list[bytes]:
        template, lines, exported = group.template, [], []
        if log_format != LogFormat.JSON or not privacy.shows_all(template):
            return self._lines(alike.all_whole([group]), log_format)
        rendered = logs.AlikeLines(template)
        for visit in group.visits:
            try:
                trace = None
                if self._otlp is not None:
                    traced, logged = self._signals(template.verdict)
                    if traced:
                        trace = self._otlp.trace(alike.whole(template, visit))
                    if logged:
                        exported.append((visit, trace))
                if self._stream is not None:
                    lines.append(rendered.line(visit, *_ids(trace)))
            except Exception as error:  # as above
                self._lose("record", 1, f"a record can't be shown: {error!r}")
        if exported and self._otlp is not None:
            self._otlp.log_alike(template, exported)
        return lines

    def _render(self, record: Record, log_format: LineFormat) -> list[bytes]:
        trace = self._export(record) if self._otlp is not None else None
        if self._stream is None:
            return []
        if log_format == LogFormat.JSON:
            return [logs.json_line(record, *_ids(trace))]
        if log_format == "pretty":
            return [pretty.pretty_line(record, colour=self._colour).encode()]
        legacy = log_format == LogFormat.POSTSCREEN_LEGACY
        found = postscreen.lines(record, self._hostname, self._pid, legacy=legacy)
        return [line.encode() for line in found]

    def _render_stress(self, change: Stress, log_format: LineFormat) -> list[bytes]:
        if log_format == "pretty":
            return [pretty.stress_line(*change).encode()]
        if log_format == LogFormat.JSON:
            return [logs.stress_line(*change)]
        return [postscreen.stress_line(*change, self._hostname, self._pid).encode()]

    def _export(self, record: Record) -> SpanContext | None:
        assert self._otlp is not None
        traced, logged = self._signals(record.verdict)
        trace = self._otlp.trace(record) if traced else None
        if logged:
            self._otlp.log(record, trace)
        return trace

    def _signals(self, verdict: Verdict) -> tuple[bool, bool]:
        """Whether a connection is to have a trace, and a log record: who was dropped has none without the other."""
        traced = self._sampler.sampled(verdict)
        return traced, traced or verdict is not Verdict.DROPPED

    def _write(self, lines: Sequence[bytes]) -> None:
        if not lines or self._stream is None:
            return
        try:
            self._stream.write(b"\n".join([*lines, b""]))  # one write for all of a batch
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self._lose("line", len(lines), f"log lines can't be written: {error}")

    def _lose(self, signal: str, items: int, why: str) -> None:
        """Count; complain once for each signal, for the counter tells the rest."""
        with self._lock:
            self._lost[signal] += items
        if signal not in self._complained:
            self._complained.add(signal)
            _LOGGER.warning("%s; further ones are only counted, in postwarden.telemetry.dropped", why)


def _ids(trace: SpanContext | None) -> tuple[str, str]:
    """Of trace and span, as lines have them."""
    return ("", "") if trace is None else (format_trace_id(trace.trace_id), format_span_id(trace.span_id))
