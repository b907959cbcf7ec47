"""What a fuzzed connection is decided by: each setting that changes the engine's way, one choice each."""

from __future__ import annotations

from engine.scene import make_context, make_rules
from postwarden_sidecar.engine.actions import Load
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.rules.settings import (
    Action,
    Dnsbl,
    DnsblSite,
    Handover,
    Limits,
    Mode,
    Protocol,
    ProtocolTest,
    Session,
)

from fuzz_targets.choices import Choices

PEER = "192.0.2.7"
ANNOUNCED = "203.0.113.5"
LOCAL = "198.51.100.25"
ZONES = ("bl.example.", "wl.example.")
SETTINGS = 25  # bytes that the choices here take; some of them by their places:
EXEMPTING, DNSBL, REJECT, BANNER = 2, 9, 14, 17
ACTIONS = (Action.ENFORCE, Action.IGNORE, Action.DROP)


def context(choices: Choices) -> Context:
    """A context; all zeros: a policy with every test on, under Enforce, handed over inline."""
    learned = choices.pick((("SIZE 1000", "STARTTLS", "8BITMIME", "PIPELINING"), None, ()))
    banner = choices.pick(("mx.example.org ESMTP", ""))
    without, exempting = choices.byte() % 32, False
    if 14 <= without < 16:
        return make_context(None, banner=banner, ehlo=learned, defer=without == 15)
    exempting = without >= 16
    one, two, three = (ProtocolTest(choices.byte() % 2 == 0, choices.pick(ACTIONS)) for _ in range(3))
    dnsbl = choices.pick((None, 1, 2))
    sites = tuple(
        DnsblSite(zone, zone, None, weight, zone[:-1]) for zone, weight in zip(ZONES, (2, -2), strict=True)
    )
    action = choices.pick(ACTIONS)
    allow = choices.pick((0, -1))
    rules = make_rules(
        mode=choices.pick((Mode.ENFORCE, Mode.OBSERVE)),
        permit=choices.pick(((), (PEER,), (ANNOUNCED,))),
        reject=choices.pick(((), ("192.0.2.0/24",), ("203.0.113.0/24",))),
        reject_action=choices.pick(ACTIONS),
        pregreet=choices.pick(ACTIONS),
        banner=choices.pick((None, "", "mx.example.org ESMTP")),
        trusted=choices.pick(((), (PEER,))),
        protocol=Protocol(one, two, three, handover=choices.pick((Handover.INLINE, Handover.RECONNECT))),
        dnsbl=Dnsbl() if dnsbl is None else Dnsbl(action, dnsbl, allow, 10.0, 60.0, 3600.0, (), sites),
        limits=choices.pick((Limits(), Limits(connections_per_client=1, screening=3, upstream=2))),
        session=choices.pick(
            (
                Session(),
                Session(hello_required=True, reject_footer="See https://example.org/help"),
                Session(soft_fail=True, hidden_extensions=("STARTTLS", "CHUNKING")),
                Session(command_count_limit=3, line_length_limit=100, command_time_limit=20.0),
            )
        ),
        exempt=("b@example.org", "postmaster@") if exempting else (),
        pass_addresses=choices.pick(((), ("198.51.100.26",))),
        stress_wait=choices.pick((None, 2.0)),
    )
    return make_context(rules, banner=banner, ehlo=learned)


def load(choices: Choices) -> Load:
    """How busy the pod is."""
    return choices.pick(
        (Load(1, 1, 0, False), Load(2, 1, 0, False), Load(1, 3, 1, True), Load(1, 2, 2, True))
    )
