"""Hypothesis strategies that several tests share."""

from __future__ import annotations

from hypothesis import strategies as st
from postwarden_sidecar.engine.record import Event, EventKind, Record, TestResult, Verdict

# --- records of connections

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
    )
