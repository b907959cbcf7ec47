"""Figures with aims of their own: what is met, what is shown, and what is read of the kernel."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.figures.figure import Figure, as_json
from bench.figures.held import slab_bytes
from bench.table import figure_table

SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata
TCP                  30     39   2432   13    8 : tunables    0    0    0 : slabdata      3      3      0
sock_inode_cache    100    114    832   19    4 : tunables    0    0    0 : slabdata      6      6      0
"""


@pytest.mark.parametrize(
    ("figure", "outcome", "aim"),
    [
        (Figure("a", 2.0, "us", at_most=2.0), "met", "<= 2"),
        (Figure("a", 2.1, "us", at_most=2.0), "missed", "<= 2"),
        (Figure("a", 0.9, "", at_least=0.9), "met", ">= 0.9"),
        (Figure("a", 0.89, "", at_least=0.9), "missed", ">= 0.9"),
        (Figure("a", 7.0, "s"), "", ""),
    ],
)
def test_a_figure_at_its_aim_meets_it_and_one_without_an_aim_is_only_shown(
    figure: Figure, outcome: str, aim: str
) -> None:
    assert (figure.outcome, figure.aim) == (outcome, aim)


def test_json_has_four_digits_and_the_outcome() -> None:
    assert as_json([Figure("PSS", 66.918912, "MB", at_most=90.0)]) == {
        "PSS": {"value": 66.92, "unit": "MB", "aim": "<= 90", "outcome": "met"}
    }


def test_the_table_says_whether_an_aim_is_met_and_how_a_figure_came_about() -> None:
    text = io.StringIO()
    Console(file=text, width=100).print(
        figure_table("held", [Figure("each", 1800.0, "bytes", at_most=1536, note="15000")])
    )
    assert "<= 1536: missed" in text.getvalue()
    assert "15000" in text.getvalue()


def test_the_kernels_caches_are_what_their_objects_in_use_take() -> None:
    assert slab_bytes(SLABINFO) == 30 * 2432 + 100 * 832
