"""Marks of who is stored: nobody who is stored is ever taken for a stranger."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.ipc.pass_filter import SIZE, PassFilter

KEYS = st.lists(st.sampled_from([f"192.0.2.{number}" for number in range(256)] + ["2001:db8::/64", ""]))


def empty() -> PassFilter:
    return PassFilter(memoryview(bytearray(SIZE)))


def test_until_all_marks_are_there_everybody_may_be_stored() -> None:
    marks = empty()
    assert marks.may_know("192.0.2.1")
    marks.add("192.0.2.2")
    assert marks.may_know("192.0.2.1")
    marks.renew([])
    assert not marks.may_know("192.0.2.1")


@given(KEYS, KEYS, KEYS)
def test_who_was_stored_may_be_known_until_the_marks_are_made_anew_without_it(
    first: list[str], added: list[str], last: list[str]
) -> None:
    marks = empty()
    marks.renew(first)
    for key in added:
        marks.add(key)
    assert all(map(marks.may_know, first + added))
    marks.renew(last)
    assert all(map(marks.may_know, last))
    gone = {key for key in first + added if marks.may_know(key)} - set(last)
    assert not gone, "no two of these share a place"


def test_few_strangers_share_a_place_with_one_who_is_stored() -> None:
    marks = empty()
    marks.renew([f"192.0.{number // 256}.{number % 256}" for number in range(5_000)])
    strangers = [f"198.51.{number // 256}.{number % 256}" for number in range(10_000)]
    assert sum(map(marks.may_know, strangers)) < 500


def test_a_worker_sees_what_the_supervisor_marks(page: Page) -> None:
    worker = Page(page.descriptor)
    assert worker.passes.may_know("192.0.2.1")
    page.passes.renew(["192.0.2.1"])
    page.passes.add("192.0.2.2")
    known = [worker.passes.may_know(f"192.0.2.{number}") for number in (1, 2, 3)]
    assert known == [True, True, False]
    assert not any(count for _, count in worker.totals()), "no counter is touched"
    worker.close()
