"""What clients cost that talk and do not listen: nothing piles up for them, in no mode, and others are served."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from net.bench import Bench
from net.handover_scripts import deep_rules
from postwarden_sidecar.engine.dialog import ANSWERS_AT_ONCE
from postwarden_sidecar.net.session import Session
from postwarden_sidecar.rules.settings import Mode


@pytest.mark.parametrize("mode", Mode)
def test_replies_to_a_client_that_talks_and_does_not_read_stay_few(mode: Mode) -> None:
    """It is read no more once the buffers of its own connection are full, or it is turned away."""
    rules = replace(deep_rules(), mode=mode)
    with Bench(rules=rules) as bench, bench.connect() as deaf:
        deaf.socket.settimeout(0.3)
        with suppress(OSError):
            for _ in range(2000):
                deaf.say(b"\n" * 8192)
        for session in bench.driver._sessions:
            assert isinstance(session, Session)
            assert len(session._client.unsent) <= 2 * ANSWERS_AT_ONCE
            assert len(session._engine._actions) <= 1
        with bench.connect() as other:
            assert other.hear_reply().startswith(b"220")
        deaf.reset()


def test_a_client_that_reads_late_gets_the_answer_to_each_of_its_commands() -> None:
    rules = replace(deep_rules(pipelining=False), mode=Mode.OBSERVE)
    with Bench(rules=rules) as bench, bench.connect() as late:
        assert late.hear_reply().startswith(b"220")
        late.say(b"NOOP\r\n" * 5000 + b"QUIT\r\n")
        said = late.hear_all()
        assert said.count(b"250 2.0.0 Ok\r\n") == 5000
        assert said.endswith(b"221 2.0.0 Bye\r\n")
