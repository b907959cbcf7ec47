"""Which MTA clients go to, as proofs and faults come: the design's table, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from postwarden_sidecar.handoff.proof import OPEN_RELAY, PROVED, UNPROVED, WRONG_ANSWER, ProofResult
from postwarden_sidecar.ipc.messages import EhloLearned, UpstreamFault, UpstreamInForce
from postwarden_sidecar.rules.settings import Handoff, Upstream
from postwarden_sidecar.supervisor.settings import UpstreamChoice
from postwarden_sidecar.supervisor.state_directory import Learned
from postwarden_sidecar.supervisor.upstreams import Upstreams, choose

OLD = Upstream("127.0.0.1:25", Handoff.PLAIN)
NEW = Upstream("127.0.0.1:25", Handoff.PROXY_V2)
GOOD = ProofResult(PROVED, "", "mx.example.org ESMTP", ("DSN",))
DOWN = ProofResult(UNPROVED, "refused")
WRONG = ProofResult(WRONG_ANSWER, "500 what?")
RELAY = ProofResult(OPEN_RELAY, "it relays")

pytestmark = pytest.mark.looptime


class Bench:
    """An Upstreams whose proofs say what the test wants."""

    def __init__(self, **how: object) -> None:
        self.says: dict[Upstream, ProofResult] = {}
        self.proved_at: list[float] = []
        self.announced: list[UpstreamInForce] = []
        self.reported: list[tuple[str, str]] = []
        self.kept: list[Learned] = []
        self.takes = 0.0
        self.disk_takes = 0.0
        settings = {"strict_relay": True, "try_unproved": False, "learned": None} | how
        self.upstreams = Upstreams(
            prove=self.prove,
            announce=self.announced.append,
            report=self.report,
            learn=self.learn,
            **settings,  # type: ignore[arg-type]
        )

    async def prove(self, upstream: Upstream) -> ProofResult:
        self.proved_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        return self.says[upstream]

    async def report(self, state: str, detail: str) -> None:
        self.reported.append((state, detail))

    async def learn(self, learned: Learned) -> None:
        await asyncio.sleep(self.disk_takes)
        self.kept.append(learned)

    @property
    def now(self) -> tuple[str, bool]:
        """(hand-off, usable) as workers were told last."""
        return self.announced[-1].handoff, self.announced[-1].usable


@contextlib.asynccontextmanager
async def bench(**how: object) -> AsyncIterator[Bench]:
    made = Bench(**how)
    task = asyncio.create_task(made.upstreams.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])


def fault(upstream: Upstream, outcome: str = "wrong_answer") -> UpstreamFault:
    return UpstreamFault(outcome, "502 to EHLO", upstream.target, upstream.handoff.value)


async def test_before_the_first_proof_no_client_is_handed_over() -> None:
    async with bench() as it:
        it.says, it.takes = {OLD: GOOD}, 1.0
        it.upstreams.want(OLD)
        assert it.now == ("Plain", False)
        await asyncio.sleep(1.5)
        assert it.announced[-1] == UpstreamInForce(
            "127.0.0.1:25", "Plain", True, "", "mx.example.org ESMTP", ("DSN",)
        )
        assert it.reported == [(PROVED, "")]
        assert it.kept == [Learned("127.0.0.1:25", "mx.example.org ESMTP", ("DSN",))]


async def test_clients_are_handed_over_before_the_disk_has_what_was_learned() -> None:
    async with bench() as it:
        it.says, it.disk_takes = {OLD: GOOD}, 10.0
        it.upstreams.want(OLD)
        assert await it.upstreams.is_good()
        assert it.now == ("Plain", True)
        await asyncio.sleep(5)
        assert it.reported == [(PROVED, "")]
        assert it.kept == []


async def test_a_failed_proof_is_repeated_after_0_2_seconds_doubling_to_5() -> None:
    async with bench() as it:
        it.says = {OLD: DOWN}
        it.upstreams.want(OLD)
        await asyncio.sleep(25)
        waits = [round(b - a, 3) for a, b in zip(it.proved_at, it.proved_at[1:], strict=False)]
        assert waits[:8] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
        assert it.now == ("Plain", False)
        assert it.announced[-1].detail == "refused"
        it.says = {OLD: GOOD}
        await asyncio.sleep(5)
        proofs = len(it.proved_at)
        await asyncio.sleep(3600)
        assert (it.now, len(it.proved_at)) == (("Plain", True), proofs)


async def test_after_a_change_the_proved_one_serves_on_until_the_new_one_is_proved() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD, NEW: DOWN}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        for result in (DOWN, WRONG):
            it.says[NEW] = result
            it.upstreams.want(NEW)
            await asyncio.sleep(10)
            assert it.now == ("Plain", True)
            assert it.reported[-1] == (result.state, result.detail)
        it.says[NEW] = GOOD
        await asyncio.sleep(5)
        assert it.now == ("ProxyV2", True)


async def test_the_one_that_serves_on_is_withdrawn_by_a_wrong_answer_of_its_own() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD, NEW: DOWN}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        it.upstreams.want(NEW)
        await asyncio.sleep(1)
        it.upstreams.fault(fault(OLD))
        assert it.now == ("ProxyV2", False)


async def test_going_back_to_what_serves_is_served_at_once() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD, NEW: WRONG}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        it.upstreams.want(NEW)
        await asyncio.sleep(1)
        it.upstreams.want(OLD)
        assert it.now == ("Plain", True)


async def test_a_wrong_answer_withdraws_until_the_next_proof() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        it.says[OLD] = WRONG
        it.upstreams.fault(fault(OLD))
        assert (it.now, it.announced[-1].detail) == (("Plain", False), "502 to EHLO")
        await asyncio.sleep(0.1)
        assert (it.now, it.announced[-1].detail) == (("Plain", False), "500 what?")
        it.says[OLD] = GOOD
        await asyncio.sleep(5)
        assert it.now == ("Plain", True)


async def test_a_proved_mta_that_is_down_is_tried_on_and_proved_again() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        it.says[OLD] = DOWN
        it.upstreams.fault(fault(OLD, "unreachable"))
        await asyncio.sleep(1)
        assert it.now == ("Plain", True)
        assert it.reported[-1] == (UNPROVED, "refused")
        it.says[OLD] = WRONG
        await asyncio.sleep(5)
        assert it.now == ("Plain", False)


async def test_a_fault_of_an_upstream_that_is_not_used_any_more_changes_nothing() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD, NEW: GOOD}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        it.upstreams.want(NEW)
        await asyncio.sleep(0.1)
        proofs = len(it.proved_at)
        it.upstreams.fault(fault(OLD))
        await asyncio.sleep(1)
        assert (it.now, len(it.proved_at)) == (("ProxyV2", True), proofs)


async def test_a_change_ends_a_proof_that_is_under_way() -> None:
    async with bench() as it:
        it.says, it.takes = {OLD: GOOD, NEW: GOOD}, 30.0
        it.upstreams.want(OLD)
        await asyncio.sleep(1)
        it.takes = 0.0
        it.upstreams.want(NEW)
        await asyncio.sleep(0.1)
        assert it.now == ("ProxyV2", True)
        assert it.reported == [(PROVED, "")]


@pytest.mark.parametrize(("strict", "usable", "state"), [(True, False, OPEN_RELAY), (False, True, PROVED)])
async def test_an_open_relay_is_refused_where_that_is_strict(strict: bool, usable: bool, state: str) -> None:
    async with bench(strict_relay=strict) as it:
        it.says = {OLD: RELAY}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        assert (it.now, it.reported[-1]) == (("Plain", usable), (state, "it relays"))


@pytest.mark.parametrize(("result", "usable"), [(DOWN, True), (WRONG, False), (RELAY, False)])
async def test_up_tries_each_client_unless_the_answer_was_wrong(result: ProofResult, usable: bool) -> None:
    async with bench(try_unproved=True) as it:
        it.says, it.takes = {OLD: result}, 1.0
        it.upstreams.want(OLD)
        assert it.now == ("Plain", True)
        await asyncio.sleep(1.1)
        assert it.now == ("Plain", usable)


async def test_up_stops_to_try_after_a_wrong_answer_to_a_client() -> None:
    async with bench(try_unproved=True) as it:
        it.says = {OLD: DOWN}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        it.upstreams.fault(fault(OLD))
        assert it.now == ("Plain", False)


async def test_what_was_learned_before_a_restart_is_told_before_the_proof() -> None:
    async with bench(learned=Learned("127.0.0.1:25", "old.example ESMTP", ("SIZE",))) as it:
        it.says, it.takes = {OLD: GOOD}, 1.0
        it.upstreams.want(OLD)
        assert (it.announced[-1].banner, it.announced[-1].ehlo) == ("old.example ESMTP", ("SIZE",))
        it.upstreams.want(Upstream("127.0.0.1:26", Handoff.PLAIN))
        assert (it.announced[-1].banner, it.announced[-1].ehlo) == ("", None)
        it.says[Upstream("127.0.0.1:26", Handoff.PLAIN)] = DOWN


async def test_what_a_replay_learned_is_told_to_all_workers_and_kept_at_a_pace() -> None:
    """An MTA that offers by client changes nothing more than once in half a minute."""
    async with bench() as it:
        it.says = {OLD: GOOD}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        before = len(it.announced)
        for number in range(100):
            ehlo = ("SIZE",) if number % 2 == 0 else ("DSN",)
            it.upstreams.replay_learned(EhloLearned(OLD.target, OLD.handoff.value, ehlo))
            await asyncio.sleep(0.1)
        assert [(said.banner, said.ehlo) for said in it.announced[before:]] == [
            ("mx.example.org ESMTP", ("SIZE",))
        ]
        assert it.kept[-1] == Learned(OLD.target, "mx.example.org ESMTP", ("SIZE",))
        await asyncio.sleep(20.0)
        it.upstreams.replay_learned(EhloLearned(OLD.target, OLD.handoff.value, ("DSN",)))
        await asyncio.sleep(0.1)
        assert it.announced[-1].ehlo == it.kept[-1].ehlo == ("DSN",)


async def test_what_was_learned_of_another_mta_changes_nothing() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD}
        it.upstreams.replay_learned(EhloLearned(OLD.target, OLD.handoff.value, ("SIZE",)))
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        before = list(it.announced)
        it.upstreams.replay_learned(EhloLearned(NEW.target, NEW.handoff.value, ("SIZE",)))
        it.upstreams.replay_learned(EhloLearned("127.0.0.1:26", OLD.handoff.value, ("SIZE",)))
        await asyncio.sleep(0.1)
        assert it.announced == before
        assert it.kept == [Learned(OLD.target, "mx.example.org ESMTP", ("DSN",))]


async def test_no_upstream_is_said_to_workers_and_operator() -> None:
    async with bench() as it:
        it.upstreams.want("no upstream is known")
        await asyncio.sleep(2.9)
        assert it.reported == []  # a policy may be on its way
        await asyncio.sleep(0.2)
        assert it.announced == [UpstreamInForce("", "Plain", False, "no upstream is known", "", None)]
        assert it.reported == [(UNPROVED, "no upstream is known")]
        assert it.upstreams.settled.is_set()


async def test_it_is_settled_when_what_is_wanted_now_has_a_result() -> None:
    async with bench() as it:
        it.says, it.takes = {OLD: GOOD, NEW: DOWN}, 1.0
        it.upstreams.want("no upstream is known")
        it.upstreams.want(OLD)
        assert not it.upstreams.settled.is_set()
        await asyncio.sleep(1.1)
        assert it.upstreams.settled.is_set()
        it.upstreams.want(NEW)
        assert not it.upstreams.settled.is_set()
        assert it.reported == [(PROVED, "")]


async def test_health_of_the_upstream_asks_anew_when_nothing_good_is_younger_than_30_seconds() -> None:
    async with bench() as it:
        it.says = {OLD: GOOD}
        it.upstreams.want(OLD)
        await asyncio.sleep(0.1)
        assert await it.upstreams.is_good()
        assert len(it.proved_at) == 1
        await asyncio.sleep(3600)
        assert await it.upstreams.is_good()
        assert len(it.proved_at) == 2
        await asyncio.sleep(3600)
        it.upstreams.handed_over()
        assert await it.upstreams.is_good()
        assert len(it.proved_at) == 2
        it.says[OLD] = DOWN
        await asyncio.sleep(20)
        assert await it.upstreams.is_good()  # asked, and down, but the last good one is 20 s old
        await asyncio.sleep(20)
        assert not await it.upstreams.is_good()


POLICY = Upstream("127.0.0.1:26", Handoff.PROXY_V1)


@pytest.mark.parametrize(
    ("flags", "policy", "bootstrap", "chosen"),
    [
        (
            UpstreamChoice("f:1", Handoff.PLAIN),
            POLICY,
            UpstreamChoice("b:1", Handoff.PROXY_V2),
            ("f:1", "Plain"),
        ),
        (UpstreamChoice("f:1"), POLICY, UpstreamChoice("b:1", Handoff.PROXY_V2), ("f:1", "ProxyV1")),
        (UpstreamChoice(None, Handoff.PLAIN), POLICY, UpstreamChoice(), ("127.0.0.1:26", "Plain")),
        (UpstreamChoice(), POLICY, UpstreamChoice("b:1", Handoff.PROXY_V2), ("127.0.0.1:26", "ProxyV1")),
        (UpstreamChoice(), None, UpstreamChoice("b:1", Handoff.PROXY_V2), ("b:1", "ProxyV2")),
        (UpstreamChoice("f:1"), None, UpstreamChoice(None, Handoff.PROXY_V2), ("f:1", "ProxyV2")),
    ],
)
def test_flag_before_policy_before_bootstrap(
    flags: UpstreamChoice, policy: Upstream | None, bootstrap: UpstreamChoice, chosen: tuple[str, str]
) -> None:
    assert choose(flags, policy, bootstrap) == Upstream(chosen[0], Handoff(chosen[1]))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (UpstreamChoice(), "no upstream is known"),
        (UpstreamChoice("127.0.0.1:25"), "the hand-off is not known"),
        (UpstreamChoice("127.0.0.1:25", Handoff.PASS), "Pass needs a unix socket"),
    ],
)
def test_what_can_not_be_chosen_is_said(flags: UpstreamChoice, says: str) -> None:
    why = choose(flags, None, UpstreamChoice())
    assert isinstance(why, str)
    assert says in why
