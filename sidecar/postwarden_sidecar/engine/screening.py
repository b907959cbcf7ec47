"""One client's way through the tests, in postscreen's order: its connections, the upstream's limit, access list, passes, the address
it came to, screening's limit, early tests; then the dialogue or the hand-off. It sends nothing: `connection` does what it says."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from functools import lru_cache

from postwarden_sidecar.checks import access, dnsbl, passes, prefix
from postwarden_sidecar.checks.action import Standing
from postwarden_sidecar.checks.deep import TESTS as DEEP_TESTS
from postwarden_sidecar.checks.facts import NO_PASSES, Facts, normalise
from postwarden_sidecar.engine import footer, naming, replies
from postwarden_sidecar.engine.actions import IDLE, DnsblAnswer, Endpoints, Load, StorePass
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.early import EarlyTests
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.limits import screening_busy, too_many, upstream_busy
from postwarden_sidecar.engine.record import EventKind, Verdict
from postwarden_sidecar.rules.plain_members import plain_members
from postwarden_sidecar.rules.settings import AccessAction, Action, Handover, Mode, Rules, Session

# Seconds upon the command time limit: postscreen counts whole seconds, and gives as much (recorded v-engine-38).
TIME_LIMIT_GRACE = 0.5
NO_SESSION = Session()  # without a policy


@lru_cache
def _uncounted(stress: bool, unoffered: frozenset[str]) -> Load:
    """What of a Load still counts once the client is let in: the same for nearly all who wait, not one each."""
    return Load(0, 0, 0, stress, unoffered)


@plain_members
class Step(enum.Enum):
    """What is to be done with a client now."""

    LOOK_UP = "look_up"  # ask for the passes of `lookup_key`
    WAIT = "wait"  # the early tests begin
    HAND_OFF = "hand_off"
    CONVERSE = "converse"  # tests within the dialogue are due, or it is to be refused: our dialogue
    DROP = "drop"
    TURN_AWAY = "turn_away"  # with `busy`


class Screening:
    """facts: the client's. verdict, reason: as they stand; final when the step is HAND_OFF, DROP or TURN_AWAY. early: the early tests,
    once begun. lookup_key: whose passes are asked. busy: the reply to turn away with. load: how busy we are, once the client is known.
    vetoed: it came to an address where no pass is earned. due: the tests that it is to pass. passed: expiries of what it passed in this
    session (test -> epoch seconds).
    """

    __slots__ = (
        "_asked", "_context", "_journal", "_load", "_stored", "busy", "due", "early", "facts", "load", "lookup_key", "passed",
        "reason", "session", "verdict", "vetoed",
    )  # fmt: skip

    def __init__(
        self, context: Context, facts: Facts, journal: Journal, load: Callable[[str], Load] = lambda key: IDLE
    ) -> None:
        self._context = context
        self._journal = journal
        self._load = load
        self._asked: Mapping[str, float] = NO_PASSES
        self._stored: tuple[str, ...] = ()
        # The policy's word on our dialogue; `$name`s of its footer are still to be filled in.
        self.session = NO_SESSION if context.rules is None else context.rules.session
        self.facts = facts
        self.verdict = Verdict.UNSCREENED
        self.reason = ""
        self.early: EarlyTests | None = None
        self.lookup_key = ""
        self.busy = replies.PORTS_BUSY
        self.load = IDLE
        self.vetoed = False
        self.due: frozenset[str] = frozenset()
        self.passed: Mapping[str, float] = NO_PASSES

    @property
    def standing(self) -> Standing:
        """Where the client stands after the tests so far."""
        return self._journal.standing

    @property
    def inline(self) -> bool:
        """A session that passes goes on with the MTA; mode Observe never tells a client to come back."""
        rules = self._context.rules
        assert rules is not None
        return rules.protocol.handover is Handover.INLINE or rules.mode is Mode.OBSERVE

    @property
    def fit(self) -> bool:
        """It may be given to the MTA. Its passes are kept, but for a client that only mode Observe lets on (`vetoed`)."""
        held = self.vetoed and not self._observes
        return not self.standing.refusal and not self.standing.drop and not held

    @property
    def _observes(self) -> bool:
        rules = self._context.rules
        return rules is not None and rules.mode is Mode.OBSERVE

    @property
    def suspect(self) -> bool:
        """Its address stands for many clients: no limit per client holds, and no pass."""
        return self.facts.address == self._context.suspect

    def begin(self, endpoints: Endpoints, now: float) -> Step:
        """The client is known (a PROXY header is read), and where it connected to."""
        hostname = naming.hostname(self._context)
        self.session = footer.filled_in(self.session, endpoints, hostname, self._journal.wall)
        self._journal.event(EventKind.CONNECT, now)
        rules = self._context.rules
        if rules is None:
            self.reason = "no policy is in force"
            if not self._context.defer:
                return Step.HAND_OFF
            self.verdict = Verdict.DEFERRED
            return Step.TURN_AWAY
        self.load = self._load(self._limits_key())
        step = self._admit(rules, now) or self._consult(rules, now)
        if step is not None:
            return step
        if self.standing.refusal or self.suspect or not passes.enabled(rules):  # a pass would change nothing
            return self._known(rules, {}, endpoints.server_address, now)
        return self._look_up(rules)

    def _admit(self, rules: Rules, now: float) -> Step | None:
        """The limits that hold for everybody. Under Observe they only are recorded."""
        limits, load = rules.limits, self.load
        acts = rules.mode is not Mode.OBSERVE
        if too_many(limits, load) and not self.suspect:
            self._journal.event(EventKind.TOO_MANY_CONNECTIONS, now)
            if acts:
                reason = f"{self.facts.address} has more than {limits.connections_per_client} connections"
                return self._turn_away(replies.TOO_MANY, reason)
        if upstream_busy(limits, load):
            self._journal.event(EventKind.SERVER_PORTS_BUSY, now)
            if acts:
                reason = f"{load.upstream} clients wait for the upstream's greeting"
                return self._turn_away(replies.PORTS_BUSY, reason)
        return None

    def _turn_away(self, reply: bytes, reason: str) -> Step:
        self.verdict, self.reason, self.busy = Verdict.OVERLOADED, reason, reply
        return Step.TURN_AWAY

    def _consult(self, rules: Rules, now: float) -> Step | None:
        """The access list; None: the tests go on."""
        match = access.evaluate(rules, self.facts)
        if match is None:
            return None
        address = self.facts.address
        if match.action is AccessAction.REJECT:
            self._journal.event(EventKind.DENYLISTED, now)
            reason = access.denial(address, match.place)
            action = rules.access.reject_action
            acted = self._journal.failed(rules.mode, access.TEST, action, reason, now, now, match.place)
            return self._drop() if acted is Action.DROP else None
        self._journal.test(access.TEST, True, "", now, now, match.place)
        if match.action is AccessAction.DUNNO:
            return None
        self._journal.event(EventKind.ALLOWLISTED, now)
        return self._hand_off(Verdict.ALLOWLISTED, f"{address} is permitted by {match.place}")

    # Passes

    def _keys(self, rules: Rules) -> tuple[str, ...]:
        """Whose passes count: the client's prefix, and its exact address for DNSBL, where these differ."""
        cache, address = rules.cache, self.facts.address
        key = prefix.key(address, self.facts.packed, cache.prefix_ipv4, cache.prefix_ipv6)
        return (address,) if key == address else (key, address)

    def keys_asked_again(self, rules: Rules) -> tuple[str, ...]:
        """Whose passes are looked up at the end of the wait, as far as is known now."""
        listed = self.early is not None and self.early.listed
        return self._keys(rules) if self.fit and not listed and not self.suspect else ()

    def _look_up(self, rules: Rules) -> Step:
        self._asked = NO_PASSES
        self.lookup_key = self._keys(rules)[0]
        return Step.LOOK_UP

    def receive_pass(
        self, rules: Rules, expiries: Mapping[str, float], endpoints: Endpoints, now: float
    ) -> Step:
        """What the store knows, asked twice: before the wait, and after it, for another connection of the client may have passed
        meanwhile (postscreen logs PASS OLD for the second of two, and for a client whose pass has expired; measured)."""
        *others, address = self._keys(rules)
        exact = self.lookup_key == address
        for test, expiry in expiries.items():
            if not others or (test == dnsbl.TEST) == exact:
                self._asked = {**self._asked, test: expiry}
        if not exact:
            self.lookup_key = address
            return Step.LOOK_UP
        if self.early is None:
            return self._known(rules, self._asked, endpoints.server_address, now)
        return self._known_again(rules, now)

    def _known(self, rules: Rules, known: Mapping[str, float], server_address: str, now: float) -> Step:
        """What the client passed before is known: the address it came to, and screening's limit, before any test."""
        facts = self.facts
        facts.passes = known
        self.due = passes.due(rules, known, self._journal.wall_at(now))
        if not self.standing.refusal and not self.due and known:
            self._journal.event(EventKind.PASS_OLD, now)
            return self._hand_off(Verdict.PASS_OLD, passes.passed_before(facts.address))
        earns = rules.pass_addresses
        if earns is not None and earns.lookup(normalise(server_address)[1]) is None:
            self._journal.event(EventKind.VETO, now)
            self.vetoed = True
        if screening_busy(rules.limits, self.load):
            self._journal.event(EventKind.SCREENING_PORTS_BUSY, now)
            return self._turn_away(
                replies.SCREENING_BUSY, f"{self.load.screening} connections are being screened"
            )
        if self.due & passes.EARLY:
            return Step.WAIT
        return self._after_early(rules, now)

    def _known_again(self, rules: Rules, now: float) -> Step:
        facts = self.facts
        self.facts.passes = self._asked
        if not passes.due(rules, self._asked, self._journal.wall_at(now)):
            self.passed = NO_PASSES
            self._journal.event(EventKind.PASS_OLD, now)
            return self._hand_off(
                Verdict.PASS_OLD, f"{facts.address} passed the tests on another connection meanwhile"
            )
        return self._go_on(rules, now)

    # Early tests

    def begin_early(self, rules: Rules, now: float) -> tuple[EarlyTests, float]:
        """The wait begins: from now on the client is to keep silent, if the greeting test is due. Returns how long
        the wait is, in seconds, too."""
        stressed = self.load.stress and rules.stress_wait is not None
        self.load = _uncounted(self.load.stress, self.load.unoffered)
        wait = rules.stress_wait if stressed and rules.stress_wait is not None else rules.pregreet.wait
        self.early = EarlyTests(rules, self.facts, self._journal, self.due, now, earns=not self.vetoed)
        return self.early, wait

    def spoke(self, rules: Rules, data: bytes, now: float) -> Step | None:
        """The client spoke before the greeting was complete. None: the wait goes on."""
        assert self.early is not None
        if self.early.spoke(data, now) is Action.DROP:
            return self._drop()
        return self.waited(rules, now) if self.early.over else None

    def receive_dnsbl(self, rules: Rules, answer: DnsblAnswer, now: float) -> Step | None:
        """A list has answered. None: the wait goes on."""
        assert self.early is not None
        self.early.answered(answer, now)
        return self.waited(rules, now) if self.early.over else None

    def waited(self, rules: Rules, now: float) -> Step:
        """The early tests are over."""
        early = self.early
        assert early is not None
        if early.conclude(now) is Action.DROP:
            return self._drop()
        self.facts.waited = True
        self.passed = early.passed
        if self.fit and not early.unpassed and not self.suspect:
            return self._look_up(rules)
        return self._after_early(rules, now)

    def _after_early(self, rules: Rules, now: float) -> Step:
        return self._go_on(rules, now) if self.fit else self._converse()

    def _go_on(self, rules: Rules, now: float) -> Step:
        """To the dialogue where tests within it are due, else to the MTA."""
        address = self.facts.address
        if not self.due:
            return self._hand_off(Verdict.UNSCREENED, f"no test is on for {address}")
        if self.deep_due:
            return self._converse()
        wait = rules.pregreet.wait
        if self.early is not None and self.early.listens and dnsbl.TEST not in self.due:
            return self._hand_off(
                Verdict.PASS_NEW, f"{address} kept silent for {wait:g} s, until the greeting"
            )
        return self._hand_off(Verdict.PASS_NEW, f"{address} passed the tests before the greeting")

    @property
    def deep_due(self) -> frozenset[str]:
        """The tests within the dialogue that run: those that are due, or all of them for a client that failed before (measured)."""
        if not self.fit:
            return frozenset(DEEP_TESTS)
        return (self.due - passes.EARLY).difference(self.passed)

    # The end

    def settle(self, now: float) -> tuple[StorePass, ...]:
        """The session is decided, as far as it came: log the pass if all that was due is passed, and say what is to be stored. A failure
        that is not ignored keeps every pass from being stored, and takes back what this session has stored already."""
        rules = self._context.rules
        if rules is None:
            return ()
        if not self.fit:
            taken, self._stored = dict.fromkeys(self._stored, passes.NEVER), ()
            return self._stores(rules, taken)
        if self.vetoed or not self.passed or tuple(self.passed) == self._stored:
            return ()
        if self.due <= self.passed.keys() and not self.due <= set(self._stored):
            new = passes.is_new(self.facts.passes)
            self._journal.event(EventKind.PASS_NEW if new else EventKind.PASS_OLD, now)
        self._stored = tuple(self.passed)
        return self._stores(rules, passes.record(rules, self.facts.passes, self.passed))

    def _stores(self, rules: Rules, fields: Mapping[str, float]) -> tuple[StorePass, ...]:
        if self.suspect:
            return ()
        *others, address = self._keys(rules)
        if not others:
            return (StorePass(address, dict(fields)),) if fields else ()
        shared = {test: expiry for test, expiry in fields.items() if test != dnsbl.TEST}
        own = {test: expiry for test, expiry in fields.items() if test == dnsbl.TEST}
        return tuple(StorePass(key, part) for key, part in ((others[0], shared), (address, own)) if part)

    @property
    def time_limit(self) -> float:
        """Seconds for a whole command."""
        session = self.session
        normal, short = session.command_time_limit, session.stress_command_time_limit
        # What counts is how it is when the command is waited for (measured); whoever is known has been counted.
        stressed = short != normal and self.load is not IDLE and self._load(self._limits_key()).stress
        return (short if stressed else normal) + TIME_LIMIT_GRACE

    def _limits_key(self) -> str:
        rules = self._context.rules
        assert rules is not None
        return prefix.key(
            self.facts.address, self.facts.packed, rules.limits.prefix_ipv4, rules.limits.prefix_ipv6
        )

    def judge(self, verdict: Verdict, reason: str) -> None:
        """What becomes of the client is known, or is known better; after its one mail to exempt recipients nothing changes that."""
        if self.verdict is not Verdict.EXEMPTED:
            self.verdict, self.reason = verdict, reason

    def judge_unfinished(self, how: str, *, told: bool = False) -> None:
        """The client is gone, or has to go, and the MTA has not got it. how: half a sentence; told: it named a recipient, and heard
        our answer."""
        standing, address = self.standing, self.facts.address
        if standing.refusal:  # it failed a test; that it left before it heard so changes nothing
            self.judge(Verdict.REJECTED, standing.reason if told else f"{standing.reason}; {how}")
        elif self.verdict is Verdict.DEFERRED and (self.inline or self.vetoed or not told):
            pass  # under Reconnect the MTA may have refused TLS, and the session went on in the clear
        elif told and self.due <= self.passed.keys():
            self.judge(Verdict.PASS_NEW, f"{address} passed the tests, and was told to come back")
        elif not self._stored and self.verdict is not Verdict.DEFERRED:
            self.judge(Verdict.HANGUP, f"{address}: {how}")

    def judge_lost(self) -> None:
        """The client went while the MTA was to get it, or its mail to an exempt recipient."""
        if self.standing.refusal:
            self.judge_unfinished("it hung up before its mail to an exempt recipient was answered")
        else:
            self.reason += "; it hung up before the upstream had it"

    def judge_drained(self, *, told: bool) -> None:
        """The sidecar goes. told: as in `judge_unfinished`."""
        if not told:
            self.judge(Verdict.DEFERRED, "the sidecar is draining")
        elif self.standing.refusal or not self.reason or self.verdict is Verdict.DEFERRED:
            # It failed within the dialogue; there is no verdict yet; or one that may not be the last.
            self.judge_unfinished("the sidecar was drained", told=True)

    def _drop(self) -> Step:
        self.verdict, self.reason = Verdict.DROPPED, self.standing.reason
        return Step.DROP

    def _converse(self) -> Step:
        if self.standing.refusal:
            self.verdict, self.reason = Verdict.REJECTED, self.standing.reason
        elif self.vetoed:
            self.verdict = Verdict.DEFERRED
            self.reason = f"{self.facts.address} came to an address at which no pass is earned"
        return Step.CONVERSE

    def _hand_off(self, verdict: Verdict, reason: str) -> Step:
        """A permitted client, one that passed, or one that failed only what is ignored."""
        failed = bool(self.standing.test)
        self.verdict = Verdict.TOLERATED if failed else verdict
        self.reason = self.standing.reason if failed else reason
        return Step.HAND_OFF
