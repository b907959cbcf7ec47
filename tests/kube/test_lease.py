"""The election: one leads at most, whatever the order of requests, answers and clocks; and one does lead before long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden_operator.kube.lease import Election, Lease, Need, Timing

TIMING = Timing()


@dataclass
class Store:
    """The one Lease of an API server: a write that is based on another version than the stored one is refused."""

    lease: Lease | None = None
    versions: int = 0

    def write(self, lease: Lease) -> Lease | None:
        stored = "" if self.lease is None else self.lease.version
        if lease.version != stored:
            return None
        self.versions += 1
        self.lease = replace(lease, version=str(self.versions))
        return self.lease


@dataclass
class Replica:
    """Asks in the way of the shell; each request has its moments of sending, of being served and of being answered.

    rate: its clock's seconds in a second; offset: what its clock shows at 0.
    """

    name: str
    store: Store
    rate: float = 1.0
    offset: float = 0.0
    under_way: list[str | Lease | float | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.election = Election(self.name, TIMING)

    def clock(self, time: float) -> float:
        return self.offset + self.rate * time

    def leading(self, time: float) -> bool:
        return self.election.leading(self.clock(time))

    def advance(self, time: float) -> None:
        """One moment further with what it does."""
        now = self.clock(time)
        match self.under_way:
            case []:
                self._begin(now)
            case ["read"]:
                self.under_way = ["found", self.store.lease]
            case ["found", lease]:
                assert lease is None or isinstance(lease, Lease)
                self.election.found(lease, now)
                self._begin(now)
            case ["write", Lease() as lease, float() as sent_at]:
                self.under_way = ["written", self.store.write(lease), sent_at]
            case ["written", answer, float() as sent_at]:
                if isinstance(answer, Lease):
                    self.election.written(answer, sent_at)
                else:
                    self.election.failed()
                self.under_way = []

    def _begin(self, now: float) -> None:
        step = self.election.next(now)
        if step is Need.READ:
            self.under_way = ["read"]
        elif isinstance(step, Lease):
            self.under_way = ["write", step, now]
        else:
            self.under_way = []

    def lose(self) -> None:
        """No answer comes: the request may have been served or not."""
        if self.under_way:
            self.election.failed()
        self.under_way = []

    def step(self, time: float) -> None:
        """The whole of a step of the shell, at once."""
        self.advance(time)
        while self.under_way:
            self.advance(time)


RATES = [0.82, 1.2, 1.0]  # of clocks: 1.2 / 0.82 is just below 1.5, what the timing allows


@settings(max_examples=200)
@given(
    rates=st.permutations(RATES),
    script=st.lists(
        st.tuples(
            st.sampled_from(
                ["advance", "advance", "advance", "step", "step", "step", "step", "step", "lose", "release"]
            ),
            st.integers(0, 2),
            st.sampled_from([0.0, 0.0, 2.0, 14.0]),
        ),
        min_size=20,
        max_size=60,
    ),
)
def test_never_two_lead_at_once_however_requests_are_delayed_and_clocks_drift(
    rates: list[float], script: list[tuple[str, int, float]]
) -> None:
    store, time = Store(), 0.0
    replicas = [Replica(f"r{rate}", store, rate, offset=1e6 * rate) for rate in rates]
    gone: set[int] = set()
    for action, number, passed in script:
        time += passed
        number %= len(replicas)
        replica = replicas[number]
        if number in gone:
            continue
        match action:
            case "advance":
                replica.advance(time)
            case "step":
                replica.lose()
                replica.step(time)
            case "lose":
                replica.lose()
            case "release":
                gone.add(number)
                if (lease := replica.election.release()) is not None:
                    store.write(lease)
        assert sum(each.leading(time) for each in replicas) <= 1


def run(replicas: list[Replica], begin: float, seconds: float) -> list[str | None]:
    """Who leads, each tenth of a second; all step every `retry` seconds, one after the other."""
    leaders: list[str | None] = []
    for tick in range(round(seconds * 10)):
        time = begin + tick / 10
        for number, replica in enumerate(replicas):
            if (tick - number) % round(TIMING.retry * 10) == 0:
                replica.step(time)
        leading = [each.name for each in replicas if each.leading(time)]
        assert len(leading) <= 1
        leaders.append(leading[0] if leading else None)
    return leaders


def test_first_to_ask_leads_at_once_and_goes_on_leading() -> None:
    store = Store()
    assert set(run([Replica("a", store), Replica("b", store)], 0.0, 60.0)) == {"a"}


def test_another_takes_over_when_the_leader_vanishes_and_not_before_the_lease_runs_out() -> None:
    store = Store()
    survivor = Replica("b", store)
    run([Replica("a", store), survivor], 0.0, 10.0)
    leaders = run([survivor], 10.0, 20.0)
    begins = leaders.index("b") / 10
    assert TIMING.duration - TIMING.retry <= begins <= TIMING.duration + 2 * TIMING.retry
    assert set(leaders[leaders.index("b") :]) == {"b"}
    assert store.lease is not None
    assert store.lease.transitions == 1


def test_released_lease_is_taken_by_the_next_look() -> None:
    store = Store()
    first, second = Replica("a", store), Replica("b", store)
    run([first, second], 0.0, 10.0)
    released = first.election.release()
    assert released is not None
    assert store.write(released) is not None
    assert not first.leading(10.0)
    assert run([second], 10.0, TIMING.retry + 1)[-1] == "b"


def test_leader_that_can_not_renew_stops_before_anybody_may_take_over() -> None:
    store = Store()
    leader = Replica("a", store)
    leader.step(0.0)
    assert leader.leading(TIMING.renew_deadline - 0.1)
    assert not leader.leading(TIMING.renew_deadline)
    other = Replica("b", store)
    other.step(0.0)
    other.step(TIMING.renew_deadline)
    assert not other.leading(TIMING.renew_deadline)
    leader.step(TIMING.duration - 1)  # the API server is back, and nobody else wanted it
    assert leader.leading(TIMING.duration - 1)


def test_leader_that_was_frozen_learns_of_the_new_one_and_does_not_lead() -> None:
    store = Store()
    frozen, other = Replica("a", store), Replica("b", store)
    run([frozen, other], 0.0, 10.0)
    run([other], 10.0, 30.0)
    assert not frozen.leading(40.0)
    frozen.step(40.0)  # it believes still that it holds the Lease, and its renewal is refused
    assert not frozen.leading(40.0)
    frozen.step(42.0)
    assert not frozen.leading(42.0)
    assert frozen.election.holder == "b"
    assert frozen.election.release() is None


def test_write_of_which_nobody_knows_whether_it_was_taken_is_read_again() -> None:
    store = Store()
    replica = Replica("a", store)
    replica.advance(0.0)  # read: there is none
    replica.advance(0.0)
    replica.advance(0.0)  # write
    replica.advance(0.0)  # served
    replica.lose()
    assert not replica.leading(0.0)
    replica.step(1.0)
    assert replica.leading(1.0)


def test_proportions_are_those_of_client_go() -> None:
    assert Timing.of(15.0) == Timing(15.0, 10.0, 2.0)
