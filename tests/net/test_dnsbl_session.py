"""A session carries out the engine's question to block lists, and forgets it when it ends."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from net.bench import Bench, make_rules
from postwarden_sidecar.engine.actions import DnsblAnswer, EngineAction, QueryDnsbl
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.net import session

ANSWER = DnsblAnswer("bl.example", (b"\x7f\0\0\2",), 60.0, False, "listed", 0.0, 0.1)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[DnsblAnswer]:
    """The engine asks at once; what it is told."""
    answers: list[DnsblAnswer] = []

    class Asking(Connection):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.first: deque[EngineAction] = deque([QueryDnsbl("203.0.113.9")])

        def next_action(self) -> EngineAction | None:
            return self.first.popleft() if self.first else super().next_action()

        def receive_dnsbl(self, answer: DnsblAnswer, now: float) -> bool:
            answers.append(answer)
            if answer.outcome == "fault":
                raise RuntimeError("a defect in the engine")
            return True

    monkeypatch.setattr(session, "Connection", Asking)
    return answers


def test_answers_reach_the_engine_and_none_after_the_end(received: list[DnsblAnswer]) -> None:
    with Bench(rules=make_rules(wait=5.0)) as bench:
        with bench.connect():
            bench.wait_for(lambda: bool(bench.host.inquiries))
            (inquiry,) = bench.host.inquiries
            assert inquiry.address == "203.0.113.9"
            assert not inquiry.cancelled
            bench.call(lambda: inquiry.answer(ANSWER))
            bench.wait_for(lambda: received == [ANSWER])
        bench.wait_for(lambda: inquiry.cancelled)
        bench.call(lambda: inquiry.answer(ANSWER))
    assert received == [ANSWER]


def test_a_defect_in_reading_an_answer_ends_that_connection_only(
    received: list[DnsblAnswer], capfd: pytest.CaptureFixture[str]
) -> None:
    bad = DnsblAnswer("bl.example", (), 0.0, True, "fault", 0.0, 0.1)
    with Bench(rules=make_rules(wait=5.0)) as bench:
        with bench.connect() as first, bench.connect():
            bench.wait_for(lambda: len(bench.host.inquiries) == 2)
            bench.call(lambda: bench.host.inquiries[0].answer(bad))
            bench.wait_for(lambda: bench.host.inquiries[0].cancelled)
            first.hear_all()
            assert not bench.host.inquiries[1].cancelled
        assert bench.host.records(1)[0].verdict == "error"
    assert "a defect in the engine" in capfd.readouterr().err
