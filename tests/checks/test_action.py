"""What actions do, alone and after one another."""

from __future__ import annotations

import pytest
from postwarden_sidecar.checks.action import CLEAN, REPLIES, Standing, acted_upon
from postwarden_sidecar.rules.settings import Action, Mode

IGNORE, ENFORCE, DROP = Action.IGNORE, Action.ENFORCE, Action.DROP


def after(mode: Mode, *failures: tuple[str, Action]) -> Standing:
    standing = CLEAN
    for test, action in failures:
        standing = standing.failed(mode, test, action, f"failed {test}")
    return standing


@pytest.mark.parametrize(
    ("failures", "refusal", "drop", "decided"),
    [
        ([], b"", b"", ("", IGNORE)),
        ([("access", IGNORE)], b"", b"", ("access", IGNORE)),
        ([("access", ENFORCE)], b"550 5.3.2 Service currently unavailable\r\n", b"", ("access", ENFORCE)),
        ([("access", DROP)], b"", b"521 5.3.2 Service currently unavailable\r\n", ("access", DROP)),
        ([("pregreet", ENFORCE)], b"550 5.5.1 Protocol error\r\n", b"", ("pregreet", ENFORCE)),
        ([("pregreet", DROP)], b"", b"521 5.5.1 Protocol error\r\n", ("pregreet", DROP)),
        ([("access", IGNORE), ("pregreet", IGNORE)], b"", b"", ("pregreet", IGNORE)),
        # the last Enforce gives the reply
        (
            [("access", ENFORCE), ("pregreet", ENFORCE)],
            b"550 5.5.1 Protocol error\r\n",
            b"",
            ("pregreet", ENFORCE),
        ),
        # a later Ignore takes nothing back
        ([("access", ENFORCE), ("pregreet", IGNORE)], REPLIES["access"][0], b"", ("access", ENFORCE)),
        ([("access", IGNORE), ("pregreet", ENFORCE)], REPLIES["pregreet"][0], b"", ("pregreet", ENFORCE)),
        (
            [("access", ENFORCE), ("pregreet", DROP)],
            REPLIES["access"][0],
            REPLIES["pregreet"][1],
            ("pregreet", DROP),
        ),
    ],
)
def test_actions_take_effect(
    failures: list[tuple[str, Action]], refusal: bytes, drop: bytes, decided: tuple[str, Action]
) -> None:
    standing = after(Mode.ENFORCE, *failures)
    assert (standing.refusal, standing.drop) == (refusal, drop)
    assert (standing.test, standing.action) == decided
    assert standing.would == ""
    assert standing.reason == (f"failed {decided[0]}" if decided[0] else "")


@pytest.mark.parametrize(
    ("failures", "would", "test"),
    [
        ([("access", IGNORE)], "", "access"),
        ([("access", ENFORCE)], "rejected", "access"),
        ([("access", DROP)], "dropped", "access"),
        ([("access", DROP), ("pregreet", ENFORCE)], "dropped", "access"),
        ([("access", ENFORCE), ("pregreet", DROP)], "dropped", "pregreet"),
        ([("access", ENFORCE), ("pregreet", IGNORE)], "rejected", "access"),
    ],
)
def test_under_observe_everything_is_ignored_and_what_would_have_been_is_noted(
    failures: list[tuple[str, Action]], would: str, test: str
) -> None:
    standing = after(Mode.OBSERVE, *failures)
    assert (standing.refusal, standing.drop) == (b"", b"")
    assert standing.action is IGNORE
    assert (standing.would, standing.test) == (would, test)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("action", Action)
def test_the_action_acted_upon_is_told(mode: Mode, action: Action) -> None:
    assert acted_upon(mode, action) is (IGNORE if mode is Mode.OBSERVE else action)


def test_a_failure_leaves_alone_what_others_share() -> None:
    first = CLEAN.failed(Mode.ENFORCE, "access", ENFORCE, "failed")
    first.failed(Mode.ENFORCE, "pregreet", DROP, "failed, too")
    assert (CLEAN.test, CLEAN.refusal) == ("", b"")
    assert (first.test, first.drop) == ("access", b"")
