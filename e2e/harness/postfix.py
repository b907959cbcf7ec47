"""A real Postfix of a test's own: started from a root folder in the cache, with its mail, queue and log in a temporary folder.

Contract: from `with` to the end of its block the server runs in mount and pid namespaces of its own, in the machine's network or in a
`NetworkNamespace`. Any number run side by side. It delivers mail for `domain` to mailboxes that the test can read, keeps
all other mail it accepts in its queue, and asks no name server. All its processes end with the block, and with the
test run however that ends.

The root folder is mounted read-only; what Postfix writes to are copies. A shell is the first process in the pid namespace, not
Postfix's master: the kernel drops a process's parent-death signal when it changes its user, as master does, and then nothing would end it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.milter import Milter
from harness.netns import DIES_WITH_US, NetworkNamespace, require_namespaces
from harness.polling import poll
from harness.postfix_configuration import (
    Handoff,
    free_port,
    join_address,
    main_cf,
    master_cf,
    recipient_table,
    split_address,
)
from harness.postfix_mailbox import read_mailbox

START_TIMEOUT = 10.0
"""Seconds from start to `daemon started`; 0.2 is usual, several on a busy machine."""

WAIT_TIMEOUT = 10.0
"""Seconds to wait for a mail or a log line unless the test says otherwise; both take well under one."""

COOLED_DOWN = 10.0
"""Seconds since a configuration file was changed, as Postfix is told; it takes a younger file for unfinished."""

_STOP_TIMEOUT = 10.0

_IDLE_END_TIMEOUT = 0.5

_MAIL_UID = 5000
"""Owner of the mailboxes. Any that the folder gives to nobody will do; virtual(8) refuses those below 100."""


class Postfix:
    """One Postfix. Inside its `with` block it runs, until `stop`.

    root      -- the folder made by `debian_root`
    listen    -- `HOST:PORT` (`[::1]:PORT`); port 0 is any free one. Not used with the hand-off `pass`
    handoff   -- what smtpd expects of whoever connects: `plain` SMTP, a PROXY header (`proxy`), or connections passed as
                 descriptors to the UNIX socket `pass_socket` (`pass`)
    mynetworks -- clients that may relay. None by default; ("127.0.0.0/8",) makes an open relay of a Postfix behind a sidecar
    users     -- the local parts that exist at `domain`; None: all
    settings  -- main.cf parameters that are added or replaced
    milters   -- asked in this order about every client
    services  -- further lines of master.cf
    network   -- where it listens; the machine's own network if None
    """

    def __init__(
        self,
        root: Path,
        *,
        listen: str = "127.0.0.1:0",
        handoff: Handoff = "plain",
        hostname: str = "mail.example.com",
        domain: str = "example.org",
        mynetworks: Sequence[str] = (),
        users: Sequence[str] | None = None,
        settings: Mapping[str, str] | None = None,
        milters: Sequence[Milter] = (),
        services: Sequence[str] = (),
        network: NetworkNamespace | None = None,
    ) -> None:
        self.root = root
        self.handoff: Handoff = handoff
        self.hostname = hostname
        self.domain = domain
        self._listen = split_address(listen)
        self._mynetworks = mynetworks
        self._users = users
        self._settings = dict(settings or {})
        self._milters = milters
        self._services = services
        self._network = network
        self._directory: Path | None = None
        self._unshare: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        require_namespaces()
        self._directory = Path(tempfile.mkdtemp(prefix="postwarden-postfix-"))
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
        """The address smtpd listens on, without brackets."""
        return self._listen[0]

    @property
    def port(self) -> int:
        """The port smtpd listens on: the same after a restart."""
        return self._listen[1]

    @property
    def address(self) -> str:
        """`HOST:PORT`, as other programs' options want it."""
        return join_address(*self._listen)

    @property
    def pass_socket(self) -> Path:
        """smtpd's socket for passed descriptors, reachable from the machine by root (hand-off `pass`)."""
        return self.directory / "spool/public/smtpd"

    @property
    def directory(self) -> Path:
        """Where its configuration, queue, log and mail are. Raises RuntimeError outside the `with` block."""
        if self._directory is None:
            raise RuntimeError("a Postfix is used outside its `with` block")
        return self._directory

    def start(self) -> None:
        """Start it again after `stop`; its mail, queue and port are as before. Raises RuntimeError with its log if it fails."""
        before = len(self.log())
        # Without this file the start-up script checks the whole installation, which takes seconds.
        (self.directory / "spool/quick-start").touch()
        script = self.directory / "start.sh"
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            str(script),
        ]
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
                lambda: f"Postfix did not start:\n{self._account()}",
            )
        except BaseException:
            self._kill()
            raise

    def stop(self) -> None:
        """Stop it as an administrator would: it ends at once, open sessions are cut. Does nothing if it is stopped."""
        if self._unshare is None:
            return
        os.kill(self._master_pid(), signal.SIGTERM)
        try:
            self._unshare.wait(_STOP_TIMEOUT)
        finally:
            self._kill()

    def restart(self) -> None:
        """`stop`, then `start`."""
        self.stop()
        self.start()

    def reload(self, settings: Mapping[str, str] | None = None) -> None:
        """Put `settings` into main.cf, in addition to earlier ones, and have Postfix read its configuration again.

        Processes that serve a client go on with the old one.
        """
        self._settings |= settings or {}
        self._write_configuration()
        before = len(self.log())
        old = set(self._processes("smtpd"))
        self.run(["postfix", "reload"])
        self._wait_for_line(r"master\[\d+\]: reload ", WAIT_TIMEOUT, before)
        # An idle smtpd of before could still take the next client; it ends within milliseconds.
        with suppress(TimeoutError):
            poll(lambda: old.isdisjoint(self._processes("smtpd")), _IDLE_END_TIMEOUT, lambda: "")

    def run(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Run one of its commands (`postqueue -p`, `postconf -n`) in its root and give its output.

        Raises RuntimeError with what the command said if its exit status is not 0.
        """
        inside = [
            "nsenter",
            f"--target={self._master_pid()}",
            "--mount",
            "--pid",
            "--net",
            "--root",
            "--wd",
            "--",
        ]
        done = subprocess.run(
            [*inside, *argv], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def queue(self) -> list[dict[str, Any]]:
        """What is in its queue, as `postqueue -j` says it: queue_name, queue_id, sender, recipients, …

        Mail on its way to a mailbox is here for a moment; mail for other domains and bounces stay here.
        """
        return [json.loads(line) for line in self.run(["postqueue", "-j"]).splitlines()]

    def mailbox(self, user: str) -> list[EmailMessage]:
        """The mails delivered to `user` at `domain`, the oldest first."""
        return read_mailbox(self.directory / "mail/all", f"{user}@{self.domain}")

    def wait_for_mail(self, user: str, count: int = 1, timeout: float = WAIT_TIMEOUT) -> list[EmailMessage]:
        """`mailbox(user)` as soon as it has `count` mails. Raises TimeoutError with Postfix's log after `timeout` seconds."""

        def mails() -> list[EmailMessage] | None:
            found = self.mailbox(user)
            return found if len(found) >= count else None

        return poll(
            mails, timeout, lambda: f"fewer than {count} mails for {user}; Postfix:\n{self._account()}"
        )

    def log(self) -> list[str]:
        """The lines of its log so far, over all starts."""
        try:
            text = (self.directory / "log/mail.log").read_text(errors="backslashreplace")
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

        return poll(line, timeout, lambda: f"no log line with {pattern!r}; Postfix:\n{self._account()}")

    def _account(self) -> str:
        """What it has logged and printed, for an error's message."""
        output = (self.directory / "output").read_text(errors="backslashreplace")
        return "\n".join([*self.log()[-40:], output])

    def _has_started(self, before: int) -> bool:
        assert self._unshare is not None
        if self._unshare.poll() is not None:
            raise RuntimeError(f"Postfix ended at its start:\n{self._account()}")
        # master says so when it listens on all its sockets.
        return any("daemon started" in line for line in self.log()[before:])

    def _lay_out(self) -> None:
        directory = self.directory
        directory.chmod(0o755)
        for name in ("root", "log", "mail", "mail/all"):
            (directory / name).mkdir()
        os.chown(directory / "mail/all", _MAIL_UID, _MAIL_UID)
        # cp keeps the owners, on which Postfix insists.
        for name, source in (
            ("spool", "var/spool/postfix"),
            ("data", "var/lib/postfix"),
            ("etc", "etc/postfix"),
        ):
            subprocess.run(["cp", "-a", str(self.root / source), str(directory / name)], check=True)
        if self.port == 0 and self.handoff != "pass":
            self._listen = (self.host, free_port(self.host, self._network))
        self._write_configuration()
        (directory / "start.sh").write_text(self._start_script())

    def _write_configuration(self) -> None:
        settings = main_cf(
            hostname=self.hostname, domain=self.domain, mynetworks=self._mynetworks, mail_uid=_MAIL_UID
        )
        if self._milters:
            sockets = (
                f"unix:{_milter_folder(i)}/{milter.path.name}" for i, milter in enumerate(self._milters)
            )
            settings["smtpd_milters"] = " ".join(sockets)
        settings |= self._settings
        etc = self.directory / "etc"
        texts = {
            "main.cf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
            "master.cf": master_cf(self.handoff, *self._listen) + "".join(f"{x}\n" for x in self._services),
            "recipients": recipient_table(self.domain, self._users),
        }
        for name, text in texts.items():
            (etc / name).write_text(text)
            # Postfix waits for seconds until a file that was just written "cools down".
            os.utime(etc / name, (time.time() - COOLED_DOWN, time.time() - COOLED_DOWN))

    def _start_script(self) -> str:
        own = {
            "spool": "var/spool/postfix",
            "data": "var/lib/postfix",
            "etc": "etc/postfix",
            "log": "var/log",
        }
        own["mail"] = "var/mail"
        lines = [
            "set -eu",
            f"cd '{self.directory}'",
            f"mount -o bind,ro '{self.root}' root",
            "mount -t proc proc root/proc",
        ]
        lines += [f"mount --bind {source} root/{target}" for source, target in own.items()]
        lines += [f"mount -t tmpfs tmpfs root/{target}" for target in ("run", "tmp", "dev")]
        for device in ("null", "random", "urandom", "zero"):
            lines += [f": >root/dev/{device}", f"mount --bind /dev/{device} root/dev/{device}"]
        for i, milter in enumerate(self._milters):
            folder = f"root{_milter_folder(i)}"
            lines += [f"mkdir -p {folder}", f"mount --bind '{milter.path.parent}' {folder}"]
        # A parameter that Postfix refuses is told to syslog by its start-up program, and on stderr by this one.
        lines += ["chroot root /usr/sbin/postmap -q any static:value >/dev/null"]
        lines += ["chroot root /usr/sbin/postfix start-fg &", "wait $!"]
        return "\n".join(lines) + "\n"

    def _master_pid(self) -> int:
        """The machine's pid of master."""
        (master,) = self._processes("master")
        return master

    def _processes(self, name: str) -> list[int]:
        """The machine's pids of its processes of that name (`master`, `smtpd`). Raises RuntimeError if it is stopped."""
        if self._unshare is None:
            raise RuntimeError("Postfix is stopped")
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


def _milter_folder(index: int) -> str:
    return f"/run/milter{index}"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
