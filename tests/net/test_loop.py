"""The event loop: deadlines, wakes, and defects that end one connection only."""

from __future__ import annotations

import select
import socket

import pytest
from postwarden_sidecar.net.loop import Loop


class Recorder:
    """A handler that notes what it is told; fails_at raises there."""

    def __init__(self, fails_at: str = "") -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.told: list[str] = []
        self._fails_at = fails_at

    def _note(self, what: str) -> None:
        self.told.append(what)
        if what == self._fails_at:
            raise RuntimeError(what)

    def handle_events(self, fd: int, events: int) -> None:
        self._note("events")

    def handle_deadline(self) -> None:
        self._note("deadline")

    def fail(self) -> None:
        self.told.append("fail")


def test_a_deadline_may_be_moved_both_ways_and_taken_back() -> None:
    loop = Loop()
    early, late, never = Recorder(), Recorder(), Recorder()
    loop.set_deadline(early, loop.now + 60)
    loop.set_deadline(early, loop.now)
    loop.set_deadline(late, loop.now)
    loop.set_deadline(late, loop.now + 60)
    loop.set_deadline(never, loop.now)
    loop.set_deadline(never, None)
    loop.turn()
    assert (early.told, late.told, never.told) == (["deadline"], [], [])
    assert late.deadline is not None
    loop.release()


def test_deadlines_taken_back_do_not_stay_in_memory() -> None:
    loop = Loop()
    kept = Recorder()
    loop.set_deadline(kept, loop.now + 60)
    for _ in range(10_000):
        gone = Recorder()
        loop.set_deadline(gone, loop.now + 3600)
        loop.set_deadline(gone, None)
    assert len(loop._deadlines) < 200
    loop.set_deadline(kept, loop.now)
    loop.turn()
    assert kept.told == ["deadline"]
    loop.release()


@pytest.mark.parametrize("what", ["events", "deadline"])
def test_a_defect_ends_its_own_connection_only(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    loop = Loop()
    bad, good = Recorder(what), Recorder()
    ends = [socket.socketpair() for _ in range(2)]
    for (near, far), handler in zip(ends, (bad, good), strict=True):
        far.send(b"x")
        loop.watch(near.fileno(), handler, select.EPOLLIN)
        loop.set_deadline(handler, loop.now)
    loop.turn()
    assert bad.told.count("fail") == 1
    assert sorted(good.told) == ["deadline", "events"]
    assert f"RuntimeError: {what}" in capsys.readouterr().err
    for near, far in ends:
        loop.close(near)
        far.close()
    loop.release()


def test_a_socket_closed_within_a_turn_is_not_served_in_it() -> None:
    """Its number may be another's by then; it stays taken to the end of the turn."""
    loop = Loop()
    near, far = socket.socketpair()
    number = near.fileno()
    handler = Recorder()
    loop.watch(number, handler, select.EPOLLIN)
    far.send(b"x")
    loop.close(near)
    assert near.fileno() == -1
    with socket.socket() as other:
        assert other.fileno() != number
    loop.set_deadline(handler, loop.now)
    loop.turn()
    assert handler.told == ["deadline"]
    with pytest.raises(ConnectionResetError):  # the byte was never read
        far.recv(1)
    far.close()
    loop.release()
