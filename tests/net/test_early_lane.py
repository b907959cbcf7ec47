"""Early talkers that are dropped: without a session, with the same bytes and the same record; whoever is silent has a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest
from net.bench import Bench, Client, MemoryHost, make_rules
from net.test_express import sessions as sessions
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.ipc.page import CELLS, SCREENING, UPSTREAM
from postwarden_sidecar.rules.settings import Action, Limits

DROP = make_rules(action=Action.DROP)
GREETING = b"220-mx.example ESMTP\r\n"
COUNTED = ("connections/", "tests/", "active/", SCREENING, UPSTREAM)
REFUSAL = b"521 5.5.1 Protocol error\r\n"

Answer = Callable[[Mapping[str, float]], None]


@contextmanager
def slow_store(bench: Bench) -> Iterator[Callable[[int], None]]:
    """A store that answers when it is told to, for so many clients."""
    asked: list[tuple[str, Answer]] = []
    host: MemoryHost = bench.host
    at_once = host.lookup_pass

    def answer(count: int) -> None:
        bench.wait_for(lambda: len(asked) >= count)
        bench.await_turn()  # in another turn than the question: the loop reads its clock once a turn

        def tell() -> None:
            for key, receive in asked:
                at_once(key, receive)
            asked.clear()

        bench.call(tell)

    host.lookup_pass = lambda key, answer: asked.append((key, answer))  # type: ignore[method-assign]
    yield answer
    host.lookup_pass = at_once  # type: ignore[method-assign]


def dropped(change: Callable[[Bench], None] = lambda bench: None) -> tuple[bytes, Record, dict[str, int]]:
    """What an early talker hears, its record less what is by chance, and what was counted, times apart."""
    with Bench(rules=DROP) as bench:
        change(bench)
        with slow_store(bench) as answer, bench.connect() as client:
            client.say(b"EHLO x\r\nMAIL FROM:<>\r\n")
            answer(1)
            heard = client.hear_all()
            (record,) = bench.host.records()
            assert (record.client_address, record.client_port) == client.address
            assert (record.server_address, record.server_port) == bench.address
            assert record.events[-1].offset == record.duration == record.tests[0].start > 0
        bench.await_idle()
        counted = {name: bench.cells[cell] for name, cell in CELLS.items() if name.startswith(COUNTED)}
    for part in (*record.events, *record.tests):
        for name in {"offset", "start", "end"} & set(part.__struct_fields__):
            setattr(part, name, 0.0)
    record.started = record.duration = 0.0
    record.client_port = record.server_port = record.peer_port = 0
    return heard, record, counted


def test_an_early_talker_gets_no_session_and_the_same_word(sessions: list[str]) -> None:
    without = dropped()
    assert not sessions
    assert without[0] == GREETING + REFUSAL

    def turn_off(bench: Bench) -> None:
        bench.driver._early.take = lambda *_: False  # type: ignore[method-assign]

    assert dropped(turn_off) == without
    assert sessions == ["127.0.0.1"]


def test_who_is_silent_is_screened(sessions: list[str]) -> None:
    with Bench(rules=DROP) as bench, slow_store(bench) as answer, bench.connect() as client:
        answer(1)
        assert client.hear_line() == GREETING
        client.say(b"EHLO x\r\n")
        assert client.hear_all() == REFUSAL
        (record,) = bench.host.records()
    assert sessions == ["127.0.0.1"]
    assert record.tests[0].end > record.tests[0].start > 0, "the wait began when the store had answered"


def test_who_has_passed_may_talk(sessions: list[str]) -> None:
    """The MTA is not there: what counts is that it was to have the client."""
    with Bench(rules=DROP) as bench, slow_store(bench) as answer, bench.connect() as client:
        bench.host.passes["127.0.0.1"] = {"pregreet": 4e9}
        bench.host.current = replace(
            bench.host.current, rules=replace(DROP, pregreet=replace(DROP.pregreet, ttl=1e10))
        )
        client.say(b"EHLO x\r\n")
        answer(1)
        assert client.hear_line().startswith(b"421 4.3.2 ")
        (record,) = bench.host.records()
    assert record.handoff_start > 0
    assert sessions == ["127.0.0.1"]


def test_who_is_gone_by_then_hung_up(sessions: list[str]) -> None:
    with Bench(rules=DROP) as bench, slow_store(bench) as answer:
        with bench.connect() as client:
            client.end()
            answer(1)
            client.hear_all()
        for said in (b"", b"x"):
            with bench.connect() as client:
                client.say(said)
                bench.wait_for(lambda: bench.driver.open_connections == 1)
                client.reset()
                answer(1)
        verdicts = [record.verdict for record in bench.host.records(3)]
    assert verdicts == [Verdict.HANGUP, Verdict.HANGUP, Verdict.DROPPED]
    assert len(sessions) == 2


def test_a_client_that_meets_a_limit_has_a_session(sessions: list[str]) -> None:
    rules = replace(DROP, limits=Limits(connections_per_client=1))
    with Bench(rules=rules) as bench, slow_store(bench) as answer, bench.connect() as first:
        first.say(b"x")
        bench.wait_for(lambda: bench.driver.open_connections == 1)
        with bench.connect() as second:
            assert second.hear_all() == b"421 4.7.0 Error: too many connections\r\n"
        answer(1)
        assert first.hear_all() == GREETING + REFUSAL
    assert sessions == ["127.0.0.1"]


def test_a_drain_turns_them_away() -> None:
    with Bench(rules=DROP) as bench, slow_store(bench) as answer, bench.connect() as client:
        client.say(b"x")
        bench.wait_for(lambda: bench.driver.open_connections == 1)
        bench.call(lambda: bench.driver.drain(5.0, lambda: None))
        assert client.hear_all().startswith(b"421 4.3.2 ")
        answer(1)
        (record,) = bench.host.records()
        bench.await_idle()
    assert record.verdict is Verdict.DEFERRED


def test_an_end_closes_them() -> None:
    with Bench(rules=DROP) as bench, slow_store(bench), bench.connect() as client:
        bench.wait_for(lambda: bench.driver.open_connections == 1)
        bench.call(bench.driver.close)
        assert client.hear_all() == b""


def test_a_defect_ends_that_client_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(newcomer: object) -> bool:
        raise RuntimeError("a defect")

    with Bench(rules=DROP) as bench, slow_store(bench) as answer:
        with bench.connect() as client, monkeypatch.context() as patched:
            patched.setattr(bench.driver._early, "_drop", broken)
            answer(1)
            assert client.hear_all() == b""
        assert bench.host.records()[0].verdict is Verdict.ERROR
        with bench.connect() as other:
            other.say(b"x")
            answer(1)
            assert other.hear_all() == GREETING + REFUSAL
    assert "a defect" in capfd.readouterr().err


def test_a_client_on_its_own_is_let_in(sessions: list[str]) -> None:
    """The store answers at once, which the lane is in the middle of."""
    with Bench(rules=DROP) as bench, Client(bench.address) as client:
        assert client.hear_line() == GREETING
    assert sessions == ["127.0.0.1"]
