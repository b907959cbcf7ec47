"""A child process with its output in a file, that never outlives the test run.

Contract: `LoggedProcess` starts a command, tells whether it lives, waits for what it does, gives the tail of
its log and ends it by its pid; `started` returns one that answers. The kernel kills it (PR_SET_PDEATHSIG)
when the thread that started it ends, so start it from a thread that lives as long as it is wanted: pytest's
main thread. setpriv(1) sets that signal rather than `preexec_fn`, which may deadlock in a process with threads.
"""

import subprocess
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from harness.polling import poll

LOG_TAIL = 4000
"""Bytes of a log that are shown when something went wrong: some 25 lines."""


class LoggedProcess:
    _known: ClassVar[weakref.WeakSet["LoggedProcess"]] = weakref.WeakSet()

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        """Start `command`; stdout and stderr are appended to `log`. Raises OSError if setpriv is missing."""
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        self._known.add(self)

    @classmethod
    def running(cls) -> list["LoggedProcess"]:
        """All that live now, the oldest first."""
        return sorted((each for each in cls._known if each.alive()), key=lambda each: each.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def tail(self) -> str:
        """The end of its log, under a heading that names it."""
        text = self.log.read_bytes()[-LOG_TAIL:].decode(errors="replace")
        state = "running" if self.alive() else f"exited with {self._process.returncode}"
        return f"--- {self.name} ({state}), end of {self.log}:\n{text}"

    def wait_until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Until `done()` is true, in words: `what`. Raises TimeoutError, with the end of its log, after `timeout` seconds, or at once if
        it ends before."""

        def look() -> bool:
            if not self.alive():
                raise TimeoutError(f"it ended before {what}:\n{self.tail()}")
            return done()

        poll(look, timeout, lambda: f"not {what}:\n{self.tail()}")

    def wait(self, timeout: float) -> int:
        """Its exit status. Raises TimeoutError, with the end of its log, if it is not over after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self.name} has not ended after {timeout:g} s:\n{self.tail()}") from error

    def kill(self) -> None:
        """End it at once and wait until it is gone; its data is thrown away, so it has nothing to tidy up."""
        self._process.kill()
        self._process.wait()

    def terminate(self, timeout: float = 10.0) -> int:
        """SIGTERM; its exit status when it has tidied up and ended. Raises TimeoutError, with the end of its log."""
        self._process.terminate()
        return self.wait(timeout)


def started(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    answers: Callable[[], bool],
    timeout: float,
) -> LoggedProcess:
    """A LoggedProcess once `answers()` is true. Raises TimeoutError as its `wait_until`; then it is gone."""
    process = LoggedProcess(command, log, environment)
    try:
        process.wait_until(answers, timeout, "answering")
    except BaseException:
        process.kill()
        raise
    return process
