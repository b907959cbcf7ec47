"""What a connection is decided by: captured when it begins and kept to its end, so that new rules never touch an open connection."""

from __future__ import annotations

from dataclasses import dataclass

from postwarden_sidecar.rules.settings import Rules


@dataclass(frozen=True, slots=True)
class Context:
    """rules: None: no policy; then defer says whether clients are turned away with 421 or handed over unscreened.

    banner: the first two words of the upstream's greeting (`mx.example.org ESMTP`), "" while not learned. ehlo: the keywords that the
    upstream offers after EHLO, with their parameters, None while not learned. suspect: the address of clients whose own is lost, "" if
    there is none: it gets no limit and no pass.
    """

    rules: Rules | None
    defer: bool
    banner: str
    ehlo: tuple[str, ...] | None
    suspect: str = ""
