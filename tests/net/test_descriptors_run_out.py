"""A hand-over in the middle of the dialogue when the process has no descriptor left: `450`, and the session stays with us."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from net.bench import Bench
from net.handover_scripts import GREETING, HANDOFFS, MAIL, OK, RCPT, ask, deep_rules, greet, opened, taken
from net.scripted_mta import Conversation, Script, ScriptedMta
from postwarden_sidecar.net.known_lane import KnownLane
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.net.timeouts import Timeouts

Shortage = Callable[[Bench], AbstractContextManager[None]]


@contextmanager
def too_few(bench: Bench) -> Iterator[None]:
    """Fewer are free than a hand-over may need."""
    descriptors = bench.driver._descriptors
    taken_up = descriptors.free - 3
    descriptors.opened += taken_up
    yield
    descriptors.opened -= taken_up


@contextmanager
def none_at_all(bench: Bench) -> Iterator[None]:
    """The kernel says EMFILE to whoever opens one."""
    next_one = os.dup(0)
    os.close(next_one)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("shortage", [too_few, none_at_all])
@pytest.mark.parametrize("handoff", HANDOFFS)
def test_the_client_is_asked_to_come_back_and_gets_through_later(
    handoff: str, shortage: Shortage, tmp_path: Path
) -> None:
    script = taken((b"DATA\r\n", b"354 go on\r\n"), (b".\r\n", b"250 2.0.0 taken\r\n"))
    with (
        ScriptedMta(opened(handoff, script), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        assert ask(client, MAIL)[:3] == b"250"
        with shortage(bench):
            for _ in range(2):
                assert ask(client, RCPT).startswith(b"450 4.3.2 ")
            assert mta.conversations == []
        assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
        assert ask(client, b"DATA\r\n") == b"354 go on\r\n"
        assert ask(client, b".\r\n") == b"250 2.0.0 taken\r\n"
        (record,) = bench.host.records()
        assert (record.verdict, record.handoff) == ("pass_new", handoff)
        assert bench.host.faults == [], "the MTA is not to blame"
    assert script.failures == []


def test_without_a_socketpair_smtpd_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket was connected with the last descriptor."""
    untouched: list[bytes] = []

    def look(conversation: Conversation) -> None:
        untouched.append(conversation.hear_all())

    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    script = taken()
    scripts: Iterator[Script] = iter([look, opened("Pass", script)])

    def run(conversation: Conversation) -> None:
        next(scripts)(conversation)

    with (
        ScriptedMta(run, tmp_path / "mta") as mta,
        Bench(mta.target, "Pass", deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        assert ask(client, MAIL)[:3] == OK[:3]
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socketpair", refuse)
            assert ask(client, RCPT).startswith(b"450 4.3.2 ")
        assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
        bench.host.records()
    assert (untouched, script.failures) == ([b""], [])


class Watching:
    """Stands in for the epoll of a loop, or of a lane. fails_at: the epoll_ctl(2) that the kernel has no memory for, of those that add a
    descriptor."""

    def __init__(self, owner: Loop | KnownLane) -> None:
        self.fails_at = 0
        self._added = 0
        self._epoll = owner._epoll
        owner._epoll = self  # type: ignore[assignment]

    def fail_at(self, number: int) -> None:
        self._added, self.fails_at = 0, number

    def register(self, fd: int, mask: int) -> None:
        self._added += 1
        if self._added == self.fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._epoll.register(fd, mask)

    def __getattr__(self, name: str) -> object:
        return getattr(self._epoll, name)


@pytest.mark.parametrize("handoff", HANDOFFS)
def test_a_handed_over_client_that_cannot_be_watched_is_answered_at_once(
    handoff: str, tmp_path: Path
) -> None:
    """Not only when the MTA has had its 30 seconds for the greeting. With Pass smtpd has the client before anything is watched."""
    heard = []
    with (
        ScriptedMta(
            opened(handoff, lambda conversation: conversation.say(GREETING)), tmp_path / "mta"
        ) as mta,
        Bench(mta.target, handoff, timeouts=Timeouts(connect_unix=0.2)) as bench,
    ):
        watching = Watching(bench.loop)
        for number in (1, 2):
            watching.fail_at(number)
            with bench.connect() as client:
                heard.append(client.hear_all())
        verdicts = [record.verdict for record in bench.host.records(2)]
    if handoff == "Pass":
        assert heard == [GREETING] * 2
    else:
        assert [each[:4] for each in heard] == [b"421 ", b"421 "]
        assert verdicts == ["deferred", "deferred"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("handoff", HANDOFFS)
def test_a_hand_over_that_cannot_be_watched_is_answered_and_tried_again(
    handoff: str, number: int, tmp_path: Path
) -> None:
    """number: 1 is the client's socket, 2 the MTA's, which has a connection then that says nothing."""
    scripts = iter([lambda conversation: conversation.hear_all()] * (number - 1) + [opened(handoff, taken())])
    with (
        ScriptedMta(lambda conversation: next(scripts)(conversation), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, deep_rules(), timeouts=Timeouts()) as bench,
    ):
        watching = Watching(bench.loop)
        with bench.connect() as client:
            greet(client)
            assert ask(client, MAIL)[:3] == OK[:3]
            watching.fail_at(number)
            assert ask(client, RCPT).startswith(b"450 4.3.2 ")
            assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
            bench.host.records()


def test_a_client_that_cannot_be_watched_any_more_is_let_go() -> None:
    """It would wait for ever: nobody would tell what it says."""
    with Bench(rules=deep_rules()) as bench:
        watching = Watching(bench.loop)
        watching.fail_at(1)
        with bench.connect() as client:
            assert client.hear_all() == b"220-mx.example ESMTP\r\n"
        (record,) = bench.host.records()
        assert record.verdict == "error"
