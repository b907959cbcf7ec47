"""`limits.upstream` with the hand-off `pass`: a client counts until smtpd has closed the control socket."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from net.bench import SHORT, TIMEOUT, Bench, make_rules
from net.scripted_mta import Conversation, ScriptedMta
from postwarden_sidecar.ipc.page import UPSTREAM
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Limits

GREETING = b"220 mta.example ESMTP\r\n"
PERMITTED = AddressTable.from_networks([("127.0.0.0/8", AccessAction.PERMIT, 1)])


def test_a_passed_client_counts_until_the_control_socket_closes(tmp_path: Path) -> None:
    taken = threading.Event()

    def script(conversation: Conversation) -> None:
        passed, _ = conversation.hear_passed()
        with passed:
            passed.sendall(GREETING)
            assert taken.wait(TIMEOUT)
            conversation.socket.close()
            while passed.recv(100):
                pass

    rules = replace(make_rules(permitted=PERMITTED), limits=Limits(upstream=1))
    patient = replace(SHORT, pass_control=TIMEOUT)
    with (
        ScriptedMta(script, tmp_path / "mta") as mta,
        Bench(mta.target, "Pass", rules, timeouts=patient) as bench,
        bench.connect() as first,
    ):
        assert first.hear_line() == GREETING  # its first byte ends the count in the relay modes only
        assert bench.page.total(UPSTREAM) == 1
        with bench.connect() as second:
            assert second.hear_all().startswith(b"421 4.3.2 ")
        assert len(mta.conversations) == 1
        taken.set()
        bench.wait_for(lambda: bench.page.total(UPSTREAM) == 0)
        with bench.connect() as third:
            assert third.hear_line() == GREETING
