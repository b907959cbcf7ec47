"""What the MTA does not offer to a client is not offered to it again, whatever others are offered."""

from __future__ import annotations

from postwarden_sidecar.net import unoffered
from postwarden_sidecar.net.unoffered import Unoffered


def test_what_was_missing_is_left_out_for_that_client_until_it_is_there_again() -> None:
    clients = Unoffered()
    clients.note("192.0.2.0/24", {"SIZE", "CHUNKING", "DSN"}, {"SIZE"})
    assert clients.to("192.0.2.0/24") == {"CHUNKING", "DSN"}
    assert clients.to("198.51.100.0/24") == set()
    clients.note("192.0.2.0/24", {"SIZE"}, {"SIZE", "DSN"})  # not offered by us, and still missing
    assert clients.to("192.0.2.0/24") == {"CHUNKING"}
    clients.note("192.0.2.0/24", {"SIZE", "DSN"}, {"SIZE", "DSN", "CHUNKING"})
    assert clients.to("192.0.2.0/24") == set()


def test_few_clients_are_remembered() -> None:
    clients = Unoffered()
    for number in range(unoffered.MAX_CLIENTS + 1):
        clients.note(str(number), {"CHUNKING"}, set())
    assert clients.to("0") == set()
    assert clients.to("1") == clients.to(str(unoffered.MAX_CLIENTS)) == {"CHUNKING"}
