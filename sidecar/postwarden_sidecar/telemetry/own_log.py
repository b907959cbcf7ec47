"""stdout or stderr as a log that nobody has to read: whoever logs never waits for a reader that has stalled.

Two kinds of lines go there: those of connections, by telemetry's thread, and the program's own, by `logging` on any thread. `LogStream`
keeps the lines of both whole; `PatientHandler` writes the program's own from a thread of its own, bounded. Not sys.stderr: a thread
that is stuck in writing there holds its lock, and the interpreter aborts at its end when it can't have it.
"""

from __future__ import annotations

import io
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2  # unistd.h
WAITING_LIMIT = 1024  # lines of the program's own that wait for the reader; some 100 bytes each
LAST_WAIT = 1.0  # seconds that the end of the program waits for a reader


class LogStream(io.FileIO):
    """descriptor: stays open. Lines that are written together stay together."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._whole = threading.Lock()

    def write(self, data: ReadableBuffer, /) -> int:
        """All of it, however long that takes. Raises OSError."""
        rest = memoryview(data)
        size = len(rest)
        with self._whole:
            while rest:
                taken: int | None = super().write(rest)
                if taken is None:
                    raise BlockingIOError("the log does not block and is full")
                rest = rest[taken:]
        return size


class PatientHandler(logging.Handler):
    """Give it to `logging.basicConfig(handlers=…)`. What nobody reads in time is lost, and told of in its place."""

    def __init__(self, stream: LogStream) -> None:
        super().__init__()
        self._stream = stream
        self._lost = 0
        self._lines: queue.Queue[bytes] = queue.Queue(WAITING_LIMIT)
        threading.Thread(target=self._run, name="postwarden-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        lost = b"(%d lines were lost: nobody read this log)\n" % self._lost if self._lost else b""
        try:
            self._lines.put_nowait(lost + line)
            self._lost = 0
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        """Until all is written, LAST_WAIT seconds at most."""
        until = time.monotonic() + LAST_WAIT
        with self._lines.all_tasks_done:
            while self._lines.unfinished_tasks and (left := until - time.monotonic()) > 0:
                self._lines.all_tasks_done.wait(left)

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            try:
                self._stream.write(line)
            except OSError:  # nobody will ever read it
                pass
            finally:
                self._lines.task_done()
