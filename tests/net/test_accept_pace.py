"""Under a flood clients are taken several at a time; before and after it each as it comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from net.bench import Bench, Client, make_rules
from postwarden_sidecar.net import accept_pace
from postwarden_sidecar.net.accept_pace import FLOOD, LONGEST, WANTED, WINDOW, AcceptPace, Rate
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Action

DROP = make_rules(
    listed=AddressTable.from_networks([("127.0.0.0/8", AccessAction.REJECT, 1)]), reject=Action.DROP
)
DENIED = b"521 5.3.2 Service currently unavailable\r\n"


def test_the_faster_clients_come_the_sooner_is_the_next_turn() -> None:
    for times in (1, 3, 20):
        rate, clients = Rate(0.0), round(times * FLOOD * WINDOW)
        rate.count(clients // 2, WINDOW / 2)
        rate.count(clients // 2, WINDOW)
        assert rate.seconds == pytest.approx(min(LONGEST, WANTED / (times * FLOOD)))


def test_clients_that_are_no_flood_are_taken_at_once() -> None:
    rate = Rate(0.0)
    for step in range(100):
        rate.count(1, step * 1.01 / FLOOD)
        assert rate.seconds == 0.0
    rate.count(round(FLOOD), 3600.0)  # many at once, after an hour
    assert rate.seconds == 0.0


def test_the_pace_ends_with_the_flood() -> None:
    rate = Rate(0.0)
    rate.count(10_000, WINDOW)
    assert rate.seconds > 0
    rate.count(0, 2 * WINDOW)
    assert rate.seconds == 0.0


def test_while_there_is_a_pace_the_deadline_takes_who_waits() -> None:
    loop = Loop()
    changes: list[bool] = []
    turns: list[int] = [3000, 0, 0]

    def take() -> None:
        loop.now += 1.5 * WINDOW
        pace.took(turns.pop(0))

    pace = AcceptPace(loop, take, lambda: changes.append(pace.active))
    pace.took(5)
    assert changes == []
    loop.now += 1.5 * WINDOW
    pace.took(3000)
    assert changes == [True]
    while pace.active:
        loop.turn()
    assert (changes, turns) == ([True, False], [0])
    assert pace.deadline is None
    loop.release()


@pytest.fixture
def flooded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A driver that takes ten clients a second for a flood."""
    monkeypatch.setattr(accept_pace, "FLOOD", 10.0)
    monkeypatch.setattr(accept_pace, "WANTED", 1)
    with Bench(rules=DROP) as bench:
        _come(bench)
        yield bench


def _come(bench: Bench) -> None:
    """Clients until there is a pace."""
    while not bench.driver._pace.active:
        with bench.connect() as client:
            assert client.hear_all() == DENIED


def test_everybody_is_answered_in_a_flood_and_after_it(flooded: Bench) -> None:
    _come(flooded)
    clients = [flooded.connect() for _ in range(40)]
    for client in clients:
        with client:
            assert client.hear_all() == DENIED
    flooded.wait_for(lambda: not flooded.driver._pace.active)
    before = flooded.turns
    with flooded.connect() as client:
        assert client.hear_all() == DENIED
    assert flooded.turns - before < 10, "the loop sleeps where nobody comes"


def test_clients_of_a_worker_that_is_out_are_taken_at_the_pace(flooded: Bench) -> None:
    (listener,) = listen("127.0.0.1", 0, 1)
    address = listener.getsockname()
    flooded.call(lambda: flooded.driver.accept_also(7, listener))
    flooded.await_turn()
    for _ in range(3):
        _come(flooded)
        with Client(address) as client:
            assert client.hear_all() == DENIED


def test_a_drain_answers_at_once_whoever_waits(flooded: Bench) -> None:
    _come(flooded)
    drained = threading.Event()
    clients = [flooded.connect() for _ in range(5)]
    flooded.call(lambda: flooded.driver.drain(60.0, drained.set))
    for client in clients:
        with client:
            assert client.hear_all() in (DENIED, b"421 4.3.2 Service currently unavailable\r\n")
    assert drained.wait(10)
    assert not flooded.driver._pace.active
