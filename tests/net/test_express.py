"""Clients dropped at accept: without a session, with the same bytes and the same record; with a session where a limit is met."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net.bench import Bench, Client, make_rules
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.net import driver, session
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.net.occupancy import Occupancy
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Action, Limits, Rules

LISTED = AddressTable.from_networks(
    [("127.0.0.0/8", AccessAction.REJECT, 1), ("::1/128", AccessAction.REJECT, 2)]
)
DROP = make_rules(listed=LISTED, reject=Action.DROP)
REPLY = b"521 5.3.2 Service currently unavailable\r\n"


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of clients that got a session."""
    begun: list[str] = []

    class Noted(session.Session):
        def __init__(self, environment, client, peer, *rest):  # type: ignore[no-untyped-def]
            begun.append(peer[0])
            super().__init__(environment, client, peer, *rest)

    monkeypatch.setattr(driver, "Session", Noted)
    return begun


def dropped(
    rules: Rules, change: Callable[[Bench], None] = lambda bench: None
) -> tuple[bytes, Record, list[int]]:
    """What a client hears, its record less what is by chance, and what was counted."""
    with Bench(rules=rules) as bench:
        change(bench)
        before = bench.cells.tolist()
        with bench.connect() as client:
            heard = client.hear_all()
            (record,) = bench.host.records()
            assert (record.client_address, record.client_port) == client.address
            assert (record.server_address, record.server_port) == bench.address
        bench.await_idle()
        counted = [after - now for after, now in zip(bench.cells.tolist(), before, strict=True)]
    record.started = record.duration = 0.0
    record.client_port = record.server_port = record.peer_port = 0
    return heard, record, counted[1:]  # less the heartbeat


def test_a_listed_client_gets_no_session_and_the_same_word(sessions: list[str]) -> None:
    without = dropped(DROP)
    assert not sessions
    assert without[0] == REPLY

    def turn_off(bench: Bench) -> None:
        bench.driver._express.take = lambda *_: False  # type: ignore[method-assign]

    assert dropped(DROP, turn_off) == without
    assert sessions == ["127.0.0.1"]


def test_a_client_that_meets_a_limit_has_a_session(sessions: list[str]) -> None:
    """A tarpit's worth of its connections wait in screening; one more is too many, though it is on the list by now."""
    limited = replace(make_rules(wait=60), limits=Limits(connections_per_client=1))
    with Bench(rules=limited) as bench, bench.connect() as first:
        assert first.hear_line().startswith(b"220-")
        bench.host.current = replace(bench.host.current, rules=replace(DROP, limits=limited.limits))
        with bench.connect() as second:
            assert second.hear_all() == b"421 4.7.0 Error: too many connections\r\n"
        first.reset()
    assert sessions == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(
    ("host", "target"), [("", "127.0.0.1"), ("", "::1"), ("0.0.0.0", "127.0.0.2"), ("::1", "::1")]
)
def test_the_record_says_where_the_client_came_to(host: str, target: str, sessions: list[str]) -> None:
    """On a socket that listens everywhere, too."""
    if ":" in target and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    (listener,) = listen(host, 0, 1)
    with Bench(rules=DROP) as bench:
        bench.call(lambda: bench.driver.accept_also(7, listener))
        port = listener.getsockname()[1]
        with Client((target, port)) as client:
            assert client.hear_all() == REPLY
        (record,) = bench.host.records()
        assert (record.server_address, record.server_port) == (target, port)
        assert record.client_address == client.address[0]
    assert not sessions


_few = st.integers(0, 6)


@given(
    limits=st.builds(Limits, connections_per_client=_few, screening=_few, upstream=_few, stress_enter=st.integers(0, 100)),
    here=st.tuples(_few, _few), there=st.tuples(_few, _few), own=_few, stressed=st.booleans(),
)  # fmt: skip
def test_only_who_meets_no_limit_goes_uncounted(
    limits: Limits, here: tuple[int, int], there: tuple[int, int], own: int, stressed: bool
) -> None:
    """As the engine would be told: its load, and whether stress begins by it."""
    page = Page.create()
    slots = [page.slot(index) for index in range(2)]
    said: list[bool] = []
    occupancy = Occupancy(page, slots[0], lambda on, _: said.append(on))
    other = Occupancy(page, slots[1], lambda on, _: None)
    if stressed:
        other._change(True, 1)
    for each, (screening, upstream) in ((occupancy, here), (other, there)):
        for _ in range(screening):
            each.arrive(limits)
        for _ in range(upstream):
            each.arrive(limits).hand_over()
    occupancy.look_around()
    for _ in range(own):
        occupancy.clients["a"] = occupancy.clients.get("a", 0) + 1
    unmoved = occupancy.unmoved(limits, "a")
    load = occupancy.arrive(limits).load("a")
    limited = 0 < limits.connections_per_client < load.client or 0 < limits.upstream <= load.upstream
    assert unmoved == (not limited and not said)
    for cells in slots:
        cells.release()
    page.close()
    os.close(page.descriptor)
