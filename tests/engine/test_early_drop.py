"""Who is dropped for talking early without an engine is dropped just as an engine would have it."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from engine.scene import WALL, make_context, make_rules
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.engine.actions import IDLE, Close, Load, LookupPass, Observe, QueryDnsbl, Send
from postwarden_sidecar.engine.alike import whole
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.early_drop import early_drops
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.rules.settings import (
    Action,
    Dnsbl,
    DnsblSite,
    EnvelopeAddresses,
    Mode,
    Pregreet,
    Rules,
    Session,
)
from strategies import packed_addresses, rules

CLIENT, LOCAL = "192.0.2.7", "198.51.100.25"
ARRIVAL, ANSWER = 5.0, 5.003
LISTS = Dnsbl(sites=(DnsblSite("zen.example.", "zen.example", None, 1, "zen.example"),))

Word = tuple[bytes, Record, bool]  # all that is sent, the record, whether input is discarded before the close


def engines_word(context: Context, address: str, said: bytes, load: Load) -> Word:
    engine = Connection(context, address, 4711, LOCAL, 25, ARRIVAL, WALL, lambda key: load)
    assert engine.next_action() == LookupPass(address)
    assert engine.next_action() is None
    engine.receive_pass({}, ANSWER)
    heard, records, closes = b"", [], []
    while (action := engine.next_action()) is not None:
        match action:
            case Send(data):
                if not heard:  # the driver looks at what is there when it is to send the teaser
                    assert engine.receive_peek(said, ANSWER) == 0
                heard += data
            case Observe(record):
                records.append(record)
            case Close(linger):
                closes.append(linger)
            case _:
                assert isinstance(action, QueryDnsbl)
    (record,), (linger,) = records, closes
    return heard, record, linger


def short_word(context: Context, address: str, said: bytes, load: Load = IDLE) -> Word | None:
    """None: the engine is to be asked."""
    drops = early_drops(context)
    if drops is None or not drops.may_drop(address, Facts(address).packed) or drops.limited(load):
        return None
    visit = drops.visit(said, address, 4711, (LOCAL, 25), WALL, ANSWER - ARRIVAL)
    record = whole(drops.template, visit)
    return drops.reply, record, True


@st.composite
def policies(draw: st.DrawFn) -> Rules:
    """Of any content, but often such that an early talker is dropped."""
    drawn = draw(rules())
    drawn = replace(drawn, envelope_addresses=draw(st.sampled_from(EnvelopeAddresses)))
    if draw(st.integers(0, 3)):
        banner = draw(st.sampled_from([None, "mx.example.org ESMTP"]))
        drawn = replace(drawn, pregreet=Pregreet(Action.DROP, 6.0, banner, 3600.0), mode=Mode.ENFORCE)
    return drawn


few = st.integers(0, 60)
loads = st.builds(Load, few, few, few, st.booleans())


@given(policies(), packed_addresses, st.booleans(), st.binary(min_size=1, max_size=2000), loads)
def test_what_is_said_without_an_engine_is_what_an_engine_says(
    drawn: Rules, packed: bytes, suspected: bool, said: bytes, load: Load
) -> None:
    address = Facts(str(ipaddress.ip_address(packed))).address
    context = replace(make_context(drawn), suspect=address if suspected else "")
    word = short_word(context, address, said, load)
    if word is not None:
        assert word == engines_word(context, address, said, load)


def test_an_early_talker_needs_no_engine() -> None:
    policy = make_rules(pregreet=Action.DROP)
    for drawn in (
        policy,
        replace(policy, dnsbl=LISTS),
        replace(policy, session=Session(soft_fail=True)),
        replace(policy, session=Session(reject_footer="see example.org")),
    ):
        context = make_context(drawn)
        for said in (b"EHLO x\r\n", b"\xff" * 1500):
            word = short_word(context, CLIENT, said)
            assert word is not None
            assert word == engines_word(context, CLIENT, said, IDLE)


def test_the_engine_is_asked_about_everybody_else() -> None:
    dropping = make_rules(pregreet=Action.DROP)
    limits, cache = dropping.limits, dropping.cache
    asked = {
        "no rules": make_context(None),
        "another action": make_context(make_rules()),
        "mode Observe": make_context(replace(dropping, mode=Mode.OBSERVE)),
        "no greeting test": make_context(make_rules(pregreet=Action.DROP, banner="")),
        "nothing to greet with": make_context(make_rules(pregreet=Action.DROP, banner=None), banner=""),
        "a trusted proxy": make_context(make_rules(pregreet=Action.DROP, trusted=(CLIENT,))),
        "permitted": make_context(make_rules(pregreet=Action.DROP, permit=(CLIENT,))),
        "denied": make_context(make_rules(pregreet=Action.DROP, reject=(CLIENT,))),
        "earns no pass": make_context(make_rules(pregreet=Action.DROP, pass_addresses=("203.0.113.1",))),
        "passes by prefix": make_context(replace(dropping, cache=replace(cache, prefix_ipv4=24))),
        "its reply is its own": make_context(
            replace(dropping, session=Session(reject_footer="you are $client_address"))
        ),
        "no limit holds for it": replace(make_context(dropping), suspect=CLIENT),
        "too many": make_context(replace(dropping, limits=replace(limits, screening=1))),
    }
    assert {why: short_word(context, CLIENT, b"x") for why, context in asked.items()} == dict.fromkeys(asked)
