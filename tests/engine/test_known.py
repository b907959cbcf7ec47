"""Who is let in for its passes without an engine is let in just as an engine would have it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace

from engine.scene import WALL, make_context, make_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden_sidecar.checks import passes
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.engine.actions import EngineAction, HandOff, HandoffOutcome, LookupPass, Observe
from postwarden_sidecar.engine.alike import whole
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.known import known_clients
from postwarden_sidecar.engine.record import Record, Visit
from postwarden_sidecar.rules.settings import Cache, EnvelopeAddresses, Mode, Rules
from strategies import packed_addresses, rules

CLIENT, LOCAL = "192.0.2.7", "198.51.100.25"
VALID = {"pregreet": WALL + 60}


def engines_record(context: Context, address: str, known: Mapping[str, float]) -> Record | None:
    """Of a client whose passes are looked up, and who is then handed off without a word; None: something else was done."""
    engine = Connection(context, address, 4711, LOCAL, 25, 5.0, WALL)
    done: list[EngineAction] = []
    while (action := engine.next_action()) is not None:
        if isinstance(action, LookupPass):
            if action.key != address:
                return None
            engine.receive_pass(known, 5.0)
        elif isinstance(action, HandOff):
            if action.greeted:
                return None
            engine.receive_handoff(HandoffOutcome.DONE, "Pass", 5.0, greeting_ended=True)
        else:
            done.append(action)
    match done:
        case [Observe(record)]:
            return record
    return None


def short_record(context: Context, address: str, known: Mapping[str, float]) -> Record | None:
    """None: the engine is to be asked."""
    clients = known_clients(context)
    if clients is None or not clients.lets_in(address, Facts(address).packed, known, WALL):
        return None
    return whole(clients.template(known, "Pass"), Visit(WALL, address, 4711, LOCAL, 25))


_expiries = st.sampled_from([passes.NEVER, passes.NOT_ENABLED, WALL - 1, WALL, WALL + 60, WALL + 1e9])
_valid = st.just(WALL + 60)


@st.composite
def policies(draw: st.DrawFn) -> Rules:
    """Of any content, but often such that a client with passes is let in."""
    drawn = draw(rules())
    drawn = replace(drawn, envelope_addresses=draw(st.sampled_from(EnvelopeAddresses)))
    if draw(st.integers(0, 3)):
        limits = replace(drawn.limits, connections_per_client=0, upstream=0)
        access = make_rules(reject=("192.0.2.0/24",)).access
        drawn = replace(drawn, limits=limits, access=access, cache=Cache())
    return drawn


@settings(max_examples=50)  # a policy takes milliseconds to draw
@given(st.data())
def test_who_is_let_in_without_an_engine_is_let_in_by_it(data: st.DataObject) -> None:
    drawn = data.draw(policies())
    address = Facts(str(ipaddress.ip_address(data.draw(packed_addresses)))).address
    expiries = _valid if data.draw(st.booleans()) else _expiries
    tests = data.draw(st.sets(st.sampled_from(passes.TESTS))) | (
        passes.enabled(drawn) if data.draw(st.booleans()) else set()
    )
    known = {test: data.draw(expiries) for test in sorted(tests)}
    suspect = address if data.draw(st.booleans()) else ""
    context = replace(make_context(drawn), suspect=suspect)
    said = short_record(context, address, known)
    if said is not None:
        assert said == engines_record(context, address, known)


def test_a_client_that_passed_needs_no_engine() -> None:
    plain = make_rules()
    for policy in (plain, replace(plain, mode=Mode.OBSERVE), make_rules(reject=("192.0.2.8",))):
        context = make_context(policy)
        assert short_record(context, CLIENT, VALID) is not None
        assert short_record(context, CLIENT, VALID) == engines_record(context, CLIENT, VALID)


def test_the_engine_is_asked_about_everybody_else() -> None:
    plain = make_rules()
    asked: dict[str, tuple[Context, Mapping[str, float]]] = {
        "no rules": (make_context(None), VALID),
        "no test is on": (make_context(replace(plain, pregreet=replace(plain.pregreet, banner=""))), VALID),
        "nothing known": (make_context(plain), {}),
        "never passed": (make_context(plain), {"pregreet": passes.NEVER}),
        "expired": (make_context(plain), {"pregreet": WALL}),
        "a broken clock's": (make_context(plain), {"pregreet": WALL + 1e9}),
        "another test's": (make_context(plain), {"dnsbl": WALL + 60}),
        "a trusted proxy": (make_context(make_rules(trusted=(CLIENT,))), VALID),
        "permitted": (make_context(make_rules(permit=(CLIENT,))), VALID),
        "rejected": (make_context(make_rules(reject=(CLIENT,))), VALID),
        "kept by prefix": (make_context(replace(plain, cache=Cache(prefix_ipv4=24))), VALID),
        "stands for many": (replace(make_context(plain), suspect=CLIENT), VALID),
    }
    assert {why: short_record(context, CLIENT, known) for why, (context, known) in asked.items()} == (
        dict.fromkeys(asked)
    )
