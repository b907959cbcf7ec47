"""The replay's deadlines: an MTA that is slow, and one that never gets to the end of a reply."""

from __future__ import annotations

import pytest
from handoff.test_replay import ANSWERED, BEFORE, DONE
from postwarden_sidecar.handoff.replay import UNAVAILABLE, UNAVAILABLE_TLS, MtaDialog, ReplayResult
from replayed_mta import EHLO_REPLY, GREETING, OFFERED, OK, TLS, mail


def test_each_step_has_the_designs_time_limit() -> None:
    dialog = MtaDialog(OFFERED)
    dialog.begin(mail(), 0.0)
    assert dialog.next_deadline() is None, "the caller limits connecting"
    dialog.connected(b"", 10.0)
    deadlines = [dialog.next_deadline()]
    for reply in (GREETING, EHLO_REPLY, OK):
        dialog.receive_bytes(reply, 100.0)
        deadlines.append(dialog.next_deadline())
    assert deadlines == [40.0, 160.0, 160.0, 400.0]
    dialog.receive_bytes(OK, 390.0)
    assert dialog.next_deadline() is None


@pytest.mark.parametrize("step", BEFORE)
def test_a_reply_that_trickles_has_the_same_time_as_one_that_does_not_come(step: str) -> None:
    """No byte of it gives the MTA more time: a line that never ends is no reply."""
    dialog = MtaDialog(OFFERED)
    dialog.begin(TLS if step == "starttls" else mail(), 0.0)
    dialog.connected(b"", 0.0)
    for reply in BEFORE[step]:
        dialog.receive_bytes(reply, 0.0)
    deadline = dialog.next_deadline()
    assert deadline is not None
    for second in range(int(deadline)):
        dialog.receive_bytes(b"250-x\r\n"[second % 7 : second % 7 + 1], float(second))
        assert dialog.next_deadline() == deadline
        assert dialog.result is None
    dialog.handle_timer(deadline)
    unavailable = UNAVAILABLE_TLS if step == "starttls" else UNAVAILABLE
    assert dialog.result == ReplayResult(ANSWERED, unavailable)


def test_an_mta_that_takes_nearly_all_its_time_at_every_step_is_waited_for() -> None:
    dialog = MtaDialog(OFFERED)
    dialog.begin(mail(), 0.0)
    dialog.connected(b"", 0.0)
    for reply in (GREETING, EHLO_REPLY, OK, b"250 2.1.5 Ok\r\n"):
        deadline = dialog.next_deadline()
        assert deadline is not None
        dialog.handle_timer(deadline - 0.01)
        for byte in reply:
            dialog.receive_bytes(bytes((byte,)), deadline - 0.01)
    assert dialog.result is not None
    assert dialog.result.outcome is DONE
