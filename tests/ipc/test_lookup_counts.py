"""Look-ups counted by zone: places are kept for good, workers add up, and what has no place is counted as other."""

from __future__ import annotations

from postwarden_sidecar.dns.outcome import Outcome
from postwarden_sidecar.ipc.lookup_counts import LOOKUP_BOUNDS, MAX_ZONES, OTHER
from postwarden_sidecar.ipc.page import CELLS, MAX_WORKERS, Page


def counted(page: Page) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (zone, outcome.value): (sum(counts), total)
        for zone, outcome, counts, total in page.lookups.totals()
        if any(counts)
    }


def test_counts_of_all_workers_add_up_and_touch_no_others(page: Page) -> None:
    page.lookups.name_zones(["a.example", "b.example"])
    places = page.lookups.zones()
    for worker in (0, MAX_WORKERS - 1):
        page.lookups.count(worker, places["b.example"], Outcome.TIMEOUT, 10.5)
    page.lookups.count(0, places["a.example"], Outcome.LISTED, 0.002)
    assert counted(page) == {("b.example", "timeout"): (2, 21_000_000), ("a.example", "listed"): (1, 2_000)}
    found = {zone: counts for zone, _, counts, _ in page.lookups.totals() if any(counts)}
    assert found["b.example"] == (0,) * len(LOOKUP_BOUNDS) + (2,)
    assert found["a.example"][1] == 1
    assert dict.fromkeys(CELLS, 0).keys() == {name for name in CELLS if page.total(name) == 0}


def test_another_process_that_maps_the_page_finds_the_names(page: Page) -> None:
    page.lookups.name_zones(["a.example", "{key}.b.example"])
    other = Page(page.descriptor)
    assert other.lookups.zones() == {OTHER: 0, "a.example": 1, "{key}.b.example": 2}
    other.close()


def test_a_zone_that_goes_and_comes_back_goes_on_counting_where_it_was(page: Page) -> None:
    for zones in (["a.example"], ["b.example", "c.example"], ["c.example", "a.example", "a.example"]):
        page.lookups.name_zones(zones)
        for zone in set(zones):
            page.lookups.count(0, page.lookups.zones()[zone], Outcome.NOT_LISTED, 0.0)
    assert page.lookups.zones() == {OTHER: 0, "a.example": 1, "b.example": 2, "c.example": 3}
    assert {zone: count for (zone, _), (count, _) in counted(page).items()} == {
        "a.example": 2,
        "b.example": 1,
        "c.example": 2,
    }


def test_zones_without_a_place_are_left_to_other(page: Page) -> None:
    page.lookups.name_zones(["x" * 300, "", *(f"{index}.example" for index in range(MAX_ZONES + 5))])
    named = page.lookups.zones()
    assert len(named) == MAX_ZONES
    assert f"{MAX_ZONES - 2}.example" in named
    assert f"{MAX_ZONES - 1}.example" not in named
