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
from net.handover_scripts import HANDOFFS, MAIL, OK, RCPT, ask, deep_rules, greet, opened, taken
from net.scripted_mta import Conversation, Script, ScriptedMta

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
