"""Which MTA clients go to: the wanted one once it is proved, until then the one proved before, else none.

Proofs are made until one succeeds, and again when a worker met a fault. The proof itself, the time and what
is done with the outcome are arguments, so that this file is the design's table and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable

from postwarden_sidecar.engine.actions import HandoffOutcome
from postwarden_sidecar.handoff.proof import OPEN_RELAY, PROVED, UNPROVED, WRONG_ANSWER, ProofResult
from postwarden_sidecar.ipc.messages import EhloLearned, UpstreamFault, UpstreamInForce
from postwarden_sidecar.rules.settings import Handoff, Upstream
from postwarden_sidecar.supervisor.settings import UpstreamChoice
from postwarden_sidecar.supervisor.state_directory import Learned

FIRST_RETRY, LARGEST_RETRY = 0.2, 5.0  # seconds between proofs while none succeeds, doubling (design)
NO_UPSTREAM_GRACE = 3.0  # seconds without an upstream before that is complained of
FRESH = 30.0  # seconds that a good proof or hand-over speaks for the MTA (design, /upstream)
ASK_TIMEOUT = 5.0  # seconds that /upstream waits for a proof; kubelet's probes give up after 1 s unless told
LEARNED_PACE = 30.0  # seconds between two changes by what replays learned: an MTA may offer by client
_NO_UPSTREAM = (
    "no upstream is known: neither the start-up setting nor a policy names the MTA's address; "
    "set spec.upstream in the policy, or --upstream"
)
_NO_HANDOFF = (
    "the hand-off is not known: an MTA that expects another one would bounce mail; set "
    "spec.upstream.handoff in the policy, or --handoff"
)

_log = logging.getLogger(__name__)


def choose(flags: UpstreamChoice, policy: Upstream | None, bootstrap: UpstreamChoice) -> Upstream | str:
    """The upstream by precedence: flag, policy (of the operator, or the last known good), bootstrap; each of
    target and hand-off by itself. A string is the sentence why there is none."""
    target = flags.target or (policy.target if policy else None) or bootstrap.target
    handoff = flags.handoff or (policy.handoff if policy else None) or bootstrap.handoff
    if target is None:
        return _NO_UPSTREAM
    if handoff is None:
        return _NO_HANDOFF
    if handoff is Handoff.PASS and not target.startswith("unix:"):
        return f"the hand-off Pass needs a unix socket, and the upstream is {target}"
    return Upstream(target, handoff)


class Upstreams:
    """`run` it as a task."""

    def __init__(
        self,
        *,
        strict_relay: bool,
        try_unproved: bool,
        learned: Learned | None,
        prove: Callable[[Upstream], Awaitable[ProofResult]],
        announce: Callable[[UpstreamInForce], None],
        report: Callable[[str, str], Awaitable[None]],
        learn: Callable[[Learned], Awaitable[None]],
    ) -> None:
        """learned: by an earlier process. announce: tells the workers. report: tells the operator (state,
        detail). learn: keeps what a proof learned."""
        self._strict_relay = strict_relay
        self._try_unproved = try_unproved
        self._learned = learned
        self._prove = prove
        self._announce = announce
        self._report = report
        self._learn = learn
        self._wanted: Upstream | None = None
        self._why_none = _NO_UPSTREAM
        self._in_force: Upstream | None = None  # proved
        self._said: UpstreamInForce | None = None
        self._result: ProofResult | None = None  # of the last proof of the wanted one
        self._warned: set[Upstream] = set()
        self._due = asyncio.Event()
        self._changed = asyncio.Event()
        self._good_at = -math.inf
        self._learned_at = -math.inf
        self._unsaved = asyncio.Event()  # a replay learned what the disk does not have
        # What is wanted has a proof's result; or nothing is wanted.
        self.settled = asyncio.Event()

    @property
    def result(self) -> ProofResult | None:
        """Of the last proof of what is wanted; None: not yet."""
        return self._result

    @property
    def in_force(self) -> Upstream | None:
        """The proved upstream that clients are handed to."""
        return self._in_force

    def want(self, upstream: Upstream | str) -> None:
        """From now on clients are to go there (a string: nowhere, and why)."""
        wanted, why = (None, upstream) if isinstance(upstream, str) else (upstream, "")
        if self._said is not None and (wanted, why) == (self._wanted, self._why_none):
            return
        self._wanted, self._why_none = wanted, why
        self._result = None
        self.settled.clear()
        if wanted is None:
            self._in_force = None
            self._result = ProofResult(UNPROVED, why)
        elif wanted == self._in_force:
            self._result = ProofResult(PROVED, "")  # back to what serves
        if self._result is not None:
            self.settled.set()
        self._tell()
        self._due.set()

    def fault(self, fault: UpstreamFault) -> None:
        """A worker met the MTA and it went wrong. A wrong answer withdraws the upstream at once."""
        met = Upstream(fault.target, Handoff(fault.handoff))
        if met not in (self._in_force, self._wanted):
            return  # of an upstream that is not used any more
        if fault.outcome == HandoffOutcome.WRONG_ANSWER.value:
            _log.warning("the MTA at %s gave a wrong answer to a client: %s", met.target, fault.detail)
            if met == self._in_force:
                self._in_force = None
            if met == self._wanted:
                self._result = ProofResult(WRONG_ANSWER, fault.detail)
            self._tell()
        self._due.set()

    def replay_learned(self, message: EhloLearned) -> None:
        """A client's session was offered other keywords than the proof: all workers are told, and the disk, at a pace."""
        learned, now = self._learned, _now()
        if (
            learned is None
            or self._in_force != Upstream(message.target, Handoff(message.handoff))
            or learned.target != message.target
            or learned.ehlo == message.ehlo
            or now < self._learned_at + LEARNED_PACE
        ):
            return
        self._learned_at = now
        self._learned = Learned(learned.target, learned.banner, message.ehlo)
        self._tell()
        self._unsaved.set()

    def handed_over(self) -> None:
        """A client was given to the MTA and greeted."""
        self._good_at = _now()

    async def is_good(self) -> bool:
        """Whether a proof or hand-over of the last FRESH seconds was good; if none is that young, ask now."""
        if _now() - self._good_at > FRESH / 2:
            self._changed.clear()
            self._due.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_TIMEOUT):
                    await self._changed.wait()
        return _now() - self._good_at <= FRESH and self._usable()

    async def run(self) -> None:
        """Prove whenever that is due, and keep what replays learn, for ever."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._prove_when_due())
            both.create_task(self._save_what_replays_learn())

    async def _save_what_replays_learn(self) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            if self._learned is not None:
                await self._learn(self._learned)

    async def _prove_when_due(self) -> None:
        retry = FIRST_RETRY
        while True:
            await self._due.wait()
            self._due.clear()
            wanted = self._wanted
            if wanted is None:
                await self._complain_unless_changed()
                continue
            result = await self._prove_unless_changed(wanted)
            if result is None:
                retry = FIRST_RETRY
                continue
            await self._conclude(wanted, result)
            if self._in_force == wanted and result.state != UNPROVED:
                retry = FIRST_RETRY
                continue
            try:
                async with asyncio.timeout(retry):
                    await self._due.wait()
            except TimeoutError:
                self._due.set()
            retry = min(2 * retry, LARGEST_RETRY) if self._wanted == wanted else FIRST_RETRY

    async def _complain_unless_changed(self) -> None:
        """At a start the policy, which may name the upstream, is about to come."""
        try:
            async with asyncio.timeout(NO_UPSTREAM_GRACE):
                await self._due.wait()
        except TimeoutError:
            _log.warning("%s", self._why_none)
            await self._report(UNPROVED, self._why_none)

    async def _prove_unless_changed(self, wanted: Upstream) -> ProofResult | None:
        proof = asyncio.ensure_future(self._prove(wanted))
        changed = asyncio.ensure_future(self._wait_for_another(wanted))
        try:
            await asyncio.wait([proof, changed], return_when=asyncio.FIRST_COMPLETED)
            return proof.result() if proof.done() and self._wanted == wanted else None
        finally:
            proof.cancel()
            changed.cancel()
            await asyncio.wait([proof, changed])

    async def _wait_for_another(self, wanted: Upstream) -> None:
        while self._wanted == wanted:
            await self._due.wait()
            if self._wanted == wanted:  # a fault, or a question: this proof is the answer
                self._due.clear()

    async def _conclude(self, wanted: Upstream, result: ProofResult) -> None:
        accepted = result.state == PROVED or (result.state == OPEN_RELAY and not self._strict_relay)
        if self._result is None or self._result != result:
            level = logging.INFO if result.state == PROVED and not result.detail else logging.WARNING
            if result.state != OPEN_RELAY or wanted not in self._warned or self._strict_relay:
                _log.log(level, "hand-off %s to %s: %s", wanted.handoff, wanted.target, _shown(result))
        if result.state == OPEN_RELAY:
            self._warned.add(wanted)
        self._result = result
        before = self._learned
        if accepted:
            self._in_force = wanted
            self._good_at = _now()
            self._learned = Learned(wanted.target, result.banner, result.ehlo)
        elif wanted == self._in_force and result.state != UNPROVED:
            self._in_force = None
        # Down for now speaks against no setting that was proved: it serves on, each client is tried.
        self._tell()
        self.settled.set()
        self._changed.set()
        await self._report(PROVED if accepted else result.state, result.detail)
        # Last, for clients are not to wait for the disk.
        if self._learned is not None and self._learned != before:
            await self._learn(self._learned)

    def _usable(self) -> bool:
        if self._in_force is not None:
            return True
        state = self._result.state if self._result is not None else UNPROVED
        return self._wanted is not None and self._try_unproved and state == UNPROVED

    def _tell(self) -> None:
        message = self._message()
        if message != self._said:
            self._said = message
            self._announce(message)

    def _message(self) -> UpstreamInForce:
        upstream = self._in_force or self._wanted
        if upstream is None:
            return UpstreamInForce("", Handoff.PLAIN.value, False, self._why_none, "", None)
        learned = self._learned
        banner, ehlo = "", None
        if learned is not None and learned.target == upstream.target:
            banner, ehlo = learned.banner, learned.ehlo
        detail = ""
        if not self._usable():
            detail = self._result.detail if self._result is not None else "the hand-off is not proved yet"
        return UpstreamInForce(upstream.target, upstream.handoff.value, self._usable(), detail, banner, ehlo)


def _shown(result: ProofResult) -> str:
    return result.state + (f", {result.detail}" if result.detail else "")


def _now() -> float:
    return asyncio.get_running_loop().time()
