"""Who is dropped at accept without an engine is dropped just as an engine would have it."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from engine.scene import WALL, make_context, make_rules
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.engine.actions import Close, EngineAction, Observe, Send
from postwarden_sidecar.engine.alike import whole
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.denial import denials
from postwarden_sidecar.engine.record import Visit
from postwarden_sidecar.rules.settings import Action, EnvelopeAddresses, Mode, Rules, Session
from strategies import packed_addresses, rules

CLIENT, LOCAL = "192.0.2.7", "198.51.100.25"


def engines_word(context: Context, address: str) -> list[EngineAction]:
    engine = Connection(context, address, 4711, LOCAL, 25, 5.0, WALL)
    actions = []
    while (action := engine.next_action()) is not None:
        actions.append(action)
    assert engine.next_deadline() is None or not any(isinstance(action, Close) for action in actions)
    return actions


def short_word(context: Context, address: str) -> list[EngineAction] | None:
    """None: the engine is to be asked."""
    denied = denials(context)
    place = None if denied is None else denied.find(address, Facts(address).packed)
    if denied is None or place is None:
        return None
    record = whole(denied.template, Visit(WALL, address, 4711, LOCAL, 25, place))
    return [Send(denied.reply), Observe(record), Close(linger=False)]


@st.composite
def policies(draw: st.DrawFn) -> Rules:
    """Of any content, but often such that somebody is dropped at accept."""
    drawn = draw(rules())
    drawn = replace(drawn, envelope_addresses=draw(st.sampled_from(EnvelopeAddresses)))
    if draw(st.integers(0, 3)):
        access = replace(drawn.access, reject_action=Action.DROP)
        limits = replace(drawn.limits, connections_per_client=0, upstream=0, screening=0)
        drawn = replace(drawn, access=access, mode=Mode.ENFORCE, limits=limits)
    return drawn


@st.composite
def clients(draw: st.DrawFn, rules: Rules) -> str:
    """Often one that a list has."""
    listed = [str(first) for rule in rules.access.rules for first, _, _, _ in rule.table.rows()]
    strangers = packed_addresses.map(lambda packed: str(ipaddress.ip_address(packed)))
    return Facts(draw(st.sampled_from(listed) | strangers if listed else strangers)).address


@given(st.data())
def test_what_is_said_without_an_engine_is_what_an_engine_says(data: st.DataObject) -> None:
    drawn = data.draw(policies())
    address = data.draw(clients(drawn))
    suspect = address if data.draw(st.booleans()) else ""
    context = replace(make_context(drawn), suspect=suspect)
    said = short_word(context, address)
    if said is not None:
        assert said == engines_word(context, address)


def test_a_client_on_the_list_needs_no_engine() -> None:
    for session in (Session(), Session(soft_fail=True), Session(reject_footer="see example.org")):
        context = make_context(make_rules(reject=(CLIENT,), reject_action=Action.DROP, session=session))
        assert short_word(context, CLIENT) == engines_word(context, CLIENT)


def test_the_engine_is_asked_about_everybody_else() -> None:
    listed = make_rules(reject=(CLIENT,), reject_action=Action.DROP)
    asked = {
        "no rules": make_context(None),
        "another action": make_context(make_rules(reject=(CLIENT,))),
        "mode Observe": make_context(replace(listed, mode=Mode.OBSERVE)),
        "a trusted proxy": make_context(
            make_rules(reject=(CLIENT,), reject_action=Action.DROP, trusted=(CLIENT,))
        ),
        "permitted first": make_context(
            make_rules(reject=(CLIENT,), reject_action=Action.DROP, permit=("192.0.2.0/24",))
        ),
        "its reply is its own": make_context(
            replace(listed, session=Session(reject_footer="you are $client_address"))
        ),
        "no limit holds for it": replace(make_context(listed), suspect=CLIENT),
        "not on the list": make_context(make_rules(reject=("192.0.2.8",), reject_action=Action.DROP)),
    }
    assert {why: short_word(context, CLIENT) for why, context in asked.items()} == dict.fromkeys(asked)
