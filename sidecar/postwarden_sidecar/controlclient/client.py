"""The sidecar's side of the control plane: a stream to the operator at all times, as far as one can be had.

The operator may be away for as long as it takes: what is in force stays. A stream ends after about half an
hour by our making a new one first, so that replicas come to share the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from importlib.metadata import version

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_sidecar.controlclient.backoff import LARGEST, Backoff
from postwarden_sidecar.controlclient.blobs import Blobs
from postwarden_sidecar.controlclient.reports import Reports
from postwarden_sidecar.controlclient.stream import Pushed, RulesSink, Stream, StreamLost, hello
from postwarden_sidecar.controlclient.target import ControlTarget, TokenUnreadable
from postwarden_sidecar.controlclient.trust import Trust
from postwarden_sidecar.handoff.proof import OPEN_RELAY, PROVED, UNPROVED, WRONG_ANSWER

STREAM_LIFE = 30 * 60.0  # seconds (design)
STREAM_LIFE_SPREAD = 0.2  # share of it, up and down (design)
UPSTREAM_EXPOSED = "UpstreamExposed"  # the MTA answers past the sidecar
_HANDOFF_STATES = {
    PROVED: pb.HANDOFF_STATE_PROVED,
    UNPROVED: pb.HANDOFF_STATE_UNPROVED,
    WRONG_ANSWER: pb.HANDOFF_STATE_WRONG_ANSWER,
    OPEN_RELAY: pb.HANDOFF_STATE_OPEN_RELAY,
    UPSTREAM_EXPOSED: pb.HANDOFF_STATE_UPSTREAM_EXPOSED,
}

Uniform = Callable[[float, float], float]

_log = logging.getLogger(__name__)


class ControlClient:
    """`run` it as a task; cancel that to end it."""

    def __init__(
        self,
        target: ControlTarget,
        sink: RulesSink,
        *,
        extra_trust: bytes = b"",
        stream_life: float = STREAM_LIFE,
        uniform: Uniform = random.uniform,
        pushed: Pushed | None = None,
    ) -> None:
        """extra_trust: PEM of a trust bundle that came earlier. uniform: the source of jitter. pushed: told of each snapshot."""
        self._pushed = pushed
        self._target = target
        self._sink = sink
        self._stream_life = stream_life
        self._uniform = uniform
        self._blobs = Blobs(uniform)
        self._stream: Stream | None = None
        self._report: pb.HandoffReport | None = None
        self.reports = Reports(self._send_report, uniform)
        self.trust = Trust(target, extra_trust)
        self.connected = False

    async def report(self, state: str, detail: str) -> None:
        """Tell the operator at once what the proof of the hand-off found, and every later stream again.
        state: of handoff.proof, or UPSTREAM_EXPOSED."""
        report = pb.HandoffReport(state=_HANDOFF_STATES[state], detail=detail)
        if report == self._report:
            return
        self._report = report
        if self._stream is not None:
            with contextlib.suppress(StreamLost):  # the next stream tells it
                await self._stream.send(pb.SidecarMessage(handoff=report))

    async def _send_report(self, report: pb.SidecarMessage) -> None:
        if self._stream is not None:
            with contextlib.suppress(StreamLost):  # the next stream tells it
                await self._stream.send(report)

    async def run(self) -> None:
        """For ever."""
        reports = asyncio.create_task(self.reports.run())
        try:
            await self._keep_connected()
        finally:
            reports.cancel()

    async def _keep_connected(self) -> None:
        backoff = Backoff(self._uniform)
        current: asyncio.Task[None] | None = None
        said = ""
        try:
            while True:
                try:
                    stream = await self._connect()
                except (StreamLost, TokenUnreadable) as error:
                    problem = str(error)
                else:
                    began = asyncio.get_running_loop().time()
                    previous, current = current, asyncio.create_task(stream.run())
                    await _end(previous)
                    problem = await self._serve(current)
                    if not problem:
                        continue  # its time is over: the new one first, then the end of this one
                    if stream.heard or asyncio.get_running_loop().time() - began > LARGEST:
                        backoff.reset()
                        said = ""
                # An old stream that is good still stays; the new one is tried again later.
                if (
                    current is not None
                    and not current.done()
                    and not await self._serve(current, backoff.next_wait())
                ):
                    continue
                self._stream, self.connected = None, False
                wait = backoff.next_wait()
                if problem != said:  # an operator that is away for a day is one line
                    _log.warning("no stream to the operator, what is in force stays: %s", problem)
                    said = problem
                await asyncio.sleep(wait)
        finally:
            self._stream, self.connected = None, False
            await _end(current)

    async def _connect(self) -> Stream:
        stream = await Stream.connect(
            self._target,
            self.trust,
            self._sink,
            self._blobs,
            hello(
                version("postwarden"),
                self._sink.in_force,
                complete=self._sink.complete,
                trust_expires=self.trust.expires,
            ),
            self.reports.tell_all,
            self._pushed,
        )
        self._stream, self.connected = stream, True
        if self._report is not None:
            with contextlib.suppress(StreamLost):  # running the stream tells why
                await stream.send(pb.SidecarMessage(handoff=self._report))
        await self.reports.tell_all()
        return stream

    async def _serve(self, stream: asyncio.Task[None], life: float | None = None) -> str:
        """Until the stream is lost (the sentence why) or its time is over ("")."""
        if life is None:
            spread = STREAM_LIFE_SPREAD * self._stream_life
            life = self._uniform(self._stream_life - spread, self._stream_life + spread)
        await asyncio.wait([stream], timeout=life)
        if not stream.done():
            return ""
        error = stream.exception()
        if isinstance(error, StreamLost):
            return str(error)
        _log.error("the stream to the operator broke", exc_info=error)
        return f"a fault in the sidecar: {error}"


async def _end(stream: asyncio.Task[None] | None) -> None:
    if stream is None:
        return
    stream.cancel()
    await asyncio.wait([stream])
    if not stream.cancelled():
        stream.exception()  # its end was told already, or does not matter any more
