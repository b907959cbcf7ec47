"""The program's own log: whole lines, and nobody waits for its reader."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
from collections.abc import Iterator

import pytest
from postwarden_sidecar.telemetry import own_log
from postwarden_sidecar.telemetry.own_log import WAITING_LIMIT, LogStream, PatientHandler

SMALLEST_PIPE = 4096  # bytes: fcntl(2), F_SETPIPE_SZ


class Piped:
    """A logger whose log is a small pipe."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        self.stream = LogStream(self.writer)
        self.handler = PatientHandler(self.stream)
        self.logger = logging.Logger("piped")
        self.logger.addHandler(self.handler)

    def read(self, lines: int) -> list[bytes]:
        found = b""
        while found.count(b"\n") < lines:
            found += os.read(self.reader, 65536)
        return found.splitlines()


@pytest.fixture
def piped() -> Iterator[Piped]:
    made = Piped()
    yield made
    os.close(made.reader)  # a thread that is stuck goes on
    made.handler.flush()
    made.handler.close()
    os.close(made.writer)


def test_lines_are_written_in_order_as_they_are_formatted(piped: Piped) -> None:
    piped.handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    piped.logger.warning("first \udc80")
    piped.logger.error("second")
    assert piped.read(2) == [rb"WARNING first \udc80", b"ERROR second"]


def test_who_logs_does_not_wait_for_a_reader_and_is_told_of_what_is_lost(
    piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_log, "LAST_WAIT", 0.1)
    line = "x" * 99
    for _ in range(2 * WAITING_LIMIT):
        piped.logger.warning(line)
    piped.handler.flush()
    found = piped.read(WAITING_LIMIT)
    piped.handler.flush()
    piped.logger.warning("again")
    while found[-1] != b"again":
        found += piped.read(1)
    lost = [int(told[1]) for each in found if (told := re.fullmatch(rb"\((\d+) lines were lost: .*\)", each))]
    assert sum(lost) > WAITING_LIMIT // 2
    assert found.count(line.encode()) + sum(lost) == 2 * WAITING_LIMIT


def test_a_reader_that_is_gone_disturbs_nobody(piped: Piped) -> None:
    kept = os.dup(piped.reader)
    os.close(piped.reader)
    os.close(kept)
    piped.logger.warning("nobody hears this")
    piped.handler.flush()
    assert piped.handler._lines.unfinished_tasks == 0
    piped.reader = os.open(os.devnull, os.O_RDONLY)


def test_what_several_threads_write_stays_together(piped: Piped) -> None:
    """Each writes more at a time than the pipe takes at once."""
    pieces = [bytes([letter]) * 9999 + b"\n" for letter in b"abcd"]
    threads = [
        threading.Thread(target=lambda piece=piece: [piped.stream.write(piece) for _ in range(20)])
        for piece in pieces
    ]
    for thread in threads:
        thread.start()
    found = piped.read(80)
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([piece[:-1] for piece in pieces] * 20)
