"""What the MTA does not offer to some clients though it does to others: our dialogue is not to offer it to them again.

Without this an MTA that offers by client (Postfix: smtpd_discard_ehlo_keyword_address_maps, Exim: chunking_advertise_hosts) would
disappoint the next address of a sender's pool, each time another client's session has renewed what is offered.
"""

from __future__ import annotations

from collections.abc import Set

MAX_CLIENTS = 4_096  # that are remembered, some 1 MB; the one remembered longest makes room
NOTHING: frozenset[str] = frozenset()


class Unoffered:
    """By client (a prefix, as limits count them); keywords in upper case."""

    def __init__(self) -> None:
        self._missing: dict[str, frozenset[str]] = {}

    def to(self, client: str) -> frozenset[str]:
        """What is not to be offered to this client."""
        return self._missing.get(client, NOTHING)

    def note(self, client: str, offered: Set[str], given: Set[str]) -> None:
        """The MTA has told this client what it offers it. offered: by us. given: by the MTA."""
        missing = frozenset((offered | self._missing.pop(client, NOTHING)) - given)
        if missing:
            self._missing[client] = missing
            if len(self._missing) > MAX_CLIENTS:
                del self._missing[next(iter(self._missing))]
