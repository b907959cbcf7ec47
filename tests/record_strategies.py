"""Hypothesis strategies of records of connections, as workers send them."""

from __future__ import annotations

from hypothesis import strategies as st
from postwarden_sidecar.engine.record import (
    Alike,
    Event,
    EventKind,
    Lookup,
    Record,
    TestResult,
    Verdict,
    Visit,
)

_latin1 = st.text(st.characters(max_codepoint=255), max_size=200)


@st.composite
def records(draw: st.DrawFn, texts: st.SearchStrategy[str] = _latin1, max_items: int = 12) -> Record:
    """Records as the engine makes them; with other texts or more items, as it must never make them."""
    port = st.integers(0, 65535)
    offset = st.floats(0, 1000)
    return Record(
        started=draw(st.floats(0, 4e9)),
        duration=draw(offset),
        verdict=draw(st.sampled_from(Verdict)),
        reason=draw(texts),
        client_address=draw(texts),
        client_port=draw(port),
        server_address=draw(texts),
        server_port=draw(port),
        peer_address=draw(texts),
        peer_port=draw(port),
        proxied=draw(st.booleans()),
        policy_name=draw(texts),
        helo=draw(texts),
        sender=draw(texts),
        recipient=draw(texts),
        tests=draw(
            st.lists(st.builds(TestResult, texts, texts, texts, offset, offset, texts), max_size=max_items)
        ),
        events=draw(
            st.lists(
                st.builds(Event, st.sampled_from(EventKind), offset, texts, port, texts, texts, texts),
                max_size=max_items,
            )
        ),
        events_lost=draw(st.integers(0, 1000)),
        lookups=draw(st.lists(st.builds(Lookup, texts, texts, offset, offset), max_size=max_items)),
    )


@st.composite
def groups(draw: st.DrawFn, texts: st.SearchStrategy[str] = _latin1) -> Alike:
    """As lanes make them: who and when are empty in the template, and either all visits have a place or none."""
    template = draw(records(texts))
    template.started, template.duration, template.proxied = 0.0, 0.0, False
    for result in template.tests:
        result.start = result.end = 0.0
    for event in template.events:
        event.offset = 0.0
    template.client_address = template.peer_address = template.server_address = ""
    template.client_port = template.peer_port = template.server_port = 0
    placed, said = draw(st.booleans()), len(template.events) > 1 and draw(st.booleans())
    if placed:
        template.tests = template.tests[:1]
    some, port = texts.filter(bool), st.integers(0, 65535)
    visits = st.builds(
        Visit,
        st.floats(0, 4e9),
        some,
        port,
        texts,
        port,
        some if placed else st.just(""),
        st.just(0.0) | st.floats(0, 1000),
        texts if said else st.just(""),
        st.integers(1, 5000) if said else st.just(0),
    )
    return Alike(template, draw(st.lists(visits, min_size=1, max_size=5)))
