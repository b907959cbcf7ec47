"""A real mail server of a test's own: started from a root folder in the cache, with its mail, queue and log in a temporary folder.

Contract: from `with` to the end of its block the server runs in mount and pid namespaces of its own, in the machine's network or in a
`NetworkNamespace`. Any number run side by side. It delivers mail for `domain` to mailboxes that the test can read. All its processes end
with the block, and with the test run however that ends.

The root folder is mounted read-only; what the server writes to are copies. A shell is the first process in the pid namespace, not
the server: the kernel drops a process's parent-death signal when it changes its user, as mail servers do, and then nothing would end it.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from harness.mailbox import read_mailbox
from harness.netns import DIES_WITH_US, NetworkNamespace, require_namespaces
from harness.polling import poll
from harness.postfix_configuration import free_port, join_address, split_address

START_TIMEOUT = 10.0
"""Seconds from start until it listens; 0.2 is usual, several on a busy machine."""

WAIT_TIMEOUT = 10.0
"""Seconds to wait for a mail or a log line unless the test says otherwise; both take well under one."""

_STOP_TIMEOUT = 10.0


class MailServer(ABC):
    """One server. Inside its `with` block it runs, until `stop`.

    root      -- the folder made by `debian_root`
    listen    -- `HOST:PORT` (`[::1]:PORT`); port 0 is any free one
    network   -- where it listens; the machine's own network if None
    """

    NAME: ClassVar[str]
    """Of its main process, as the kernel shows it."""
    OWN: ClassVar[Mapping[str, str]]
    """What it writes to and what configures it, relative: name in `directory` -> folder in the root. `mail` is not among them."""
    STARTED: ClassVar[str]
    """A regular expression of the log line that says that it listens."""
    LOG: ClassVar[str]
    """Its log, a file in `directory`."""
    MAIL_UID: ClassVar[int] = 5000
    """Owner of the mailboxes, whom a root folder need not know."""

    def __init__(
        self, root: Path, *, listen: str, hostname: str, domain: str, network: NetworkNamespace | None
    ) -> None:
        self.root = root
        self.hostname = hostname
        self.domain = domain
        self._listen = split_address(listen)
        self._network = network
        self._directory: Path | None = None
        self._unshare: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _write_configuration(self) -> None:
        """All its files, in `directory`; its port is known."""

    @abstractmethod
    def _start_lines(self) -> Sequence[str]:
        """Of a shell in `directory`, outside the root folder, which is mounted at `root`: the last starts the server in the foreground."""

    def __enter__(self) -> Self:
        require_namespaces()
        self._directory = Path(tempfile.mkdtemp(prefix=f"postwarden-{type(self).__name__.lower()}-"))
        try:
            self._lay_out()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def host(self) -> str:
        """The address it listens on, without brackets."""
        return self._listen[0]

    @property
    def port(self) -> int:
        """The port it listens on: the same after a restart."""
        return self._listen[1]

    @property
    def address(self) -> str:
        """`HOST:PORT`, as other programs' options want it."""
        return join_address(*self._listen)

    @property
    def directory(self) -> Path:
        """Where its configuration, queue, log and mail are. Raises RuntimeError outside the `with` block."""
        if self._directory is None:
            raise RuntimeError(f"{self._title} is used outside its `with` block")
        return self._directory

    def start(self) -> None:
        """Start it again after `stop`; its mail, queue and port are as before. Raises RuntimeError with its log if it fails."""
        before = len(self.log())
        command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        command += ["sh", str(self.directory / "start.sh")]
        if self._network is not None:
            command = self._network.command(command)
        with (self.directory / "output").open("ab") as output:
            self._unshare = subprocess.Popen(
                [*DIES_WITH_US, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            poll(
                lambda: self._has_started(before),
                START_TIMEOUT,
                lambda: f"{self._title} did not start:\n{self._account()}",
            )
        except BaseException:
            self._kill()
            raise

    def stop(self) -> None:
        """Stop it as an administrator would: it ends at once, open sessions are cut. Does nothing if it is stopped."""
        if self._unshare is None:
            return
        os.kill(self._main_pid(), signal.SIGTERM)
        try:
            self._unshare.wait(_STOP_TIMEOUT)
        finally:
            self._kill()

    def restart(self) -> None:
        """`stop`, then `start`."""
        self.stop()
        self.start()

    def run(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Run one of its commands (`postqueue -p`, `exim4 -qff`) in its root and give its output.

        Raises RuntimeError with what the command said if its exit status is not 0.
        """
        inside = ["nsenter", f"--target={self._main_pid()}", "--mount", "--pid", "--net", "--root", "--wd"]
        done = subprocess.run(
            [*inside, "--", *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def mailbox(self, user: str) -> list[EmailMessage]:
        """The mails delivered to `user` at `domain`, the oldest first."""
        return read_mailbox(self.directory / "mail/all", f"{user}@{self.domain}")

    def wait_for_mail(self, user: str, count: int = 1, timeout: float = WAIT_TIMEOUT) -> list[EmailMessage]:
        """`mailbox(user)` as soon as it has `count` mails. Raises TimeoutError with the log after `timeout` seconds."""

        def mails() -> list[EmailMessage] | None:
            found = self.mailbox(user)
            return found if len(found) >= count else None

        return poll(
            mails,
            timeout,
            lambda: f"fewer than {count} mails for {user}; {self._title}:\n{self._account()}",
        )

    def log(self) -> list[str]:
        """The lines of its log so far, over all starts."""
        try:
            text = (self.directory / self.LOG).read_text(errors="backslashreplace")
        except FileNotFoundError:
            return []
        # A last line without its end is still being written.
        return text.split("\n")[:-1]

    def wait_for_log(self, pattern: str, timeout: float = WAIT_TIMEOUT) -> str:
        """The first log line in which the regular expression is found. Raises TimeoutError with the log after `timeout` seconds."""
        return self._wait_for_line(pattern, timeout, 0)

    def _wait_for_line(self, pattern: str, timeout: float, first: int) -> str:
        def line() -> str | None:
            return next((line for line in self.log()[first:] if re.search(pattern, line)), None)

        return poll(line, timeout, lambda: f"no log line with {pattern!r}; {self._title}:\n{self._account()}")

    @property
    def _title(self) -> str:
        return type(self).__name__

    def _account(self) -> str:
        """What it has logged and printed, for an error's message."""
        output = (self.directory / "output").read_text(errors="backslashreplace")
        return "\n".join([*self.log()[-40:], output])

    def _has_started(self, before: int) -> bool:
        assert self._unshare is not None
        if self._unshare.poll() is not None:
            raise RuntimeError(f"{self._title} ended at its start:\n{self._account()}")
        return any(re.search(self.STARTED, line) for line in self.log()[before:])

    def _lay_out(self) -> None:
        directory = self.directory
        directory.chmod(0o755)
        for name in ("root", "mail", "mail/all"):
            (directory / name).mkdir()
        os.chown(directory / "mail/all", self.MAIL_UID, self.MAIL_UID)
        # cp keeps the owners, on which mail servers insist.
        for name, source in self.OWN.items():
            subprocess.run(["cp", "-a", str(self.root / source), str(directory / name)], check=True)
        if self.port == 0:
            self._listen = (self.host, free_port(self.host, self._network))
        self._write_configuration()
        (directory / "start.sh").write_text(self._start_script())

    def _start_script(self) -> str:
        lines = [
            "set -eu",
            f"cd '{self.directory}'",
            f"mount -o bind,ro '{self.root}' root",
            "mount -t proc proc root/proc",
        ]
        for source, target in {**self.OWN, "mail": "var/mail"}.items():
            lines.append(f"mount --bind {source} root/{target}")
        lines += [f"mount -t tmpfs tmpfs root/{target}" for target in ("run", "tmp", "dev")]
        for device in ("null", "random", "urandom", "zero"):
            lines += [f": >root/dev/{device}", f"mount --bind /dev/{device} root/dev/{device}"]
        *before, server = self._start_lines()
        return "\n".join([*lines, *before, f"{server} &", "wait $!"]) + "\n"

    def _main_pid(self) -> int:
        """The machine's pid of the process that started all others."""
        return self._processes(self.NAME)[0]

    def _processes(self, name: str) -> list[int]:
        """The machine's pids of its processes of that name, parents first. Raises RuntimeError if it is stopped."""
        if self._unshare is None:
            raise RuntimeError(f"{self._title} is stopped")
        found, parents = [], [self._unshare.pid]
        for parent in parents:
            try:
                parents += _children(parent)
                if Path(f"/proc/{parent}/comm").read_text() == f"{name}\n":
                    found.append(parent)
            except (FileNotFoundError, ProcessLookupError):
                # It has just ended.
                continue
        return found

    def _kill(self) -> None:
        if self._unshare is None:
            return
        if self._unshare.poll() is None:
            try:
                # The first process of a pid namespace is gone only when all others in it are; unshare waits for it.
                (shell,) = _children(self._unshare.pid)
                os.kill(shell, signal.SIGKILL)
            except (ValueError, OSError):
                # Nothing was forked yet, or it has just ended.
                self._unshare.kill()
        self._unshare.wait(_STOP_TIMEOUT)
        self._unshare = None

    def _remove(self) -> None:
        self._kill()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
