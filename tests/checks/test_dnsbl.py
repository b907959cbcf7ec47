"""What the answers of block lists add up to."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.checks import dnsbl
from postwarden_sidecar.rules.settings import Dnsbl, DnsblSite


class Answer(NamedTuple):
    addresses: tuple[bytes, ...]
    ttl: float
    failed: bool = False


def octets(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


def site(zone: str, weight: int = 1, last: frozenset[int] | None = None, label: str = "") -> DnsblSite:
    here = frozenset((127,)), frozenset((0,)), frozenset((0,))
    return DnsblSite(zone, zone, None if last is None else (*here, last), weight, label or zone)


LISTS = Dnsbl(
    sites=(
        site("bl1.", 2, label="lists.example.net"),
        site("bl2.", 1, frozenset((2, 3, 4))),
        site("bl2.", 3, frozenset((10, 11))),
        site("wl.", -2),
    ),
    threshold=3,
    ttl_min=60.0,
    ttl_max=3600.0,
)
LISTED = Answer((octets("127.0.0.2"),), 300.0)
NOT_LISTED = Answer((), 900.0)


def answers(**found: Answer) -> dict[str, Answer]:
    return {f"{zone}.": answer for zone, answer in found.items()}


@pytest.mark.parametrize(
    ("found", "total", "label"),
    [
        ({}, 0, ""),
        ({"bl1": NOT_LISTED}, 0, ""),
        ({"bl1": LISTED}, 2, "lists.example.net"),
        ({"bl1": LISTED._replace(failed=True)}, 0, ""),
        ({"bl2": LISTED}, 1, "bl2."),
        ({"bl2": Answer((octets("127.0.0.5"),), 1.0)}, 0, ""),  # no filter wants it
        ({"bl2": Answer((octets("127.0.1.2"),), 1.0)}, 0, ""),
        ({"bl2": Answer((octets("127.0.0.2"), octets("127.0.0.3")), 1.0)}, 1, "bl2."),  # a filter counts once
        ({"bl2": Answer((octets("127.0.0.2"), octets("127.0.0.11")), 1.0)}, 4, "bl2."),
        ({"bl1": LISTED, "bl2": LISTED}, 3, "lists.example.net"),
        ({"bl1": LISTED, "wl": LISTED}, 0, "lists.example.net"),
        ({"wl": LISTED}, -2, "wl."),
        ({"other": LISTED}, 0, ""),
    ],
)
def test_weights_of_the_filters_that_match_add_up(found: dict[str, Answer], total: int, label: str) -> None:
    score = dnsbl.score(LISTS, answers(**found))
    assert (score.total, score.label) == (total, label)


@pytest.mark.parametrize(
    ("found", "ttl"),
    [
        ({}, 60.0),  # nobody answered: as short as may be
        ({"bl1": NOT_LISTED}, 900.0),
        ({"bl1": NOT_LISTED, "bl2": Answer((), 100.0)}, 100.0),
        ({"bl1": NOT_LISTED, "wl": Answer((), 100.0)}, 900.0),  # not being on a good list makes nobody good
        ({"bl1": NOT_LISTED, "wl": Answer((octets("127.0.0.1"),), 100.0)}, 100.0),
        ({"bl1": Answer((octets("127.0.0.2"),), 500.0), "bl2": Answer((), 100.0)}, 500.0),  # a score above 0
        ({"bl1": Answer((), 5.0)}, 60.0),
        ({"bl1": Answer((), 1e6)}, 3600.0),
    ],
)
def test_the_pass_lasts_as_long_as_the_answers_that_gave_it(found: dict[str, Answer], ttl: float) -> None:
    assert dnsbl.score(LISTS, answers(**found)).ttl == ttl


@pytest.mark.parametrize(
    ("threshold", "total", "allowed"),
    [(0, 0, False), (0, -5, False), (-2, -1, False), (-2, -2, True), (-2, -3, True)],
)
def test_only_a_negative_threshold_allows(threshold: int, total: int, allowed: bool) -> None:
    assert dnsbl.allows(Dnsbl(allow_threshold=threshold), total) is allowed


def test_each_zone_is_asked_once() -> None:
    assert dnsbl.zones(LISTS) == {"bl1.", "bl2.", "wl."}


_found = st.dictionaries(
    st.sampled_from(["bl1.", "bl2.", "wl.", "other."]),
    st.builds(
        Answer,
        st.lists(st.binary(min_size=4, max_size=4), max_size=3).map(tuple),
        st.floats(allow_nan=False),
    ),
)


@given(_found)
def test_any_answers_give_a_score_and_a_time_within_bounds(found: dict[str, Answer]) -> None:
    score = dnsbl.score(LISTS, found)
    assert -2 <= score.total <= 6
    assert LISTS.ttl_min <= score.ttl <= LISTS.ttl_max
